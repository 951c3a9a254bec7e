import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";

import {
  batchesOf,
  encodeData,
  fromHub,
  joinedSamples,
  openData,
  samplesOf,
  trainingTextsOf,
  type DataOptions,
  type Samples,
} from "../../lib/cli/finetune/dataset.js";
import { TextTokenizer } from "../../lib/data/index.js";
import { DataError } from "../../lib/errors.js";
import { HubServer } from "../helpers/hub-server.js";

const builtin: DataOptions = {
  data: null,
  validationData: null,
  testData: null,
  validationShare: 0.1,
  testShare: 0.3,
  badRows: "fail",
  cache: null,
  workers: null,
  textColumn: "text",
  labelColumn: "label",
  seed: 1,
};

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-cli-data-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function trainOn(options: DataOptions) {
  const source = await openData(options);
  const texts: string[] = [];
  for await (const text of trainingTextsOf(source)) texts.push(text);
  return { source, texts, tokenizer: TextTokenizer.train(texts, { vocabSize: 1000 }) };
}

const idsOf = (part: Samples): number[][] =>
  Array.from({ length: part.length }, (_, i) => Array.from(part.get(i).ids));

const labelsOf = (part: Samples): number[] =>
  Array.from({ length: part.length }, (_, i) => part.get(i).label);

describe("the data of a run", () => {
  it("is the built-in reviews, split by the seed: 60, 10 and 30 of a hundred", async () => {
    const runs = await Promise.all([1, 1, 2].map((seed) => trainOn({ ...builtin, seed })));
    const { tokenizer } = runs[0]!;
    const [one, again, other] = await Promise.all(
      runs.map(async ({ source }) =>
        (await encodeData(source, tokenizer, null, false)).samples(64),
      ),
    );
    const sizes = [one!.train, one!.validation, one!.test].map((part) => part.length);
    expect(sizes).toEqual([4800, 800, 2400]);
    expect(idsOf(again!.train)).toEqual(idsOf(one!.train));
    expect(labelsOf(again!.test)).toEqual(labelsOf(one!.test));
    expect(idsOf(other!.test)).not.toEqual(idsOf(one!.test));
    // The tokenizer sees what is trained on, in the order of the file, and nothing else.
    const seen = runs[0]!.texts.map((text) => tokenizer.encode(text, { maxLength: 64 }).join());
    expect(seen.sort()).toEqual(
      idsOf(one!.train)
        .map((ids) => ids.join())
        .sort(),
    );
  });

  it("numbers classes as the head does that is trained on, where it has the same", async () => {
    const { source, tokenizer } = await trainOn(builtin);
    const encode = (names: string[] | null) => encodeData(source, tokenizer, names, false);
    const [own, turned, strange] = await Promise.all([
      encode(null),
      encode(["positive", "negative"]),
      encode(["positive", "neutral"]),
    ]);
    expect(own.labelNames).toEqual(["negative", "positive"]);
    expect(turned.labelNames).toEqual(["positive", "negative"]);
    expect(strange.labelNames).toEqual(["negative", "positive"]);
    expect(labelsOf(turned.samples(8).train)).toEqual(
      labelsOf(own.samples(8).train).map((label) => 1 - label),
    );
  });

  it("takes the parts from files where there are some", async () => {
    const rows = (name: string, count: number) =>
      Array.from({ length: count }, (_, i) => `${name} ${i},${i % 2 === 0 ? "no" : "yes"}\n`);
    const data = path.join(directory, "set");
    await mkdir(data);
    const write = (name: string, count: number) =>
      writeFile(path.join(data, `${name}.csv`), `text,label\n${rows(name, count).join("")}`);
    await Promise.all([write("train", 20), write("test", 6)]);
    const own = path.join(directory, "own.csv");
    await writeFile(own, `text,label\n${rows("own", 8).join("")}`);

    const { source, tokenizer } = await trainOn({ ...builtin, data, testShare: 0.9 / 2 });
    const parts = (await encodeData(source, tokenizer, null, false)).samples(8);
    expect([parts.train, parts.validation, parts.test].map((p) => p.length)).toEqual([18, 2, 6]);
    const given = await openData({ ...builtin, data, validationData: own });
    const all = (await encodeData(given, tokenizer, null, false)).samples(8);
    expect([all.train, all.validation, all.test].map((p) => p.length)).toEqual([20, 8, 6]);
  });

  it("keeps token ids where it is told to, and leaves out bad rows where it may", async () => {
    const data = path.join(directory, "bad.csv");
    const rows = Array.from({ length: 30 }, (_, i) => `some text ${i},${i % 2}\n`);
    await writeFile(data, `text,label\n${rows.join("")},1\nmore,x,y\n`);
    const cache = path.join(directory, "kept");
    await expect(trainOn({ ...builtin, data, cache })).rejects.toThrow(
      /bad.csv, line 32: the text is empty/,
    );
    const { source, tokenizer } = await trainOn({ ...builtin, data, cache, badRows: "skip" });
    const made = await encodeData(source, tokenizer, null, true);
    expect(made.badRows.count).toBe(2);
    expect(made.badRows.rows.map(({ at }) => at)).toEqual([32, 33]);
    expect(made.caches).toEqual(["made"]);
    expect(await readdir(cache)).toHaveLength(1);
    const again = await encodeData(source, tokenizer, null, true);
    expect(again.caches).toEqual(["hit"]);
    expect(again.badRows).toEqual(made.badRows);
    expect(idsOf(again.samples(8).train)).toEqual(idsOf(made.samples(8).train));
    expect((await encodeData(source, tokenizer, null, false)).caches).toEqual(["off"]);
  });

  it("asks for a data set that is no path", async () => {
    const file = path.join(directory, "asked");
    await mkdir(file);
    await writeFile(path.join(file, "data.jsonl"), '{"text":"a","label":0}\n');
    const asked: string[] = [];
    const resolve = (name: string) => {
      asked.push(name);
      return Promise.resolve(file);
    };
    const { files } = await openData({ ...builtin, data: "owner/name" }, undefined, resolve);
    expect(asked).toEqual(["owner/name"]);
    expect(files.train).toEqual([{ kind: "jsonl", path: path.join(file, "data.jsonl") }]);
  });
});

describe("a data set on the hub", () => {
  it("is downloaded, its data files alone", async () => {
    const server = await HubServer.start();
    try {
      const rows = ["a,0", "b,1", "c,0"].join("\n");
      const files = { "README.md": "# it", "train.csv": `text,label\n${rows}\n` };
      server.repos.set("owner/name", { files, repoType: "dataset" });
      vi.stubEnv("HF_ENDPOINT", server.endpoint);
      vi.stubEnv("HF_HUB_CACHE", path.join(directory, "hub"));
      const found = await openData({ ...builtin, data: "owner/name" }, undefined, fromHub());
      const file = found.files.train[0]!.path;
      expect(await readFile(file, "utf8")).toBe(files["train.csv"]);
      expect(await readdir(path.dirname(file))).toEqual(["train.csv"]);
    } finally {
      vi.unstubAllEnvs();
      await server.stop();
    }
  });
});

describe("samplesOf", () => {
  it("joins samples of one class up to the length, after they were split", async () => {
    const { source, tokenizer } = await trainOn(builtin);
    const encoded = await encodeData(source, tokenizer, null, false);
    const { vocabSize } = tokenizer;
    const short = samplesOf(encoded, { maxLength: 512, vocabSize });
    const long = samplesOf(encoded, { maxLength: 512, vocabSize, join: true });
    const [cls, sep] = [tokenizer.tokenId("[CLS]"), tokenizer.tokenId("[SEP]")];
    for (const part of ["train", "validation", "test"] as const) {
      const ids = idsOf(long[part]);
      expect(new Set(labelsOf(long[part]))).toEqual(new Set([0, 1]));
      expect(Array.from(long[part].lengths)).toEqual(ids.map(({ length }) => length));
      // They nearly fill the model: no text of these is longer than 100 tokens.
      for (const sample of ids) {
        expect(sample.length).toBeGreaterThan(412);
        expect(sample.length).toBeLessThanOrEqual(512);
        expect([sample[0], sample.at(-1)]).toEqual([cls, sep]);
        expect(sample.slice(1, -1)).not.toContain(sep);
      }
      // The first of a class begins with the first text of it.
      const first = labelsOf(short[part]).indexOf(1);
      const joined = ids[labelsOf(long[part]).indexOf(1)]!;
      const text = idsOf(short[part])[first]!.slice(0, -1);
      expect(joined.slice(0, text.length)).toEqual(text);
    }
    // A batch of 12 has several steps in an epoch.
    expect(long.train.length).toBeGreaterThan(180);
  });

  it("leaves out what does not fill a sample", () => {
    const samples = [
      [1, 5, 2],
      [1, 6, 7, 2],
      [1, 8, 2],
    ].map((ids) => ({ ids, label: 0 }));
    const part = {
      length: 3,
      lengths: new Int32Array(3),
      truncated: 0,
      get: (i: number) => samples[i]!,
    };
    const joined = joinedSamples(part, 5);
    expect(idsOf(joined)).toEqual([[1, 5, 6, 7, 2]]);
    expect(idsOf(joinedSamples(part, 4))).toEqual([
      [1, 5, 2],
      [1, 6, 7, 2],
    ]);
    expect(joinedSamples(part, 100).length).toBe(0);
  });

  it("cuts off at maxLength, special tokens kept, and counts what was cut", async () => {
    const { source, tokenizer } = await trainOn(builtin);
    const encoded = await encodeData(source, tokenizer, null, false);
    const { vocabSize } = tokenizer;
    const whole = samplesOf(encoded, { maxLength: 512, vocabSize });
    expect(whole.truncated).toBe(0);
    const data = samplesOf(encoded, { maxLength: 8, vocabSize });
    const parts = ["train", "validation", "test"] as const;
    const long = parts.flatMap((part) => idsOf(whole[part])).filter((ids) => ids.length > 8);
    expect(data.truncated).toBe(long.length);
    expect(long.length).toBeGreaterThan(0);
    const [cls, sep] = [tokenizer.tokenId("[CLS]"), tokenizer.tokenId("[SEP]")];
    for (const part of parts) {
      idsOf(data[part]).forEach((ids, i) => {
        expect(ids.length).toBeLessThanOrEqual(8);
        expect(ids.length).toBe(data[part].lengths[i]);
        expect([ids[0], ids.at(-1)]).toEqual([cls, sep]);
      });
    }
  });

  it("refuses ids that the model does not have", () => {
    const encoded = { maxId: 6, samples: () => expect.fail() };
    const small = () => samplesOf(encoded, { maxLength: 8, vocabSize: 6 });
    expect(small).toThrow(DataError);
    expect(small).toThrow(/the model has 6 tokens; tokenizer.json and config.json do not belong/);
  });
});

describe("batchesOf", () => {
  const ids = [[5], [5, 6], [5, 6, 7], [8], [9, 9]];
  const samples = {
    length: ids.length,
    lengths: Int32Array.from(ids, (list) => list.length),
    truncated: 0,
    get: (i: number) => ({ ids: ids[i]!, label: i }),
  };
  const options = { batchSize: 2, padId: 0, maxLength: 4, padding: "longest" } as const;

  it("pads to the longest text of a batch, or to maxLength with the texts as they come", () => {
    const batches = (padding: "longest" | "max-length") =>
      [...batchesOf(samples, { ...options, padding })].map(({ shape, labels }) => ({
        shape,
        labels: [...labels],
      }));
    expect(batches("longest")).toEqual([
      { shape: [2, 3], labels: [2, 1] },
      { shape: [2, 2], labels: [4, 0] },
      { shape: [1, 1], labels: [3] },
    ]);
    expect(batches("max-length")).toEqual([
      { shape: [2, 4], labels: [0, 1] },
      { shape: [2, 4], labels: [2, 3] },
      { shape: [1, 4], labels: [4] },
    ]);
  });

  it("keeps labels and texts together in each new order, which the seed decides", () => {
    const epochs = (seed: number) => {
      const loader = batchesOf(samples, { ...options, shuffleSeed: seed });
      return [0, 1].map(() =>
        [...loader].flatMap(({ labels, shape, inputIds, attentionMask }) =>
          [...labels].map((label, row) => {
            const at = row * shape[1];
            const content = [...inputIds.subarray(at, at + shape[1])];
            const length = attentionMask.subarray(at, at + shape[1]).reduce((a, b) => a + b, 0);
            expect(content.slice(0, length)).toEqual(ids[label]);
            return label;
          }),
        ),
      );
    };
    const [first, second] = epochs(3);
    expect([...first!].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(second).not.toEqual(first);
    expect(epochs(3)).toEqual([first, second]);
    expect(epochs(4)).not.toEqual([first, second]);
  });
});
