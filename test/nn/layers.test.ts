// What golden.test.ts does not show of the layers: initial weights, arguments, randomness, autocast.
import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";
import { gradcheck } from "../helpers/gradcheck.js";
import { elements } from "../helpers/golden.js";

const { nn } = mp;

function spread(x: mp.Tensor): { min: number; max: number; mean: number; std: number } {
  const values = elements(x);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const square = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
  return { min: Math.min(...values), max: Math.max(...values), mean, std: Math.sqrt(square) };
}

describe("initial weights", () => {
  it("of Linear and Conv2d are uniform within 1 / sqrt(fanIn)", () => {
    mp.manualSeed(1);
    const linear = new nn.Linear(64, 256);
    const conv = new nn.Conv2d(8, 64, [4, 2], { groups: 2 });
    for (const [{ weight, bias }, fanIn] of [
      [linear, 64],
      [conv, 32],
    ] as const) {
      const bound = 1 / Math.sqrt(fanIn);
      const { min, max, std } = spread(weight);
      expect(max).toBeLessThanOrEqual(bound);
      expect(min).toBeGreaterThanOrEqual(-bound);
      expect(max - min).toBeGreaterThan(1.95 * bound);
      expect(std / (bound / Math.sqrt(3))).toBeCloseTo(1, 1);
      expect(spread(bias!).max).toBeLessThanOrEqual(bound);
      expect(spread(bias!).max).toBeGreaterThan(0.8 * bound);
    }
    expect(conv.weight.shape).toEqual([64, 4, 4, 2]);
  });

  it("of Embedding are standard normal, with zeros for the padding", () => {
    mp.manualSeed(2);
    const table = new nn.Embedding(300, 20, { paddingIdx: -2 });
    expect(table.paddingIdx).toBe(298);
    expect(elements(mp.select(table.weight, 0, 298))).toEqual(new Array(20).fill(0));
    const { mean, std } = spread(table.weight);
    expect(mean).toBeCloseTo(0, 1);
    expect(std).toBeCloseTo(1, 1);
  });

  it("of attention are Glorot's for the inputs, and zero biases", () => {
    mp.manualSeed(3);
    const attention = new nn.MultiheadAttention(32, 4);
    const { max } = spread(attention.in_proj_weight!);
    const bound = Math.sqrt(6 / (32 + 96));
    expect(max).toBeLessThanOrEqual(bound);
    expect(max).toBeGreaterThan(0.98 * bound);
    expect(spread(attention.in_proj_bias!)).toMatchObject({ min: 0, max: 0 });
    expect(spread(attention.out_proj.bias!)).toMatchObject({ min: 0, max: 0 });
  });

  it("are the same for the same seed, and drawn anew by resetParameters", () => {
    const draw = (): number[] => {
      mp.manualSeed(7);
      return elements(new nn.Linear(5, 5).weight);
    };
    const first = draw();
    expect(draw()).toEqual(first);
    const layer = new nn.Linear(5, 5);
    layer.resetParameters();
    expect(elements(layer.weight)).not.toEqual(first);
  });

  it("have the dtype that is asked for", () => {
    const options = { dtype: "float16", device: TEST_DEVICE } as const;
    const modules = [
      new nn.Linear(2, 3, options),
      new nn.Embedding(3, 2, options),
      new nn.LayerNorm(2, options),
      new nn.RMSNorm(2, options),
      new nn.Conv2d(1, 1, 1, options),
      new nn.BatchNorm1d(2, options),
      new nn.MultiheadAttention(2, 1, options),
      new nn.TransformerEncoderLayer(2, 1, options),
    ];
    for (const module of modules) {
      expect(module.parameters().every(({ dtype }) => dtype === "float16")).toBe(true);
      expect(() => module.to("cuda:7")).toThrow(mp.DeviceError);
    }
    expect(() => new nn.Linear(1, 1, { device: "cuda:7" })).toThrow(mp.DeviceError);
    expect(() => new nn.Linear(1, 1, { dtype: "int8" })).toThrow(mp.GradError);
  });
});

describe("Linear", () => {
  it("takes layers without inputs or outputs", () => {
    expect(elements(new nn.Linear(0, 2).forward(mp.zeros([1, 0])))).toEqual([0, 0]);
    expect(new nn.Linear(2, 0).forward(mp.zeros([3, 2])).shape).toEqual([3, 0]);
  });

  it("names features that do not fit", () => {
    expect(() => new nn.Linear(3, 2).forward(mp.zeros([4, 5]))).toThrow(mp.ShapeError);
  });
});

describe("Embedding", () => {
  it("over given vectors shares them, frozen unless told otherwise", () => {
    const vectors = mp.tensor([
      [1, 2],
      [3, 4],
    ]);
    const frozen = nn.Embedding.fromPretrained(vectors, { paddingIdx: 0 });
    expect([frozen.numEmbeddings, frozen.embeddingDim, frozen.paddingIdx]).toEqual([2, 2, 0]);
    expect(frozen.weight.requiresGrad).toBe(false);
    const ids = mp.tensor([1, 0], { dtype: "int32" });
    expect(elements(frozen.forward(ids))).toEqual([3, 4, 1, 2]);
    const trained = nn.Embedding.fromPretrained(vectors, { freeze: false });
    trained.forward(ids).sum().backward();
    expect(elements(trained.weight.grad!)).toEqual([1, 1, 1, 1]);
    expect(() => nn.Embedding.fromPretrained(mp.zeros([3]))).toThrow(mp.ShapeError);
  });
});

describe("RMSNorm", () => {
  it("scales to mean square 1, with eps of the dtype or a given one", () => {
    const x = mp.tensor([[3, -4]], { dtype: "float64" });
    const norm = new nn.RMSNorm(2, { dtype: "float64" });
    mp.noGrad(() => norm.weight!.copyFrom(mp.tensor([1, 10])));
    const root = Math.sqrt(12.5);
    expect(elements(norm.forward(x))[0]).toBeCloseTo(3 / root, 12);
    expect(elements(norm.forward(x))[1]).toBeCloseTo(-40 / root, 12);
    const wide = new nn.RMSNorm([2], { eps: 12.5, elementwiseAffine: false, dtype: "float64" });
    expect(wide.parameters()).toEqual([]);
    expect(elements(wide.forward(x))[0]).toBeCloseTo(3 / 5, 12);
    gradcheck((input) => norm.forward(input), [mp.randn([3, 2], { dtype: "float64" })]);
  });
});

describe("Dropout", () => {
  it("drops in training, and repeats with the seed", () => {
    const layer = new nn.Dropout(0.25);
    const run = (): number[] => {
      mp.manualSeed(4);
      return elements(layer.forward(mp.ones([1000])));
    };
    const first = run();
    expect(run()).toEqual(first);
    expect(new Set(first)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    const kept = first.filter((value) => value > 0).length / 1000;
    expect(kept).toBeGreaterThan(0.7);
    expect(kept).toBeLessThan(0.8);
    expect([new nn.Dropout().p, new nn.Dropout({ p: 0.1 }).p]).toEqual([0.5, 0.1]);
  });
});

describe("BatchNorm", () => {
  it("keeps 16-bit dtypes, and normalizes in float32", () => {
    const norm = new nn.BatchNorm1d(2);
    const values = [1000, 1, 1001, 2, 1002, 3];
    const x = mp.fromTypedArray(Float32Array.from(values), [3, 2]);
    const exact = elements(norm.forward(x));
    const narrow = norm.forward(x.to("float16"));
    expect(narrow.dtype).toBe("float16");
    elements(narrow).forEach((value, i) => {
      expect(value).toBeCloseTo(exact[i]!, 2);
    });
  });

  it("wants more than one value in training, and its own shapes", () => {
    const flat = new nn.BatchNorm1d(2);
    expect(() => flat.forward(mp.ones([1, 2]))).toThrow(/more than one value for each feature/);
    expect(elements(flat.eval().forward(mp.ones([1, 2])))).toHaveLength(2);
    expect(() => flat.forward(mp.ones([2, 3]))).toThrow(
      /BatchNorm1d: expected \[N, C\] or \[N, C, L\] with 2 features, got float32 \[2, 3\]/,
    );
    expect(() => new nn.BatchNorm2d(2).forward(mp.ones([2, 2]))).toThrow(mp.ShapeError);
  });

  it("counts nothing where a forward fails", () => {
    const norm = new nn.BatchNorm1d(1);
    expect(() => norm.forward(mp.ones([1, 1]))).toThrow(mp.ShapeError);
    expect(norm.num_batches_tracked!.item()).toBe(0);
    norm.forward(mp.ones([2, 1]));
    expect(norm.num_batches_tracked!.item()).toBe(1);
    norm.resetParameters();
    expect(norm.num_batches_tracked!.item()).toBe(0);
  });
});

describe("MultiheadAttention", () => {
  it("gives the same with and without weights, also causal", () => {
    mp.manualSeed(5);
    const attention = new nn.MultiheadAttention(8, 2, { batchFirst: true });
    const x = mp.randn([2, 5, 8]);
    const keyPaddingMask = mp.tensor([
      [false, false, false, false, true],
      [false, false, false, false, false],
    ]);
    for (const options of [{}, { isCausal: true }, { isCausal: true, keyPaddingMask }]) {
      const [slow, weights] = attention.forward(x, x, x, options);
      const [fast, none] = attention.forward(x, x, x, { ...options, needWeights: false });
      expect(none).toBeNull();
      expect(weights!.shape).toEqual([2, 5, 5]);
      const [a, b] = [elements(slow), elements(fast)];
      a.forEach((value, i) => {
        expect(value).toBeCloseTo(b[i]!, 5);
      });
      elements(mp.sum(weights!, { dim: -1 })).forEach((total) => {
        expect(total).toBeCloseTo(1, 5);
      });
      if (!("isCausal" in options)) continue;
      const above = elements(weights!).filter((_, i) => i % 5 > Math.floor(i / 5) % 5);
      expect(new Set(above)).toEqual(new Set([0]));
    }
  });

  it("drops weights in training", () => {
    mp.manualSeed(6);
    const attention = new nn.MultiheadAttention(4, 1, { dropout: 0.5 });
    const [, weights] = attention.forward(mp.randn([6, 1, 4]));
    expect(elements(weights!).filter((value) => value === 0).length).toBeGreaterThan(5);
    const [, whole] = attention.eval().forward(mp.randn([6, 1, 4]));
    expect(elements(whole!).filter((value) => value === 0)).toEqual([]);
  });

  it("names inputs and masks that do not fit", () => {
    const attention = new nn.MultiheadAttention(4, 2);
    const x = mp.zeros([3, 2, 4]);
    expect(() => attention.forward(mp.zeros([3, 2, 5]))).toThrow(
      /expected \[L, N, E\] or \[L, E\] with widths 4, 4 and 4, got query \[3, 2, 5\]/,
    );
    expect(() => attention.forward(x, mp.zeros([3, 1, 4]))).toThrow(mp.ShapeError);
    expect(() => attention.forward(x, x, mp.zeros([2, 2, 4]))).toThrow(mp.ShapeError);
    const mask = (shape: number[], dtype: mp.DType = "bool") => mp.zeros(shape, { dtype });
    expect(() => attention.forward(x, x, x, { attnMask: mask([3, 4]) })).toThrow(
      /attnMask — expected \[3, 3\] or \[4, 3, 3\], got \[3, 4\]/,
    );
    expect(() => attention.forward(x, x, x, { keyPaddingMask: mask([3, 2]) })).toThrow(
      /keyPaddingMask — expected \[2, 3\], got \[3, 2\]/,
    );
    expect(() => attention.forward(x, x, x, { attnMask: mask([3, 3], "int64") })).toThrow(
      /expected bool or floats, got int64/,
    );
  });
});

describe("TransformerEncoderLayer", () => {
  it("takes a function as its activation, and drops in training only", () => {
    mp.manualSeed(8);
    const layer = new nn.TransformerEncoderLayer(4, 2, {
      dimFeedforward: 8,
      activation: (x) => mp.silu(x),
    });
    const x = mp.randn([3, 2, 4]);
    expect(elements(layer.forward(x))).not.toEqual(elements(layer.forward(x)));
    layer.eval();
    expect(elements(layer.forward(x))).toEqual(elements(layer.forward(x)));
    expect(layer.forward(x).shape).toEqual([3, 2, 4]);
    const wrong = { activation: "tanh" as "relu" };
    expect(() => new nn.TransformerEncoderLayer(4, 2, wrong)).toThrow(mp.ArgumentError);
  });
});

describe("Flatten and Softmax", () => {
  it("take their arguments by position, too", () => {
    const x = mp.randn([2, 3, 2, 2]);
    expect(new nn.Flatten().forward(x).shape).toEqual([2, 12]);
    expect(new nn.Flatten(2).forward(x).shape).toEqual([2, 3, 4]);
    expect(new nn.Flatten(0, 1).forward(x).shape).toEqual([6, 2, 2]);
    expect(new nn.Softmax({ dim: -1 }).dim).toBe(new nn.LogSoftmax(-1).dim);
  });
});

describe("containers", () => {
  const relu = new nn.ReLU();
  const tanh = new nn.Tanh();

  it("ModuleList is a list", () => {
    const list = new nn.ModuleList<mp.nn.Module>([relu]);
    expect(list.append(tanh)).toBe(list);
    list.extend([new nn.Linear(1, 1)]).insert(1, new nn.Linear(2, 2));
    expect(list).toHaveLength(4);
    expect([list[0], list.at(-1)?.constructor.name, list[2]]).toEqual([relu, "Linear", tanh]);
    expect([...list].map((module) => module.constructor.name)).toEqual([
      "ReLU",
      "Linear",
      "Tanh",
      "Linear",
    ]);
    expect(Object.keys(list.stateDict())).toEqual(["1.weight", "1.bias", "3.weight", "3.bias"]);
    list[1] = tanh;
    expect([list.at(1), list[1], list.length]).toEqual([tanh, tanh, 4]);
    expect(Object.keys(list.stateDict())).toEqual(["3.weight", "3.bias"]);
    expect(() => list.append({} as mp.nn.Module)).toThrow(/ModuleList: expected a module/);
    expect(() => (list[0] = 1 as unknown as mp.nn.Module)).toThrow(mp.ArgumentError);
  });

  it("ModuleDict is a dictionary", () => {
    const dict = new nn.ModuleDict<mp.nn.Module>({ b: new nn.Linear(1, 1), a: relu });
    dict.set("get", tanh).update([["c", new nn.Linear(1, 2)]]);
    expect([dict.size, dict.get("a"), dict.has("x"), dict.get("get")]).toEqual([
      4,
      relu,
      false,
      tanh,
    ]);
    expect([...dict.keys()]).toEqual(["b", "a", "get", "c"]);
    expect([...dict].map(([key]) => key)).toEqual([...dict.entries()].map(([key]) => key));
    expect([...dict.values()]).toContain(tanh);
    expect(Object.keys(dict.stateDict())).toEqual(["b.weight", "b.bias", "c.weight", "c.bias"]);
    expect(dict.delete("b")).toBe(true);
    expect(Object.keys(dict.stateDict())).toEqual(["c.weight", "c.bias"]);
    expect(() => dict.set("a.b", relu)).toThrow(mp.ArgumentError);
    expect(() => dict.set("", relu)).toThrow(mp.ArgumentError);
    expect(() => dict.set("x", null as unknown as mp.nn.Module)).toThrow(mp.ArgumentError);
  });

  it("Sequential runs in order, by position or by name", () => {
    const first = new nn.Linear(2, 3);
    const model = new nn.Sequential(first, relu).append(new nn.Linear(3, 1));
    expect([model.length, model.at(0), model.at(-3)]).toEqual([3, first, first]);
    expect(Object.keys(model.stateDict())).toEqual(["0.weight", "0.bias", "2.weight", "2.bias"]);
    const x = mp.randn([4, 2]);
    const last = model.at(2) as mp.nn.Linear;
    const steps = last.forward(mp.relu(first.forward(x)));
    expect(elements(model.forward(x))).toEqual(elements(steps));
    const named = new nn.Sequential({ in: first, act: relu });
    expect(Object.keys(named.stateDict())).toEqual(["in.weight", "in.bias"]);
    expect([...named]).toEqual([first, relu]);
    expect(new nn.Sequential().forward(x)).toBe(x);
    expect(() => new nn.Sequential(relu, 42 as unknown as mp.nn.Module)).toThrow(mp.ArgumentError);
  });
});

describe("autocast", () => {
  it("runs layers in its dtype, norms and losses in float32, with float32 gradients", () => {
    const model = new nn.Sequential(
      new nn.Linear(4, 4),
      new nn.LayerNorm(4),
      new nn.GELU(),
      new nn.Linear(4, 3),
    );
    const dtypes: mp.DType[] = [];
    const loss = mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () => {
      let x: mp.Tensor = mp.randn([2, 4]);
      for (const module of model) {
        x = module.forward(x) as mp.Tensor;
        dtypes.push(x.dtype);
      }
      return new nn.CrossEntropyLoss().forward(x, mp.tensor([0, 2], { dtype: "int64" }));
    });
    expect(dtypes).toEqual(["bfloat16", "float32", "float32", "bfloat16"]);
    expect(loss.dtype).toBe("float32");
    loss.backward();
    expect(model.parameters().every(({ grad }) => grad?.dtype === "float32")).toBe(true);
  });

  it("takes batch norm and attention along", () => {
    const conv = new nn.Conv2d(1, 2, 2);
    const norm = new nn.BatchNorm2d(2);
    const attention = new nn.MultiheadAttention(4, 2);
    mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () => {
      expect(norm.forward(conv.forward(mp.randn([2, 1, 3, 3]))).dtype).toBe("bfloat16");
      const mask = mp.zeros([3, 3]);
      const [out, weights] = attention.forward(mp.randn([3, 1, 4]), undefined, undefined, {
        attnMask: mask,
      });
      expect([out.dtype, weights!.dtype]).toEqual(["bfloat16", "float32"]);
    });
    expect(norm.running_mean!.dtype).toBe("float32");
  });
});

describe("arguments out of range", () => {
  it.each<[string, () => unknown]>([
    ["Linear inFeatures", () => new nn.Linear(-1, 2)],
    ["Linear outFeatures", () => new nn.Linear(2, 1.5)],
    ["Embedding numEmbeddings", () => new nn.Embedding(0, 2)],
    ["Embedding paddingIdx", () => new nn.Embedding(3, 2, { paddingIdx: 3 })],
    ["LayerNorm normalizedShape", () => new nn.LayerNorm([2, 0])],
    ["LayerNorm normalizedShape []", () => new nn.LayerNorm([])],
    ["LayerNorm eps", () => new nn.LayerNorm(2, { eps: -1 })],
    ["RMSNorm eps", () => new nn.RMSNorm(2, { eps: NaN })],
    ["Dropout p", () => new nn.Dropout(1.5)],
    ["Dropout p NaN", () => new nn.Dropout(NaN)],
    ["GELU approximate", () => new nn.GELU({ approximate: "sigmoid" as "tanh" })],
    ["Softmax dim", () => new nn.Softmax(undefined as unknown as number)],
    ["Conv2d kernelSize", () => new nn.Conv2d(1, 1, 0)],
    ["Conv2d kernelSize pair", () => new nn.Conv2d(1, 1, [1] as unknown as number)],
    ["Conv2d groups", () => new nn.Conv2d(2, 3, 1, { groups: 2 })],
    ["Conv2d stride", () => new nn.Conv2d(1, 1, 1, { stride: 0 })],
    ["Conv2d padding", () => new nn.Conv2d(1, 1, 1, { padding: -1 })],
    ["BatchNorm2d numFeatures", () => new nn.BatchNorm2d(0)],
    ["BatchNorm1d momentum", () => new nn.BatchNorm1d(1, { momentum: 2 })],
    ["MultiheadAttention numHeads", () => new nn.MultiheadAttention(6, 4)],
    ["MultiheadAttention dropout", () => new nn.MultiheadAttention(6, 2, { dropout: -1 })],
  ])("%s", (name, build) => {
    expect(build).toThrow(mp.ArgumentError);
    expect(build).toThrow(new RegExp(`^${name.split(" ")[0]}: `));
  });
});
