import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
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

const { AutoModelForSequenceClassification } = mp;

const golden = (name: string): string =>
  fileURLToPath(new URL(`../golden/${name}/`, import.meta.url));

interface Expected {
  readonly ids: GoldenTensor;
  readonly types?: GoldenTensor;
  readonly mask: GoldenTensor;
  readonly labels: GoldenTensor;
  readonly logits: GoldenTensor;
  readonly loss: GoldenTensor;
  readonly grads: Readonly<Record<string, GoldenTensor>>;
}

const KINDS = ["distilbert", "bert", "roberta"] as const;
const CLASSES = {
  distilbert: mp.DistilBertForSequenceClassification,
  bert: mp.BertForSequenceClassification,
  roberta: mp.RobertaForSequenceClassification,
};

function load(name: string): {
  expected: Expected;
  ids: mp.Tensor;
  inputs: mp.ClassificationInputs;
} {
  const expected = readGolden(`${name}/expected.json`) as Expected;
  const { ids, types, mask, labels } = expected;
  const inputs = {
    attentionMask: goldenTensor(mask),
    labels: goldenTensor(labels),
    ...(types === undefined ? {} : { tokenTypeIds: goldenTensor(types) }),
  };
  return { expected, ids: goldenTensor(ids), inputs };
}

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-encoders-"));
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

/** A golden directory with a changed config.json and renamed weights; null leaves one out. */
async function changed(
  name: string,
  config: Record<string, unknown>,
  rename: (key: string) => string | null = (key) => key,
): Promise<string> {
  await cp(golden(name), directory, { recursive: true });
  const file = path.join(directory, "config.json");
  const json = JSON.parse(await readFile(file, "utf8")) as object;
  await writeFile(file, JSON.stringify({ ...json, ...config }));
  const weightsFile = path.join(directory, "model.safetensors");
  const weights = Object.entries(await mp.loadSafetensors(weightsFile));
  const kept = weights.flatMap(([key, weight]) => {
    const to = rename(key);
    return to === null ? [] : [[to, weight] as const];
  });
  await mp.saveSafetensors(weightsFile, kept);
  return directory;
}

describe.each(KINDS)("%s", (name) => {
  const { expected, ids, inputs } = load(name);
  const cases: readonly [mp.DType, Tolerance][] = [
    ["float64", { relative: 1e-10, absolute: 1e-12, ofLargest: 1e-12 }],
    ["float32", { relative: 1e-5, absolute: 1e-5 }],
  ];

  it.each(cases)("computes torch's logits, loss and gradients in %s", async (dtype, tolerance) => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden(name), { dtype });
    expect(model).toBeInstanceOf(CLASSES[name]);
    const like = (tensor: GoldenTensor): GoldenTensor => ({ ...tensor, dtype });
    const { logits, loss } = model.forward(ids, inputs);
    expect(compareWith(logits, like(expected.logits), { tolerance })).toBeNull();
    expect(compareWith(loss!, like(expected.loss), { tolerance })).toBeNull();
    loss!.backward();
    const parameters = model.namedParameters();
    expect(parameters.map(([key]) => key).sort()).toEqual(Object.keys(expected.grads).sort());
    for (const [key, { grad }] of parameters) {
      const difference = compareWith(grad!, like(expected.grads[key]!), { tolerance });
      expect(difference === null ? null : `${key}: ${difference}`).toBeNull();
    }
  });

  it("is saved as Hugging Face's libraries take it, and loads again", async () => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden(name));
    const files = await model.saveAs(directory);
    expect(files).toEqual(["config.json", "model.safetensors"]);
    const text = await readFile(path.join(directory, "config.json"), "utf8");
    const saved = JSON.parse(text) as object;
    const given = JSON.parse(
      await readFile(path.join(golden(name), "config.json"), "utf8"),
    ) as object;
    expect(saved).toMatchObject(given);
    expect(saved).toMatchObject({
      architectures: [CLASSES[name].name],
      model_type: name,
      torch_dtype: name === "distilbert" ? "float64" : "float32",
    });
    if (name !== "distilbert") expect(text).toMatch(/"hidden_dropout_prob": 0\.0,\n/);
    const { tensors, metadata } = await mp.inspectSafetensors(
      path.join(directory, "model.safetensors"),
    );
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.map((tensor) => tensor.name).sort()).toEqual(Object.keys(expected.grads).sort());
    const again = await AutoModelForSequenceClassification.fromPretrained(directory);
    expect(again.config).toEqual(model.config);
    expect(elements(again.forward(ids, inputs).logits)).toEqual(
      elements(model.forward(ids, inputs).logits),
    );
  });

  it("tells its sizes, and the longest sequence", async () => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden(name));
    const { maxLength, layers, width, vocabSize } = model.encoder;
    expect([layers, width, vocabSize]).toEqual([2, 8, 13]);
    expect(maxLength).toBe(name === "roberta" ? 8 : 9);
    const full = (length: number) => mp.full([1, length], 3, { dtype: "int64" });
    expect(model.forward(full(maxLength)).logits.shape).toEqual([1, 3]);
    expect(() => model.forward(full(maxLength + 1))).toThrow(
      /the model has \d positions; truncate/,
    );
  });

  it("draws in training what the seed decides, and nothing in evaluation", async () => {
    const options = { numLabels: 2 };
    const dir = await changed(
      name,
      name === "distilbert" ? { dropout: 0.5 } : { hidden_dropout_prob: 0.5 },
      (key) => (key.includes("classifier") ? null : key),
    );
    mp.manualSeed(1);
    const model = await AutoModelForSequenceClassification.fromPretrained(dir, options);
    const logits = (seed: number): number[] => {
      mp.manualSeed(seed);
      return elements(model.forward(ids, { attentionMask: inputs.attentionMask! }).logits);
    };
    expect(logits(1)).toEqual(logits(1));
    expect(logits(1)).not.toEqual(logits(2));
    model.eval();
    expect(logits(1)).toEqual(logits(2));
  });

  it("leaves nothing behind but what it returns", async () => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden(name));
    const step = (): void => {
      mp.tidy(() => {
        model.forward(ids, inputs).loss!.backward();
      });
      model.zeroGrad();
    };
    step();
    const before = await liveTensors();
    step();
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("reports a head that is missing, and draws it; and what is of no use", async () => {
    const dir = await changed(name, {}, (key) => {
      if (key.startsWith("classifier") && key.endsWith("bias")) return null;
      return /^(pre_)?classifier/.test(key) ? `cls.${key}` : key;
    });
    mp.manualSeed(1);
    const model = await AutoModelForSequenceClassification.fromPretrained(dir);
    const report = model.loadReport!;
    const head = Object.keys(expected.grads).filter((key) => /^(pre_)?classifier/.test(key));
    const absent = head.filter((key) => !key.startsWith("pre_classifier.bias"));
    expect(report.missingKeys).toEqual(expect.arrayContaining(absent));
    expect(report.unexpectedKeys.every((key) => key.startsWith("cls."))).toBe(true);
    expect(report.unexpectedKeys.length).toBeGreaterThan(0);
    expect([report.source, report.directory, report.commit, report.notice]).toEqual([
      dir,
      dir,
      null,
      null,
    ]);
    for (const [key, parameter] of model.namedParameters()) {
      if (!report.missingKeys.includes(key)) continue;
      if (key.endsWith("bias")) expect(new Set(elements(parameter))).toEqual(new Set([0]));
      else expect(new Set(elements(parameter)).size).toBe(parameter.numel);
    }
  });
});

describe("BERT", () => {
  const { expected, ids, inputs } = load("bert");
  const open = (dir: string, options: mp.PretrainedOptions = {}) =>
    mp.BertForSequenceClassification.fromPretrained(dir, options);

  it("has Hugging Face's 201 tensors and 109,483,778 parameters at full size", () => {
    using model = new mp.BertForSequenceClassification({}, { dtype: "bfloat16" });
    expect(model.namedParameters()).toHaveLength(201);
    expect(model.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(109_483_778);
  });

  it("reads old names of norms, leaves buffers of old versions alone, draws a missing pooler", async () => {
    const dir = await changed("bert", {}, (key) =>
      key.includes("pooler")
        ? null
        : key
            .replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta"),
    );
    const file = path.join(dir, "model.safetensors");
    const positions = mp.arange(0, 9, 1, { dtype: "int64" });
    await mp.saveSafetensors(file, {
      ...(await mp.loadSafetensors(file)),
      "bert.embeddings.position_ids": positions,
    });
    const model = await open(dir);
    expect(model.loadReport!.missingKeys).toEqual([
      "bert.pooler.dense.weight",
      "bert.pooler.dense.bias",
    ]);
    expect(model.loadReport!.unexpectedKeys).toEqual([]);
    const whole = await open(golden("bert"));
    const hidden = (each: mp.BertForSequenceClassification): number[] =>
      elements(each.bert.forward(ids).lastHiddenState);
    expect(hidden(model)).toEqual(hidden(whole));
  });

  it("counts tokens without a type as of the first", async () => {
    const model = await open(golden("bert"));
    const tokenTypeIds = mp.zeros(ids.shape, { dtype: "int64" });
    const { attentionMask } = inputs;
    expect(elements(model.forward(ids, { attentionMask: attentionMask! }).logits)).toEqual(
      elements(model.forward(ids, { attentionMask: attentionMask!, tokenTypeIds }).logits),
    );
    const short = mp.zeros([3, 2], { dtype: "int64" });
    expect(() => model.forward(ids, { tokenTypeIds: short })).toThrow(/types \[3, 2\] for ids/);
    const distil = new mp.DistilBertForSequenceClassification({ dim: 4, nHeads: 2, nLayers: 1 });
    expect(() => distil.forward(ids, { tokenTypeIds })).toThrow(/no such embeddings/);
  });

  it("gives its body alone, from a classifier's files or its own", async () => {
    const whole = await open(golden("bert"));
    const dir = await changed("bert", {}, (key) =>
      key.startsWith("bert.") ? key.slice("bert.".length) : null,
    );
    for (const place of [golden("bert"), dir]) {
      const body = await mp.BertModel.fromPretrained(place);
      expect(elements(body.forward(ids).poolerOutput)).toEqual(
        elements(whole.bert.forward(ids).poolerOutput),
      );
    }
    const roberta = await mp.RobertaModel.fromPretrained(golden("roberta"));
    expect(roberta.forward(load("roberta").ids).shape).toEqual([3, 6, 8]);
  });

  it("draws anew what has another shape, where asked", async () => {
    expect(await failure(open(golden("bert"), { numLabels: 5 }))).toMatch(
      /classifier.weight is float32 \[3, 8\], expected floats \[5, 8\] \(newHead/,
    );
    const model = await open(golden("bert"), { numLabels: 5, ignoreMismatchedSizes: true });
    expect(model.loadReport!.mismatchedKeys).toEqual([
      { key: "classifier.weight", found: [3, 8], expected: [5, 8] },
      { key: "classifier.bias", found: [3], expected: [5] },
    ]);
    expect(model.config.labelNames).toBeNull();
    expect(new Set(elements(model.classifier.weight)).size).toBe(40);
  });

  it("takes and keeps names of classes and the kind of problem", async () => {
    const named = await open(golden("bert"));
    expect(named.config.labelNames).toEqual(["bad", "fair", "good"]);
    const labelNames = ["a", "b", "c"];
    const model = await open(await changed("bert", { problem_type: "regression" }), { labelNames });
    expect(model.config.problemType).toBe("regression");
    const { logits, loss } = model.forward(ids, { labels: mp.ones([3, 3]) });
    expect(loss!.item()).toBeCloseTo(mp.mseLoss(logits, mp.ones([3, 3])).item(), 6);
    const out = path.join(directory, "out");
    await model.savePretrained(out);
    const json = JSON.parse(await readFile(path.join(out, "config.json"), "utf8")) as object;
    expect(json).toMatchObject({
      problem_type: "regression",
      id2label: { 0: "a", 1: "b", 2: "c" },
      label2id: { a: 0, b: 1, c: 2 },
    });
    await expect(open(golden("bert"), { labelNames, numLabels: 2 })).rejects.toThrow(
      mp.ArgumentError,
    );
    await expect(open(golden("bert"), { labelNames: ["a", "a", "b"] })).rejects.toThrow(
      /labelNames to be different/,
    );
  });

  it.each(["single_label_classification", "multi_label_classification"] as const)(
    "computes the loss of %s whatever the labels' dtype",
    (problemType) => {
      const sizes = {
        hiddenSize: 4,
        numAttentionHeads: 2,
        numHiddenLayers: 1,
        intermediateSize: 4,
      };
      const model = new mp.BertForSequenceClassification({ ...sizes, vocabSize: 13, problemType });
      model.eval();
      const single = problemType.startsWith("single");
      const labels = single
        ? mp.tensor([1, 0, 1], { dtype: "int64" })
        : mp.ones([3, 2], { dtype: "int64" });
      const { logits, loss } = model.forward(ids, { labels });
      const wanted = single
        ? mp.crossEntropy(logits, labels)
        : mp.bceWithLogits(logits, labels.to("float32"));
      expect(loss!.item()).toBeCloseTo(wanted.item(), 6);
    },
  );

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      "another kind",
      { model_type: "gpt2" },
      /model_type "distilbert", "bert", "roberta", got "gpt2/,
    ],
    ["no kind", { model_type: undefined }, /model_type .*, got undefined/],
    ["an unknown activation", { hidden_act: "mish" }, /hidden_act "gelu" or .*got "mish"/],
    ["relative positions", { position_embedding_type: "relative_key" }, /expected position_embed/],
    ["a decoder", { is_decoder: true }, /expected is_decoder false/],
    ["heads that do not fit", { num_attention_heads: 3 }, /numAttentionHeads must divide hidden/],
    ["a kind of problem that is none", { problem_type: "x" }, /problemType to be null or one of/],
    ["a size as text", { hidden_size: "8" }, /hidden_size to be a number, got "8"/],
    ["a size of null", { hidden_size: null }, /hidden_size to be a number, got null/],
  ])("refuses a config with %s", async (_, change, message) => {
    const dir = await changed("bert", change);
    expect(await failure(AutoModelForSequenceClassification.fromPretrained(dir))).toMatch(message);
  });

  it("computes with every activation that a config names", async () => {
    const seen = new Set<string>();
    for (const act of ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"]) {
      const model = await open(await changed("bert", { hidden_act: act }));
      seen.add(elements(model.forward(ids).logits).join());
    }
    expect(seen.size).toBe(4);
    expect(expected.logits.shape).toEqual([3, 3]);
  });
});

describe("RoBERTa", () => {
  it("has Hugging Face's 201 tensors and 124,647,170 parameters at full size", () => {
    using model = new mp.RobertaForSequenceClassification({}, { dtype: "bfloat16" });
    expect(model.namedParameters()).toHaveLength(201);
    expect(model.parameters().reduce((sum, { numel }) => sum + numel, 0)).toBe(124_647_170);
  });

  it("gives a token the same answer with and without padding behind it", async () => {
    const model = await mp.RobertaForSequenceClassification.fromPretrained(golden("roberta"), {
      dtype: "float64",
    });
    const bare = mp.tensor([[3, 7, 5]], { dtype: "int64" });
    const padded = mp.tensor([[3, 7, 5, 1, 1]], { dtype: "int64" });
    const attentionMask = mp.ne(padded, 1);
    const a = elements(model.forward(bare).logits);
    elements(model.forward(padded, { attentionMask }).logits).forEach((value, i) => {
      expect(value).toBeCloseTo(a[i]!, 12);
    });
  });
});

describe("savePretrained", () => {
  const { ids, inputs } = load("bert");

  it("splits weights by size, with an index, and removes those of an earlier save", async () => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden("bert"));
    await model.savePretrained(directory);
    const files = await model.savePretrained(directory, { maxShardSize: "2KB" });
    const shards = files.filter((name) => name.startsWith("model-"));
    expect(shards.length).toBeGreaterThan(2);
    expect((await readdir(directory)).sort()).toEqual([...files].sort());
    const text = await readFile(path.join(directory, "model.safetensors.index.json"), "utf8");
    const index = JSON.parse(text) as {
      metadata: Record<string, number>;
      weight_map: Record<string, string>;
    };
    const numel = model.parameters().reduce((sum, parameter) => sum + parameter.numel, 0);
    expect(index.metadata).toEqual({ total_parameters: numel, total_size: 4 * numel });
    expect(Object.keys(index.weight_map)).toEqual(Object.keys(model.stateDict()).sort());
    for (const shard of shards) {
      expect(shard).toMatch(/^model-0000\d-of-0000\d\.safetensors$/);
      const { tensors, metadata } = await mp.inspectSafetensors(path.join(directory, shard));
      expect(metadata).toEqual({ format: "pt" });
      const bytes = tensors.reduce(
        (sum, { shape }) => sum + 4 * shape.reduce((a, b) => a * b, 1),
        0,
      );
      expect(bytes <= 2000 || tensors.length === 1).toBe(true);
    }
    const again = await AutoModelForSequenceClassification.fromPretrained(directory);
    expect(elements(again.forward(ids, inputs).logits)).toEqual(
      elements(model.forward(ids, inputs).logits),
    );
    const one = await model.savePretrained(directory);
    expect((await readdir(directory)).sort()).toEqual([...one].sort());
  });

  it("passes tokenizer files along, from a directory or an object", async () => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden("bert"));
    const source = path.join(directory, "source");
    await cp(golden("bert"), source, { recursive: true });
    for (const name of ["vocab.txt", "tokenizer.json", "merges.txt", "other.txt"]) {
      await writeFile(path.join(source, name), name);
    }
    const out = path.join(directory, "out");
    const files = await model.savePretrained(out, { tokenizer: source });
    expect(files.slice(2)).toEqual(["tokenizer.json", "vocab.txt", "merges.txt"]);
    expect((await readdir(out)).sort()).toEqual([...files].sort());
    await model.savePretrained(source, { tokenizer: source });
    expect(await readFile(path.join(source, "vocab.txt"), "utf8")).toBe("vocab.txt");
  });

  it.each([0, -1, NaN, "5", "5 XB", "GB", "-5GB", true])("refuses %j as a size", async (size) => {
    const model = await AutoModelForSequenceClassification.fromPretrained(golden("bert"));
    const options = { maxShardSize: size as number };
    await expect(model.savePretrained(directory, options)).rejects.toThrow(mp.ArgumentError);
    expect(await readdir(directory)).toEqual([]);
  });
});
