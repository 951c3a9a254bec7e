import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import {
  compareWith,
  elements,
  goldenTensor,
  readGolden,
  type GoldenTensor,
  type Tolerance,
} from "../helpers/golden.js";
import { liveTensors } from "../helpers/memory.js";

const { DistilBertForSequenceClassification, DistilBertModel } = mp;

const GOLDEN = fileURLToPath(new URL("../golden/distilbert/", import.meta.url));

interface Expected {
  readonly ids: GoldenTensor;
  readonly mask: GoldenTensor;
  readonly labels: GoldenTensor;
  readonly logits: GoldenTensor;
  readonly loss: GoldenTensor;
  readonly grads: Readonly<Record<string, GoldenTensor>>;
}

const expected = readGolden("distilbert/expected.json") as Expected;
const ids = goldenTensor(expected.ids);
const attentionMask = goldenTensor(expected.mask);
const labels = goldenTensor(expected.labels);

const TINY = {
  vocabSize: 13,
  maxPositionEmbeddings: 9,
  dim: 8,
  nLayers: 2,
  nHeads: 2,
  hiddenDim: 12,
  numLabels: 3,
};

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-distilbert-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function failure(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(mp.CheckpointError);
  return (error as Error).message;
}

/** What a small change to the config makes of the golden directory. */
async function withConfig(change: Record<string, unknown>): Promise<string> {
  await cp(GOLDEN, directory, { recursive: true });
  const file = path.join(directory, "config.json");
  const config = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  await writeFile(file, JSON.stringify({ ...config, ...change }));
  return directory;
}

/** The golden weights under other names, without those that `rename` gives null for. */
async function withWeights(rename: (name: string) => string | null): Promise<string> {
  await cp(GOLDEN, directory, { recursive: true });
  const file = path.join(directory, "model.safetensors");
  const weights = Object.entries(await mp.loadSafetensors(file));
  const kept = weights.flatMap(([name, weight]) => {
    const to = rename(name);
    return to === null ? [] : [[to, weight] as const];
  });
  await mp.saveSafetensors(file, kept);
  return directory;
}

describe("DistilBertForSequenceClassification", () => {
  // float32 sums in another order than torch's float64: eps times the depth of the network.
  const cases: readonly [mp.DType, Tolerance][] = [
    ["float64", { relative: 1e-10, absolute: 1e-12, ofLargest: 1e-12 }],
    ["float32", { relative: 1e-4, absolute: 1e-5, ofLargest: 1e-5 }],
  ];
  it.each(cases)("computes torch's logits, loss and gradients in %s", async (dtype, tolerance) => {
    const model = await DistilBertForSequenceClassification.fromPretrained(GOLDEN, { dtype });
    for (const mode of [true, false]) {
      model.train(mode);
      model.zeroGrad();
      const { logits, loss } = model.forward(ids, { attentionMask, labels });
      const like = (golden: GoldenTensor): GoldenTensor => ({ ...golden, dtype });
      expect(compareWith(logits, like(expected.logits), { tolerance })).toBeNull();
      expect(compareWith(loss!, like(expected.loss), { tolerance })).toBeNull();
      loss!.backward();
      for (const [name, parameter] of model.namedParameters()) {
        const difference = compareWith(parameter.grad!, like(expected.grads[name]!), { tolerance });
        expect(difference === null ? null : `${name}: ${difference}`).toBeNull();
      }
    }
  });

  it("takes the dtype of the file, a bool mask, and no mask for one without padding", async () => {
    const model = await DistilBertForSequenceClassification.fromPretrained(GOLDEN);
    expect(model.parameters().every(({ dtype }) => dtype === "float64")).toBe(true);
    const { logits, loss } = model.forward(ids, { attentionMask: mp.ne(attentionMask, 0) });
    expect(compareWith(logits, expected.logits)).toBeNull();
    expect(loss).toBeNull();
    const whole = model.forward(mp.narrow(ids, 0, 0, 1));
    elements(whole.logits).forEach((value, i) => {
      expect(value).toBeCloseTo(elements(logits)[i]!, 12);
    });
  });

  it("has 104 tensors and 66,955,010 parameters at full size, named as Hugging Face's", () => {
    using model = new DistilBertForSequenceClassification({}, { dtype: "bfloat16" });
    const state = model.stateDict();
    expect(Object.keys(state)).toHaveLength(104);
    expect(model.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(66_955_010);
    const body = Object.entries(state).filter(([name]) => name.startsWith("distilbert."));
    expect(body.reduce((sum, [, { numel }]) => sum + numel, 0)).toBe(66_362_880);
    expect(state["distilbert.transformer.layer.5.ffn.lin1.weight"]!.shape).toEqual([3072, 768]);
    expect(state["distilbert.embeddings.word_embeddings.weight"]!.shape).toEqual([30522, 768]);
    expect(state["pre_classifier.weight"]!.shape).toEqual([768, 768]);
    for (const tensor of Object.values(state)) tensor.dispose();
  });

  it("draws the same normal weights from the same seed, and zeros for the padding", () => {
    const build = () => {
      mp.manualSeed(3);
      return new DistilBertForSequenceClassification({ ...TINY, vocabSize: 4000 });
    };
    const first = build().stateDict();
    const second = build().stateDict();
    for (const [name, tensor] of Object.entries(first)) {
      expect(elements(tensor)).toEqual(elements(second[name]!));
      const values = new Set(elements(tensor));
      if (name.endsWith("bias")) expect([...values]).toEqual([0]);
      else if (/norm/i.test(name)) expect([...values]).toEqual([1]);
      else expect(values.size).toBeGreaterThan(tensor.numel / 2);
    }
    const words = first["distilbert.embeddings.word_embeddings.weight"]!;
    expect(elements(mp.select(words, 0, 0))).toEqual(new Array(8).fill(0));
    expect(Math.sqrt(mp.variance(words).item())).toBeCloseTo(0.02, 3);
  });

  it("trains all weights, and the padding's never", () => {
    mp.manualSeed(5);
    const model = new DistilBertForSequenceClassification(TINY);
    model.forward(ids, { attentionMask, labels }).loss!.backward();
    for (const [name, { grad, numel }] of model.namedParameters()) {
      const moved = mp.sum(mp.ne(grad!, 0)).item();
      // A bias of the keys moves no score against another.
      if (name.endsWith("k_lin.bias")) continue;
      expect(moved, name).toBeGreaterThan(0);
      expect(moved, name).toBeLessThanOrEqual(numel);
    }
    const words = model.distilbert.embeddings.word_embeddings.weight;
    expect(elements(mp.select(words.grad!, 0, 0))).toEqual(new Array(8).fill(0));
  });

  it("drops in training and repeats the drops with the seed; not in evaluation", () => {
    mp.manualSeed(6);
    const model = new DistilBertForSequenceClassification({ ...TINY, initializerRange: 0.5 });
    const logits = (seed: number): number[] => {
      mp.manualSeed(seed);
      return elements(model.forward(ids, { attentionMask }).logits);
    };
    expect(logits(1)).toEqual(logits(1));
    expect(logits(1)).not.toEqual(logits(2));
    model.eval();
    expect(logits(1)).toEqual(logits(2));
  });

  it("leaves nothing behind but what it returns", async () => {
    const model = new DistilBertForSequenceClassification(TINY);
    const step = (): void => {
      mp.tidy(() => {
        model.forward(ids, { attentionMask, labels }).loss!.backward();
      });
      model.zeroGrad();
    };
    step();
    const before = await liveTensors();
    step();
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("takes labels of regression and of several classes at once", () => {
    const one = new DistilBertForSequenceClassification({ ...TINY, numLabels: 1 }).eval();
    const target = mp.tensor([0.5, -1, 2]);
    const { logits, loss } = one.forward(ids, { labels: target });
    expect(loss!.item()).toBeCloseTo(mp.mseLoss(logits.reshape([3]), target).item(), 6);
    const whole = mp.tensor([1, 0, 2], { dtype: "int64" });
    const expectedLoss = mp.mseLoss(logits.reshape([3]), whole.to("float32")).item();
    expect(one.forward(ids, { labels: whole }).loss!.item()).toBeCloseTo(expectedLoss, 6);
    const many = new DistilBertForSequenceClassification(TINY).eval();
    const several = mp.tensor([
      [1, 0, 1],
      [0, 0, 1],
      [1, 1, 1],
    ]);
    const out = many.forward(ids, { labels: several });
    expect(out.loss!.item()).toBeCloseTo(mp.bceWithLogits(out.logits, several).item(), 6);
    expect(() => many.forward(ids, { labels: target })).toThrow(mp.ShapeError);
  });

  it("names what is wrong with its input", () => {
    const model = new DistilBertForSequenceClassification(TINY);
    const zeros = (shape: number[]) => mp.zeros(shape, { dtype: "int64" });
    expect(() => model.forward(zeros([6]))).toThrow(/expected ids \[B, L\], got \[6\]/);
    expect(() => model.forward(zeros([1, 0]))).toThrow(mp.ShapeError);
    expect(() => model.forward(zeros([1, 10]))).toThrow(/10 tokens, the model has 9 positions/);
    expect(() => model.forward(ids, { attentionMask: zeros([3, 5]) })).toThrow(
      /mask \[3, 5\] for ids \[3, 6\]/,
    );
    expect(() => model.forward(mp.full([1, 2], 13, { dtype: "int64" }))).toThrow(mp.ArgumentError);
    const beyond = mp.tensor([0, 1, 3], { dtype: "int64" });
    expect(() => model.forward(ids, { labels: beyond })).toThrow(mp.ArgumentError);
  });
});

describe("fromPretrained and savePretrained", () => {
  it("give back the same model", async () => {
    mp.manualSeed(9);
    const model = new DistilBertForSequenceClassification(TINY);
    await model.savePretrained(directory);
    const again = await DistilBertForSequenceClassification.fromPretrained(directory);
    expect(again.config).toEqual(model.config);
    const [saved, loaded] = [model.stateDict(), again.stateDict()];
    expect(Object.keys(loaded)).toEqual(Object.keys(saved));
    for (const [name, tensor] of Object.entries(saved)) {
      expect(loaded[name]!.dtype).toBe("float32");
      expect([...loaded[name]!.bytes()]).toEqual([...tensor.bytes()]);
    }
    const half = { dtype: "bfloat16" } as const;
    const narrow = await DistilBertForSequenceClassification.fromPretrained(directory, half);
    const bias = narrow.pre_classifier.weight;
    expect([...bias.bytes()]).toEqual([...model.pre_classifier.weight.to("bfloat16").bytes()]);
  });

  it("draw a head that the checkpoint lacks, and ignore the one of another task", async () => {
    const dir = await withWeights((name) => {
      if (name === "classifier.weight") return "vocab_transform.weight";
      return name.startsWith("pre_classifier") || name === "classifier.bias" ? null : name;
    });
    mp.manualSeed(1);
    const options = { numLabels: 5 };
    const model = await DistilBertForSequenceClassification.fromPretrained(dir, options);
    expect(model.classifier.weight.shape).toEqual([5, 8]);
    expect(new Set(elements(model.pre_classifier.weight)).size).toBe(64);
    expect(elements(model.classifier.bias!)).toEqual([0, 0, 0, 0, 0]);
    const golden = await DistilBertForSequenceClassification.fromPretrained(GOLDEN);
    const [a, b] = [model, golden].map((m) => elements(m.distilbert.forward(ids, attentionMask)));
    expect(a).toEqual(b);
  });

  it("load a body whose names have no prefix, and the body of a classifier", async () => {
    const dir = await withWeights((name) =>
      name.startsWith("distilbert.") ? name.slice("distilbert.".length) : null,
    );
    const golden = await DistilBertForSequenceClassification.fromPretrained(GOLDEN);
    const hidden = elements(golden.eval().distilbert.forward(ids, attentionMask));
    const classifier = await DistilBertForSequenceClassification.fromPretrained(dir);
    const bodies = [
      classifier.distilbert,
      await DistilBertModel.fromPretrained(dir),
      await DistilBertModel.fromPretrained(GOLDEN),
    ];
    for (const body of bodies) {
      expect(elements(body.eval().forward(ids, attentionMask))).toEqual(hidden);
    }
  });

  it("draw a new head on demand", async () => {
    const load = (options: object) =>
      DistilBertForSequenceClassification.fromPretrained(GOLDEN, options);
    expect(await failure(load({ numLabels: 4 }))).toMatch(
      /tensor classifier.weight is float64 \[3, 8\], expected floats \[4, 8\]/,
    );
    const model = await load({ numLabels: 4, newHead: true });
    expect(model.classifier.weight.shape).toEqual([4, 8]);
    await expect(load({ numLabels: 0, newHead: true })).rejects.toThrow(mp.ArgumentError);
  });

  it("load a model in several files", async () => {
    const weights = await mp.loadSafetensors(path.join(GOLDEN, "model.safetensors"));
    const weightMap: Record<string, string> = {};
    const parts: [string, mp.Tensor][][] = [[], []];
    Object.entries(weights).forEach(([name, weight], i) => {
      parts[i % 2]!.push([name, weight]);
      weightMap[name] = `model-${i % 2}.safetensors`;
    });
    for (const [i, part] of parts.entries()) {
      await mp.saveSafetensors(path.join(directory, `model-${i}.safetensors`), part);
    }
    const index = path.join(directory, "model.safetensors.index.json");
    await writeFile(index, JSON.stringify({ metadata: {}, weight_map: weightMap }));
    await cp(path.join(GOLDEN, "config.json"), path.join(directory, "config.json"));
    const model = await DistilBertForSequenceClassification.fromPretrained(directory);
    const { logits } = model.eval().forward(ids, { attentionMask });
    expect(compareWith(logits, expected.logits)).toBeNull();
  });

  it("name a body tensor that is missing or of another shape, and leave no tensor behind", async () => {
    const dir = await withWeights((name) => (name.endsWith("layer.1.ffn.lin2.bias") ? null : name));
    const load = () => DistilBertForSequenceClassification.fromPretrained(dir);
    const before = await liveTensors();
    expect(await failure(load())).toMatch(
      /model.safetensors: lacks the tensor distilbert.transformer.layer.1.ffn.lin2.bias$/,
    );
    expect(mp.memory.tensorCount()).toBe(before);
    expect(await failure(DistilBertModel.fromPretrained(await withConfig({ dim: 4 })))).toMatch(
      /word_embeddings.weight is float64 \[13, 8\], expected floats \[13, 4\].* more faults/,
    );
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ["another model", { model_type: "bert" }, /expected model_type "distilbert", got "bert"/],
    ["another activation", { activation: "relu" }, /expected activation "gelu", got "relu"/],
    ["sinusoidal positions", { sinusoidal_pos_embds: true }, /sinusoidal position/],
    ["a size as text", { dim: "8" }, /expected dim to be a number, got "8"/],
    ["a size of 0", { n_layers: 0 }, /nLayers to be a whole number above 0, got 0/],
    ["a fraction", { hidden_dim: 1.5 }, /hiddenDim to be a whole number above 0, got 1.5/],
    ["heads that do not fit", { n_heads: 3 }, /nHeads must divide dim, got nHeads 3 and dim 8/],
    ["a dropout above 1", { dropout: 2 }, /dropout to be from 0 to 1, got 2/],
    ["a negative padding id", { pad_token_id: -1 }, /padTokenId to be a whole number from 0/],
    ["a negative spread", { initializer_range: -1 }, /initializerRange to be a number from 0/],
  ])("refuse a config with %s", async (_, change, message) => {
    const dir = await withConfig(change);
    const error = await failure(DistilBertForSequenceClassification.fromPretrained(dir));
    expect(error).toMatch(message);
    expect(error).toContain(path.join(dir, "config.json"));
  });

  it("name what a directory lacks", async () => {
    const load = () => failure(DistilBertForSequenceClassification.fromPretrained(directory));
    const config = path.join(directory, "config.json");
    expect(await load()).toMatch(/config.json: cannot be read: ENOENT/);
    await writeFile(config, "{");
    expect(await load()).toMatch(/config.json: is not JSON/);
    await writeFile(config, "[]");
    expect(await load()).toMatch(/config.json: expected a JSON object/);
    await writeFile(config, "{}");
    expect(await load()).toMatch(/has neither model.safetensors nor an index/);
    await writeFile(path.join(directory, "pytorch_model.bin"), "");
    expect(await load()).toMatch(/pytorch_model.bin is not read/);
    await writeFile(path.join(directory, "model.safetensors"), "x");
    expect(await load()).toMatch(/model.safetensors: truncated/);
  });

  it("name a directory that cannot be made", async () => {
    const model = new DistilBertForSequenceClassification(TINY);
    await mkdir(path.join(directory, "a"));
    await writeFile(path.join(directory, "a", "file"), "");
    const error = await failure(model.savePretrained(path.join(directory, "a", "file", "b")));
    expect(error).toMatch(/cannot be made/);
  });
});
