import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR, TEST_DEVICE } from "../helpers/devices.js";
import { liveTensors } from "../helpers/memory.js";

const { Fabric } = mp;

/** Multiplies; a layer whose numbers are known. */
class Times extends mp.nn.Module {
  constructor(private readonly factor: number) {
    super();
  }
  override forward(x: mp.Tensor): mp.Tensor {
    return mp.mul(x, this.factor);
  }
}

/** Layers one after the other. */
class Chain extends mp.nn.Module {
  readonly first: mp.nn.Module;
  readonly second: mp.nn.Module;
  constructor(first: mp.nn.Module, second: mp.nn.Module) {
    super();
    this.first = first;
    this.second = second;
  }
  override forward(x: mp.Tensor): mp.Tensor {
    return this.second.forward(this.first.forward(x)) as mp.Tensor;
  }
}

const fabricOf = (precision: mp.PrecisionInput): mp.Fabric =>
  new Fabric({ precision, accelerator: TEST_ACCELERATOR, devices: 1 });

function half(data: number[], requiresGrad = true): mp.Tensor {
  return mp.tensor(data, { dtype: "float16", device: TEST_DEVICE, requiresGrad });
}

function makeClassifier(): mp.DistilBertForSequenceClassification {
  mp.manualSeed(3);
  return new mp.DistilBertForSequenceClassification({
    vocabSize: 11,
    maxPositionEmbeddings: 6,
    dim: 32,
    nLayers: 2,
    initializerRange: 0.3,
    nHeads: 2,
    hiddenDim: 64,
    dropout: 0,
    attentionDropout: 0,
    seqClassifDropout: 0,
    numLabels: 2,
  });
}

function stepOf(model: mp.DistilBertForSequenceClassification): mp.ClassificationOutput {
  const options = { dtype: "int32", device: TEST_DEVICE } as const;
  const rows = [
    [1, 2, 3, 4],
    [5, 6, 7, 0],
  ];
  return model.forward(mp.tensor(rows, options), { labels: mp.tensor([0, 1], options) });
}

describe("fabric.watch", () => {
  it("counts what float16 does not hold, in activations and gradients", async () => {
    const fabric = fabricOf("32-true");
    const model = new Chain(new Times(2), new Times(0.5));
    const watch = fabric.watch(model);
    const x = half([40_000, -3, 0, 2 ** -20, -NaN, 8, 0, 1]);
    const y = model.forward(x);
    y.backward(half([1, 2 ** -24, 0, -5, 2 ** -16, 0, 0, 1], false));
    const report = await watch.report();
    const [first, second] = report.layers;
    expect(report.layers.map(({ name, kind }) => [name, kind])).toEqual([
      ["first", "Times"],
      ["second", "Times"],
    ]);
    expect(first!.activations).toEqual({
      dtype: "float16",
      tensors: 1,
      elements: 8,
      largest: 16,
      overflow: 2 / 8,
      underflow: 2 / 8,
      subnormal: 1 / 8,
      zeros: 2 / 8,
    });
    expect(second!.gradients).toMatchObject({ largest: 5, subnormal: 2 / 8, zeros: 3 / 8 });
    // Half of 2^-24, the smallest number, is rounded to 0.
    expect(first!.gradients).toMatchObject({ largest: 2.5, zeros: 4 / 8, underflow: 4 / 8 });
    expect(report.firstOverflow).toEqual({ layer: "first", in: "activations" });
    watch.stop();
  });

  it("does not take the zeros of a ReLU for underflow", async () => {
    const model = new Chain(new Times(1), new mp.nn.ReLU());
    const watch = fabricOf("32-true").watch(model);
    mp.sum(model.forward(half([-1, -2, 3, 4]))).backward();
    const { layers, findings } = await watch.report();
    expect(layers[1]!.activations).toMatchObject({ zeros: 0.5, underflow: 0 });
    expect(layers[0]!.gradients).toMatchObject({ zeros: 0.5, underflow: 0 });
    expect(findings).toEqual([]);
    expect(await watch.summary()).toMatch(/^layer +activations.*\nfirst .*\nsecond [^]*No trouble/);
    watch.stop();
  });

  it("adds up over steps, looks at some of them only, and forgets", async () => {
    const model = new Chain(new Times(1), new Times(1));
    const fabric = fabricOf("32-true");
    const run = (value: number): void => {
      mp.sum(model.forward(half([value, 1]))).backward();
    };
    const tensors = async (watch: mp.Watch) => {
      const { layers } = await watch.report();
      return layers.map(({ activations, gradients }) => [activations!.tensors, gradients!.tensors]);
    };
    const all = fabric.watch(model);
    for (const value of [3, 9, 2]) run(value);
    expect(await tensors(all)).toEqual([
      [3, 3],
      [3, 3],
    ]);
    expect((await all.report()).layers[0]!.activations!.largest).toBe(9);
    all.reset();
    expect(await all.report()).toMatchObject({ layers: [], findings: [], firstOverflow: null });
    expect(await all.summary()).toBe("Nothing was seen yet.");
    run(4);
    expect((await all.report()).layers[0]!.activations).toMatchObject({ elements: 2, largest: 4 });
    all.stop();
    const some = fabric.watch(model, { every: 2 });
    for (const value of [3, 9, 2]) run(value);
    expect(await tensors(some)).toEqual([
      [2, 2],
      [2, 2],
    ]);
    expect((await some.report()).layers[0]!.activations!.largest).toBe(3);
    some.stop();
  });

  it("names the layer that left float16 first, and says what to do", async () => {
    const fabric = fabricOf("16-mixed");
    const model = fabric.setup(new Chain(new mp.nn.Linear(2, 2), new mp.nn.Linear(2, 2)));
    mp.noGrad(() => mp.fill((model.first as mp.nn.Linear).weight, 300));
    const watch = fabric.watch(model);
    const x = mp.full([1, 2], 300, { device: TEST_DEVICE });
    fabric.backward(mp.sum(model.forward(x)));
    const { firstOverflow, findings } = await watch.report();
    expect(firstOverflow).toEqual({ layer: "first", in: "activations" });
    expect(findings[0]).toMatch(
      /^activations of first left float16 first: 100\.0 % .* of at most 6\.6e\+4\. Use bf16-mixed/,
    );
    expect(findings[0]).toContain(
      'float32: autocast({ enabled: false }, () => layer.forward(x.to("float32"))). Loss scaling',
    );
    expect(await watch.summary()).toContain(`- ${findings[0]!}.`);
    watch.stop();
  });

  it("says that a loss scale was too large, or that gradients want one", async () => {
    const scaled = fabricOf("16-mixed");
    const model = scaled.setup(new Chain(new mp.nn.Linear(2, 2), new mp.nn.Linear(2, 2)));
    const watch = scaled.watch(model);
    const x = mp.ones([1, 2], { device: TEST_DEVICE });
    scaled.backward(mp.mul(mp.sum(model.forward(x)), 2));
    const tooLarge = await watch.report();
    expect(tooLarge.firstOverflow).toEqual({ layer: "second", in: "gradients" });
    expect(tooLarge.findings[0]).toMatch(/The loss scale was too large/);
    watch.stop();

    const pure = fabricOf("16-true");
    const chain = new Chain(new Times(2 ** -3), new Times(1));
    const unscaled = pure.watch(chain);
    chain.forward(half([1, 1, 1])).backward(half([2 ** -24, 2 ** -17, 1], false));
    // What arrives at the model's input belongs to no layer; one more layer in front sees it.
    expect((await unscaled.report()).findings).toEqual([]);
    unscaled.stop();
    const longer = new Chain(new Times(1), chain);
    const deeper = pure.watch(longer);
    longer.forward(half([1, 1, 1])).backward(half([2 ** -24, 2 ** -17, 1], false));
    expect((await deeper.report()).findings).toEqual([
      "up to 33.3 % of the gradients underflowed to 0 in float16, in first. Scale the loss, as " +
        "16-mixed does, or use bf16-true or bf16-mixed",
    ]);
    deeper.stop();
  });

  it("warns before float16 overflows, in float16 and in wider formats", async () => {
    for (const [dtype, wanted] of [
      ["float16", /^activations of first are near overflow: 2\.0e\+4, float16 ends at 6\.6e\+4/],
      ["bfloat16", /^activations of second would overflow in float16: 2\.0e\+5.* Stay with bf16-t/],
    ] as const) {
      const half16 = dtype === "float16";
      const model = new Chain(new Times(1), new Times(half16 ? 0.25 : 10));
      const watch = fabricOf(half16 ? "16-true" : "bf16-true").watch(model);
      model.forward(mp.full([2], 20_000, { dtype, device: TEST_DEVICE }));
      expect((await watch.report()).findings[0]).toMatch(wanted);
      watch.stop();
    }
  });

  it.each(["32-true", "bf16-mixed", "bf16-true"] as const)(
    "leaves the results of %s as they are, bit by bit, and the model when it stops",
    async (precision) => {
      const fabric = fabricOf(precision);
      const model = fabric.setup(makeClassifier());
      const before = stepOf(model).logits.toArray();
      const watch = fabric.watch(model);
      const { logits, loss } = stepOf(model);
      expect(logits.toArray()).toEqual(before);
      fabric.backward(loss!);
      const { layers, findings } = await watch.report();
      const names = layers.map(({ name }) => name);
      expect(names).toContain("distilbert.transformer.layer.0.ffn.lin1");
      expect(names).toContain("classifier");
      const lin1 = layers.find(({ name }) => name.endsWith("ffn.lin1"))!;
      expect(lin1.gradients!.dtype).toBe(precision === "32-true" ? "float32" : "bfloat16");
      expect(findings).toEqual([]);
      const watchedGrads = model.parameters().map(({ grad }) => grad!.toArray());
      watch.stop();
      for (const module of model.modules()) expect(Object.hasOwn(module, "forward")).toBe(false);
      model.zeroGrad();
      fabric.backward(stepOf(model).loss!);
      if (precision === "32-true") {
        const plain = model.parameters().map(({ grad }) => grad!.toArray());
        const flat = (all: unknown): number[] => [all].flat(9) as number[];
        const got = flat(watchedGrads);
        flat(plain).forEach((value, i) => expect(got[i]).toBeCloseTo(value, 6));
      }
    },
  );

  it("keeps no more memory over steps, and none after stop", async () => {
    const model = makeClassifier().to({ device: TEST_DEVICE });
    const step = (): void => mp.tidy(() => stepOf(model).loss!.backward());
    step();
    const before = await liveTensors();
    const watch = fabricOf("32-true").watch(model);
    step();
    const once = await liveTensors();
    for (let i = 0; i < 3; i++) step();
    expect(await liveTensors()).toBe(once);
    await watch.report();
    watch.stop();
    watch.stop();
    expect(await liveTensors()).toBe(before);
    await expect(watch.report()).rejects.toThrow(mp.DisposedError);
    expect(() => watch.reset()).toThrow(mp.DisposedError);
  });

  it("watches a model of one layer, also after setup", async () => {
    const fabric = fabricOf("32-true");
    const model = fabric.setup(new mp.nn.Linear(2, 1));
    const watch = fabric.watch(model);
    fabric.backward(mp.sum(model.forward(mp.ones([1, 2], { device: TEST_DEVICE }))));
    const { layers } = await watch.report();
    expect(layers).toMatchObject([{ name: "", kind: "Linear", gradients: { largest: 1 } }]);
    expect(mp.formatWatchReport(await watch.report())).toMatch(/\nLinear +float32/);
    watch.stop();
    expect(model.forward(mp.ones([1, 2], { device: TEST_DEVICE })).shape).toEqual([1, 1]);
  });

  it("refuses what it cannot watch", () => {
    const fabric = fabricOf("32-true");
    expect(() => fabric.watch({} as mp.nn.Module)).toThrow(/^watch: expected a Module, got object/);
    const model = new Chain(new Times(1), new Times(1));
    expect(() => fabric.watch(model, { every: 0 })).toThrow(/every — expected a whole number/);
    expect(() => fabric.watch(model, { often: 1 } as object)).toThrow(/no option "often"/);
    const watch = fabric.watch(model);
    expect(() => fabric.watch(model)).toThrow(/"first" is watched already/);
    watch.stop();
    fabric.watch(model).stop();
  });
});
