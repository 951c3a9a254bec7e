import * as huggingFace from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { ChunkEncoder, plainCharacters, splitsAtSpaces } from "../../lib/data/chunk-encoder.js";
import { loadBuiltinReviews } from "../../lib/data/text-dataset.js";
import { TextTokenizer } from "../../lib/data/tokenizer.js";

interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}
const { Tokenizer } = huggingFace as unknown as {
  Tokenizer: new (json: object, config: object) => Library;
};

type Json = Record<string, unknown>;

const { texts } = await loadBuiltinReviews();
const trained = TextTokenizer.train(
  // Letters of other scripts too, so that what is compared is not [UNK] throughout.
  [
    ...texts.slice(0, 500),
    "Ünïcödé ÀÉÎ ñ Σίσυφος ΟΔΟΣ straße İstanbul мир 東京 한국어 हिन्दी ﬁ ½ 1️⃣ x̂ ß ſ",
  ],
  { vocabSize: 1500, minFrequency: 1 },
);

/** The tokenizer with other settings, as ours and as Hugging Face's library alone. */
function pair(change: (json: Json) => Json = (json) => json, config: Json = {}) {
  const json = change(structuredClone(trained.definition().json));
  const ours = new TextTokenizer(json, config);
  const library = new Tokenizer({ added_tokens: [], ...json }, config);
  const expected = (text: string): number[] =>
    text === "" ? [] : library.encode(text, { add_special_tokens: false }).ids;
  return { ours, expected };
}

const SPACES = [
  ..." \t\n\r\v\f\u0085\u00a0\u1680\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff",
];
const PIECES = [
  ...SPACES,
  ...[
    "\u0000",
    "\u001f",
    "\u007f",
    "\u00ad",
    "\ufffd",
    "\ud800",
    "\udc00",
    "\u0301",
    "\u0300\u0323",
  ],
  ...[
    "[CLS]",
    "[MASK]",
    "[UNK]",
    "[PAD",
    "]",
    "...",
    "don't",
    "—",
    "。",
    "東京",
    "\u{20000}",
    "😀",
  ],
  ...[
    "Σ",
    "ΑΣ",
    "ς",
    "İ",
    "ı",
    "ß",
    "ǅ",
    "é",
    "e\u0301",
    "Å",
    "한",
    "ﬁ",
    "½",
    "the",
    "actor",
    "WAS",
  ],
];
const text = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...PIECES) },
      { weight: 2, arbitrary: fc.constantFrom(...texts.slice(0, 50)) },
      { weight: 3, arbitrary: fc.string({ unit: "binary", maxLength: 6 }) },
      fc.constantFrom("x".repeat(101), "é".repeat(60)),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => pieces.join(""));

const withTokens =
  (...contents: string[]) =>
  (json: Json) => ({
    ...json,
    added_tokens: [
      ...(json.added_tokens as Json[]),
      ...contents.map((content, i) => ({
        content,
        id: 1500 + i,
        special: false,
        normalized: true,
      })),
    ],
  });

const variants: [string, (json: Json) => Json, Json?][] = [
  ["BERT's, uncased", (json) => json],
  [
    "BERT's, cased",
    (json) => ({
      ...json,
      normalizer: { ...(json.normalizer as Json), lowercase: false, strip_accents: false },
    }),
  ],
  [
    "without cleaning",
    (json) => ({ ...json, normalizer: { type: "BertNormalizer", lowercase: true } }),
  ],
  ["removing spaces itself", (json) => json, { remove_space: true }],
  ["with added tokens", withTokens("acto", "Was", "n't", "é", "..")],
  ["lowering itself", (json) => json, { do_lowercase_and_remove_accent: true }],
];

const none = new Uint8Array(128);

describe("encoding chunk by chunk", () => {
  it.each(variants)("gives what Hugging Face's library gives: %s", (_, change, config) => {
    const { ours, expected } = pair(change, config);
    fc.assert(
      fc.property(text, (sample) => {
        expect(ours.encodeContent(sample)).toEqual(expected(sample));
        // The second time it is remembered.
        expect(ours.encodeContent(sample)).toEqual(expected(sample));
      }),
      { numRuns: 300 },
    );
  });

  it("is the same around every character below U+3100", () => {
    const { ours, expected } = pair();
    for (let code = 0; code < 0x3100; code++) {
      const sample = `The${String.fromCharCode(code)}Actor`;
      if (ours.encodeContent(sample).join() !== expected(sample).join()) {
        expect.fail(`U+${code.toString(16)}: ${String(ours.encodeContent(sample))}`);
      }
    }
  });

  it("stops where enough is there", () => {
    const encoder = new ChunkEncoder((chunk) => [chunk.length, 0], none);
    expect(encoder.ids("a bb  ccc", 3)).toEqual([1, 0, 2, 0]);
    expect(encoder.ids(" a\n")).toEqual([1, 0]);
    expect(trained.encode(texts[0]!, { maxLength: 5 })).toEqual([
      ...trained.encode(texts[0]!).slice(0, 4),
      ...trained.specialIds.after,
    ]);
  });

  it("asks once for a chunk that comes again, and forgets the ones of long ago", () => {
    const asked: string[] = [];
    const encoder = new ChunkEncoder((chunk) => {
      asked.push(chunk);
      return [chunk.length];
    }, none);
    encoder.ids("x y x");
    expect(asked).toEqual(["x", "y"]);
    for (let i = 0; i < 140_000; i++) encoder.ids(`w${i}`);
    encoder.ids("x w139999");
    expect(asked.filter((chunk) => chunk === "x")).toHaveLength(2);
    expect(asked.filter((chunk) => chunk === "w139999")).toHaveLength(1);
  });

  it("takes words apart that are ASCII, but nothing that an added token may begin in", () => {
    const asked: string[] = [];
    const { json } = trained.definition();
    const encode = (chunk: string) => {
      asked.push(chunk);
      return [chunk.length];
    };
    const encoder = new ChunkEncoder(encode, plainCharacters(json, null));
    expect(encoder.ids("don't, (stop)... caf\u00e9, a[b] x\u0001y")).toEqual([
      ...[3, 1, 1, 1, 1, 4, 1, 1, 1, 1, 5, 4, 3],
    ]);
    expect(asked).toEqual([
      "don",
      "'",
      "t",
      ",",
      "(",
      "stop",
      ")",
      ".",
      "café,",
      "a[b]",
      "x\u0001y",
    ]);
  });

  it("is left alone where white space means more", () => {
    const { json } = trained.definition();
    const token = (content: string) => ({ content, id: 5, special: false, normalized: true });
    const spaced = (text: string) => text.replace("中", " 中 ");
    expect(splitsAtSpaces(json, null)).toBe(true);
    expect(splitsAtSpaces({ ...json, added_tokens: [token("a b")] }, null)).toBe(false);
    expect(splitsAtSpaces({ ...json, added_tokens: [token("a中")] }, spaced)).toBe(false);
    expect(splitsAtSpaces({ ...json, added_tokens: [token("a")] }, spaced)).toBe(true);
    expect(splitsAtSpaces({ ...json, pre_tokenizer: { type: "ByteLevel" } }, null)).toBe(false);
    expect(splitsAtSpaces({ ...json, normalizer: null }, null)).toBe(false);
    expect(splitsAtSpaces({ ...json, model: { type: "BPE" } }, null)).toBe(false);
  });
});
