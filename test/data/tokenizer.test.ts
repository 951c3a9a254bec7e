import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { loadBuiltinReviews } from "../../lib/data/text-dataset.js";
import { TextTokenizer } from "../../lib/data/tokenizer.js";
import { trainWordPiece } from "../../lib/data/wordpiece-trainer.js";
import { ArgumentError, DataError } from "../../lib/errors.js";

let directory: string;
let texts: readonly string[];
let tokenizer: TextTokenizer;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-tokenizer-"));
  ({ texts } = await loadBuiltinReviews());
  tokenizer = TextTokenizer.train(texts, { vocabSize: 2000 });
});
afterAll(() => rm(directory, { recursive: true }));

describe("trainWordPiece", () => {
  const train = (words: Record<string, number>, vocabSize: number, minFrequency = 2) =>
    trainWordPiece(new Map(Object.entries(words)), {
      vocabSize,
      minFrequency,
      specialTokens: ["[U]"],
    });

  it("joins the most frequent pair first, and the first in order on a tie", () => {
    // ##u ##g: 36, p ##u: 17, h ##u: 15, then h ##ug: 15.
    const words = { hug: 10, pug: 5, pun: 12, bun: 4, hugs: 5 };
    expect(train(words, 13)).toEqual([
      "[U]",
      "##g",
      "##n",
      "##s",
      "##u",
      "b",
      "h",
      "p",
      "##ug",
      "##un",
      "hug",
      "pun",
      "hugs",
    ]);
  });

  it("stops where pairs are too rare", () => {
    expect(train({ ab: 1 }, 100)).toEqual(["[U]", "##b", "a"]);
    expect(train({ ab: 1 }, 100, 1)).toEqual(["[U]", "##b", "a", "ab"]);
  });

  it("handles repeated letters", () => {
    expect(train({ aaaa: 5 }, 100)).toEqual(["[U]", "##a", "a", "##aa", "##aaa", "aaaa"]);
  });

  it("rejects a size below the characters", () => {
    expect(() => train({ ab: 5 }, 2)).toThrow(/expected at least 3 .* got 2/);
    expect(() => train({ ab: 5 }, NaN)).toThrow(ArgumentError);
  });
});

describe("a trained tokenizer", () => {
  it("has the size asked for, and BERT's special tokens", () => {
    expect(tokenizer.vocabSize).toBe(2000);
    expect(tokenizer.padId).toBe(0);
    expect(["[UNK]", "[CLS]", "[SEP]", "[MASK]"].map((t) => tokenizer.tokenId(t))).toEqual([
      1, 2, 3, 4,
    ]);
  });

  it("knows every word of what it was trained on", () => {
    const unknown = tokenizer.tokenId("[UNK]");
    for (const text of texts) expect(tokenizer.encode(text)).not.toContain(unknown);
  });

  it("is the same from the same texts, and after a round trip through files", async () => {
    await tokenizer.save(directory);
    const loaded = await TextTokenizer.fromDirectory(directory);
    const again = TextTokenizer.train(texts, { vocabSize: 2000 });
    for (const text of texts.slice(0, 200)) {
      expect(loaded.encode(text)).toEqual(tokenizer.encode(text));
      expect(again.encode(text)).toEqual(tokenizer.encode(text));
    }
    expect(loaded.vocabSize).toBe(2000);
  });

  it("decodes to the lower-cased text", () => {
    expect(tokenizer.decode(tokenizer.encode("The lead actor was terrible."))).toBe(
      "the lead actor was terrible.",
    );
  });

  it("cuts text, not special tokens", () => {
    const ids = tokenizer.encode(texts[0]!);
    expect(tokenizer.encode(texts[0]!, { maxLength: 6 })).toEqual([...ids.slice(0, 5), 3]);
    expect(tokenizer.encode("", { maxLength: 3 })).toEqual([2, 3]);
    expect(tokenizer.encode(" \n")).toEqual([2, 3]);
    for (const maxLength of [2, 0, NaN, 4.5]) {
      expect(() => tokenizer.encode("a", { maxLength })).toThrow(ArgumentError);
    }
  });

  it("encodes a batch with padding and mask", () => {
    const short = tokenizer.encode("good");
    const batch = tokenizer.encodeBatch(["good", "the actor was great"]);
    expect(batch.shape[0]).toBe(2);
    expect([...batch.inputIds.slice(0, batch.shape[1])]).toEqual([
      ...short,
      ...new Array<number>(batch.shape[1] - short.length).fill(0),
    ]);
    expect(batch.attentionMask.slice(0, batch.shape[1]).reduce((a, b) => a + b)).toBe(short.length);
    const full = tokenizer.encodeBatch(["good"], { maxLength: 32, padding: "max-length" });
    expect(full.shape).toEqual([1, 32]);
    expect(() => tokenizer.encodeBatch(["a"], { padding: "max-length" })).toThrow(ArgumentError);
  });
});

describe("Hugging Face's behaviour", () => {
  // ids are what BertTokenizerFast of bert-base-uncased does with this small vocabulary.
  const vocabulary = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##aff",
    "##able",
    "hello",
    ",",
    "world",
    "!",
    "cafe",
    "中",
    "国",
    "##s",
  ];

  async function make(
    change: (json: { model: Record<string, unknown> }) => void = () => undefined,
  ) {
    const { readFile } = await import("node:fs/promises");
    await tokenizer.save(directory);
    const text = await readFile(path.join(directory, "tokenizer.json"), "utf8");
    const json = JSON.parse(text) as { model: Record<string, unknown> };
    json.model.vocab = Object.fromEntries(vocabulary.map((token, id) => [token, id]));
    change(json);
    return new TextTokenizer(json);
  }

  it.each<[string, string[]]>([
    ["unaffable", ["un", "##aff", "##able"]],
    ["Hello, WORLD!", ["hello", ",", "world", "!"]],
    ["Café cafés", ["cafe", "cafe", "##s"]],
    ["中国", ["中", "国"]],
    ["unaffablex hello", ["[UNK]", "hello"]],
    ["hello\tworld\u0000\u00a0!", ["hello", "world", "!"]],
    ["hello[SEP]world", ["hello", "[SEP]", "world"]],
    ["h".repeat(101), ["[UNK]"]],
  ])("tokenizes %j", async (text, tokens) => {
    const small = await make();
    expect(small.tokenize(text)).toEqual(tokens);
    const ids = tokens.map((token) => vocabulary.indexOf(token));
    expect(small.encode(text)).toEqual([2, ...ids, 3]);
  });

  it.each<[string, (json: { model: Record<string, unknown> }) => void]>([
    ["no model", (json) => delete (json as Record<string, unknown>).model],
    ["no vocabulary", (json) => delete json.model.vocab],
    ["an id twice", (json) => (json.model.vocab = { "[UNK]": 0, a: 0 })],
    ["an id that is no number", (json) => (json.model.vocab = { "[UNK]": "0" })],
    ["an unknown token outside", (json) => (json.model.unk_token = "nope")],
    ["an unknown model", (json) => (json.model.type = "Nope")],
    ["an unknown normalizer", (json) => Object.assign(json, { normalizer: { type: "Nope" } })],
  ])("rejects %s with a DataError", async (_, change) => {
    await expect(make(change)).rejects.toThrow(DataError);
  });

  it("names a file that is missing or broken", async () => {
    const empty = await mkdtemp(path.join(directory, "none-"));
    await expect(TextTokenizer.fromDirectory(empty)).rejects.toThrow(
      /tokenizer.json: cannot be rea/,
    );
    await writeFile(path.join(empty, "tokenizer.json"), "{");
    await expect(TextTokenizer.fromDirectory(empty)).rejects.toThrow(/tokenizer.json: not JSON/);
    await writeFile(path.join(empty, "tokenizer.json"), "[]");
    await expect(TextTokenizer.fromDirectory(empty)).rejects.toThrow(DataError);
    await tokenizer.save(empty);
    await writeFile(path.join(empty, "tokenizer_config.json"), "?");
    await expect(TextTokenizer.fromDirectory(empty)).rejects.toThrow(
      /tokenizer_config.json: not JS/,
    );
  });
});
