import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";
import { HubServer } from "../helpers/hub-server.js";
import { liveTensors } from "../helpers/memory.js";
import { saveTinyClassifier, TEXTS } from "./tiny-classifier.js";

const { pipeline } = mp;
const LABELS = ["bad", "fair", "good"];

let root: string;
let directory: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "mixprec-pipeline-"));
  directory = path.join(root, "model");
  await saveTinyClassifier(directory);
});
afterAll(() => rm(root, { recursive: true }));

async function load(
  options: mp.TextClassificationOptions = {},
  from = directory,
): Promise<mp.TextClassificationPipeline> {
  return pipeline("text-classification", from, { device: TEST_DEVICE, ...options });
}

async function failure(promise: Promise<unknown>): Promise<mp.MixprecError> {
  const error: unknown = await promise.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(mp.MixprecError);
  return error as mp.MixprecError;
}

/** Probabilities of one text by id, from the model itself, in float64. */
async function expected(text: string, apply = mp.softmax): Promise<number[]> {
  const model = await mp.AutoModelForSequenceClassification.fromPretrained(directory, {
    dtype: "float64",
  });
  const ids = (await mp.TextTokenizer.fromDirectory(directory)).encode(text);
  model.eval();
  const { logits } = model.forward(mp.tensor([ids], { dtype: "int32" }));
  const probabilities = (apply(logits, { dim: 1 }).toArray() as number[][])[0]!;
  model.dispose();
  return probabilities;
}

const byLabel = (classes: mp.Classification[]): number[] =>
  LABELS.map((label) => classes.find((one) => one.label === label)!.score);

describe("pipeline text-classification", () => {
  it("gives the probabilities of the model, whatever else is in the batch", async () => {
    const classify = await load({ precision: "64-true" });
    for (const batchSize of [1, 2, 32]) {
      const answers = await classify(TEXTS, { topK: null, batchSize });
      expect(answers).toHaveLength(TEXTS.length);
      for (const [i, text] of TEXTS.entries()) {
        const wanted = await expected(text);
        byLabel(answers[i]!).forEach((score, id) => expect(score).toBeCloseTo(wanted[id]!, 10));
        const scores = answers[i]!.map(({ score }) => score);
        expect(scores).toEqual([...scores].sort((a, b) => b - a));
        expect(scores.reduce((a, b) => a + b)).toBeCloseTo(1, 10);
      }
    }
    classify.dispose();
  });

  it("computes in bfloat16 unless it is told otherwise, close to float64", async () => {
    const classify = await load();
    expect(classify.precision).toBe("bf16-true");
    expect(classify.model.parameters().every(({ dtype }) => dtype === "bfloat16")).toBe(true);
    const exact = await expected(TEXTS[0]!);
    const rounded = byLabel(await classify(TEXTS[0]!, { topK: null }));
    rounded.forEach((score, id) => expect(Math.abs(score - exact[id]!)).toBeLessThan(0.03));
    expect(rounded).not.toEqual(exact);
    classify.dispose();
  });

  it.each(["32-true", "16-mixed", "bf16-mixed", "16-true"] as const)(
    "runs in %s with the weights in its dtype",
    async (precision) => {
      const classify = await load({ precision });
      const dtype = precision === "16-true" ? "float16" : "float32";
      expect(classify.model.parameters()[0]!.dtype).toBe(dtype);
      const exact = await expected(TEXTS[1]!);
      const got = byLabel(await classify(TEXTS[1]!, { topK: null }));
      const tolerance = precision === "32-true" ? 1e-5 : 0.03;
      got.forEach((score, id) => expect(Math.abs(score - exact[id]!)).toBeLessThan(tolerance));
      classify.dispose();
    },
  );

  it("answers in the shape of Hugging Face's pipeline", async () => {
    const classify = await load();
    expect(classify.labels).toEqual(LABELS);
    expect(classify.device).toBe(TEST_DEVICE);
    const one = await classify(TEXTS[0]!);
    expect(one).toHaveLength(1);
    expect(LABELS).toContain(one[0]!.label);
    expect(one[0]!.score).toBeGreaterThan(1 / 3);
    const flat: mp.Classification[] = await classify(TEXTS.slice(0, 2));
    expect(flat).toHaveLength(2);
    expect(flat[0]!.label).toBe(one[0]!.label);
    const nested: mp.Classification[][] = await classify(TEXTS.slice(0, 2), { topK: 1 });
    expect(nested.map((classes) => classes.length)).toEqual([1, 1]);
    expect((await classify(TEXTS, { topK: 2 })).map(({ length }) => length)).toEqual(
      TEXTS.map(() => 2),
    );
    expect(await classify(TEXTS[0]!, { topK: 9 })).toHaveLength(3);
    expect(await classify([])).toEqual([]);
    expect(await classify("")).toHaveLength(1);
    classify.dispose();
    const alias = await pipeline("sentiment-analysis", directory, { device: TEST_DEVICE });
    expect(await alias(TEXTS[0]!)).toEqual(one);
    alias.dispose();
  });

  it("applies the function that the kind of problem asks for, or the one named", async () => {
    const several = path.join(root, "several");
    await saveTinyClassifier(several, {
      labelNames: null,
      problemType: "multi_label_classification",
    });
    const classify = await load({ precision: "64-true" }, several);
    const independent = await classify(TEXTS[0]!, { topK: null });
    const raw = await classify(TEXTS[0]!, { topK: null, functionToApply: "none" });
    expect(independent.map(({ label }) => label).sort()).toEqual(["LABEL_0", "LABEL_1", "LABEL_2"]);
    independent.forEach(({ label, score }, i) => {
      expect(label).toBe(raw[i]!.label);
      expect(score).toBeCloseTo(1 / (1 + Math.exp(-raw[i]!.score)), 12);
    });
    const shared = await classify(TEXTS[0]!, { topK: null, functionToApply: "softmax" });
    expect(shared.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1, 12);
    classify.dispose();

    const number = path.join(root, "number");
    await saveTinyClassifier(number, { numLabels: 1, labelNames: null, problemType: "regression" });
    const rate = await load({}, number);
    expect(await rate(TEXTS[0]!)).toEqual(await rate(TEXTS[0]!, { functionToApply: "none" }));
    rate.dispose();
  });

  it("cuts texts off at what the model takes, or earlier", async () => {
    const classify = await load();
    expect(await classify("great ".repeat(500))).toEqual(await classify("great ".repeat(22)));
    classify.dispose();
    const short = await load({ maxLength: 4 });
    expect(await short("great cold food")).toEqual(await short("great cold"));
    short.dispose();
  });

  it("frees what it made, and says so when it is called after that", async () => {
    const before = await liveTensors();
    const classify = await load({ precision: "bf16-mixed" });
    await classify(TEXTS, { batchSize: 2 });
    classify.dispose();
    classify.dispose();
    expect(mp.memory.tensorCount()).toBe(before);
    expect(await failure(classify("great"))).toBeInstanceOf(mp.DisposedError);
    {
      using scoped = await load();
      await scoped("great");
    }
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("ends a call that runs while it is disposed", async () => {
    const classify = await load();
    const running = failure(classify(TEXTS, { batchSize: 1 }));
    await Promise.resolve();
    classify.dispose();
    expect(await running).toBeInstanceOf(mp.DisposedError);
  });

  it("takes calls at the same time", async () => {
    const classify = await load();
    const apart = [];
    for (const text of TEXTS) apart.push((await classify(text))[0]);
    const together = await Promise.all(TEXTS.map((text) => classify(text)));
    expect(together.map(([likeliest]) => likeliest)).toEqual(apart);
    classify.dispose();
  });

  it("loads a model from the hub, by name and revision", async () => {
    const server = await HubServer.start();
    try {
      const files: Record<string, Buffer> = {};
      for (const name of await readdir(directory)) {
        files[name] = await readFile(path.join(directory, name));
      }
      server.repos.set("owner/tiny", { files, revisions: ["v1"] });
      const classify = await load(
        {
          endpoint: server.endpoint,
          cacheDir: path.join(root, "cache"),
          token: false,
          revision: "v1",
        },
        "owner/tiny",
      );
      const local = await load();
      expect(await classify(TEXTS)).toEqual(await local(TEXTS));
      expect(classify.model.loadReport!.source).toBe("owner/tiny");
      classify.dispose();
      local.dispose();
    } finally {
      await server.stop();
    }
  });

  it("refuses what it cannot do", async () => {
    const task = "translation" as mp.PipelineTask;
    const message = async (promise: Promise<unknown>) => (await failure(promise)).message;
    expect(await message(pipeline(task, directory))).toBe(
      `pipeline: task — expected "text-classification" or "sentiment-analysis", got "translation"`,
    );
    expect(await message(load({ precision: "8-bit" }))).toMatch(/precision: expected one of/);
    expect(await message(load({ dtype: "float16" } as object))).toMatch(/no option "dtype"/);
    expect(await message(load({ batchSize: 0 }))).toMatch(/batchSize — expected a whole number/);
    expect(await message(load({ maxLength: 25 }))).toMatch(/expected at most 24.*got 25/);
    expect(await message(load({ maxLength: 2 }))).toMatch(/more than 2, which the special tokens/);
    expect(await message(load({}, path.join(root, "nowhere")))).toMatch(/no such directory/);
    if (!ON_CUDA) {
      expect(await failure(load({ device: "cuda" }))).toBeInstanceOf(mp.DeviceError);
    }
    const classify = await load();
    expect(await message(classify(3 as unknown as string))).toMatch(
      /^pipeline: expected a text or a list of texts, got 3$/,
    );
    expect(await message(classify(["a", null as unknown as string]))).toMatch(
      /texts\[1\] — expected a text, got null/,
    );
    expect(await message(classify("a", { topK: 0 }))).toMatch(/topK — expected a whole number/);
    expect(await message(classify("a", { top_k: 1 } as object))).toMatch(/no option "top_k"/);
    expect(await message(classify("a", { functionToApply: "relu" as "none" }))).toMatch(
      /functionToApply — expected one of softmax, sigmoid, none, got "relu"/,
    );
    classify.dispose();
  });

  it("refuses a model without a trained head, and one whose tokenizer is another's", async () => {
    const headless = path.join(root, "headless");
    await mkdir(headless);
    const config = JSON.parse(
      await readFile(path.join(directory, "config.json"), "utf8"),
    ) as object;
    await writeFile(path.join(headless, "config.json"), JSON.stringify(config));
    const tokenizer = await mp.TextTokenizer.fromDirectory(directory);
    await tokenizer.save(headless);
    const weights = await mp.loadSafetensors(path.join(directory, "model.safetensors"));
    const body = Object.entries(weights).filter(([name]) => !name.includes("classifier"));
    await mp.saveSafetensors(path.join(headless, "model.safetensors"), Object.fromEntries(body));
    const before = await liveTensors();
    const error = await failure(load({}, headless));
    expect(error).toBeInstanceOf(mp.CheckpointError);
    expect(error.message).toMatch(/lacks .*classifier\.weight.*fine-tune it first/);
    expect(mp.memory.tensorCount()).toBe(before);

    const mixed = path.join(root, "mixed");
    await saveTinyClassifier(mixed, { vocabSize: 6 });
    const classify = await load({}, mixed);
    const unknown = await failure(classify(["", "great"]));
    expect(unknown).toBeInstanceOf(mp.DataError);
    expect(unknown.message).toMatch(/texts\[1\] has the token \d+, the model knows 6 tokens/);
    classify.dispose();

    await rm(path.join(mixed, "tokenizer.json"));
    expect(await failure(load({}, mixed))).toBeInstanceOf(mp.DataError);
  });
});
