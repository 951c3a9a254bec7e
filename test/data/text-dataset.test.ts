import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { loadBuiltinReviews, loadTextDataset } from "../../lib/data/text-dataset.js";
import { ArgumentError, DataError } from "../../lib/errors.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-data-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const file = path.join(directory, name);
  await writeFile(file, content);
  return file;
}

describe("loadTextDataset", () => {
  it.each([
    ["plain", "text,label\ngood,1\nbad,0\n"],
    ["CRLF", "text,label\r\ngood,1\r\nbad,0\r\n"],
    ["byte order mark", "\ufefftext,label\ngood,1\nbad,0"],
    ["other columns, other order", "id,label,text\n1,1,good\n2,0,bad\n"],
    ["blank lines", "text,label\n\ngood,1\n\nbad,0\n\n"],
  ])("reads CSV: %s", async (_, content) => {
    const dataset = await loadTextDataset(await write("ok.csv", content));
    expect(dataset).toEqual({
      texts: ["good", "bad"],
      labels: [1, 0],
      labelNames: ["0", "1"],
      badRows: { count: 0, rows: [] },
    });
  });

  it("reads quoted commas, quotes and line breaks", async () => {
    const content = 'text,label\n"a, ""b""\nc",no\nd,yes\n';
    const dataset = await loadTextDataset(await write("quoted.csv", content));
    expect(dataset.texts).toEqual(['a, "b"\nc', "d"]);
    expect(dataset.labels).toEqual([0, 1]);
    expect(dataset.labelNames).toEqual(["no", "yes"]);
  });

  it("reads JSON Lines, with numbers and names as labels", async () => {
    const numbers = '\ufeff{"text":"a","label":0}\r\n\r\n{"text":"b","label":1}\r\n';
    expect((await loadTextDataset(await write("n.jsonl", numbers))).labels).toEqual([0, 1]);
    const names = '{"review":"a","stars":"b"}\n{"review":"c","stars":"a"}';
    const options = { textColumn: "review", labelColumn: "stars" };
    const dataset = await loadTextDataset(await write("names.jsonl", names), options);
    expect(dataset).toMatchObject({
      texts: ["a", "c"],
      labels: [1, 0],
      labelNames: ["a", "b"],
    });
  });

  it("maps labels to the classes that are given", async () => {
    const file = await write("given.csv", "text,label\na,good\nb,good\n");
    const { labels } = await loadTextDataset(file, { labelNames: ["good", "bad"] });
    expect(labels).toEqual([0, 0]);
    await expect(loadTextDataset(file, { labelNames: ["bad", "worse"] })).rejects.toThrow(
      /line 2: label "good" out of range — expected one of "bad", "worse"/,
    );
  });

  it.each<[string, string, string | Uint8Array, RegExp]>([
    ["missing column", "a.csv", "txt,label\na,0\n", /no column "text" — columns found: "txt", "l/],
    ["both missing", "a.csv", "a\n1\n", /no column "text" and "label" — columns found: "a"/],
    ["column twice", "a.csv", "text,label,text\na,0,b\n", /"text" stands there twice/],
    ["empty file", "a.csv", "", /the file is empty/],
    ["empty lines only", "a.csv", "\n\n", /the file is empty/],
    ["header only", "a.csv", "text,label\n", /no rows after the header/],
    ["open quote", "a.csv", 'text,label\na,0\n"b,1\n', /line \d: broken quotes: .* not closed/],
    ["text after quote", "a.csv", 'text,label\n"b"c,1\n', /line 2: broken quotes: text follows/],
    ["quote inside", "a.csv", 'text,label\nb"c",1\n', /line 2: broken quotes: a quote inside/],
    ["too many fields", "a.csv", "text,label\na,0\na,b,0\n", /line 3: expected 2 fields .* got 3/],
    ["too few fields", "a.csv", "text,label\na\n", /line 2: expected 2 fields .* got 1/],
    [
      "label not integer",
      "a.csv",
      "text,label\na,0.5\nb,1\n",
      /line 2: label 0.5 — expected a who/,
    ],
    ["label negative", "a.csv", "text,label\na,0\nb,-1\n", /line 3: label -1 out of range/],
    ["label too large", "a.csv", "text,label\na,0\nb,7\n", /line 3: label 7 .* expected 0 to 1/],
    ["label huge", "a.csv", "text,label\na,0\nb,1e300\n", /line 3: label 1e300 out of range/],
    ["label infinite", "a.csv", "text,label\na,0\nb,Infinity\n", /line 3: label Infinity/],
    [
      "labels mixed",
      "a.csv",
      "text,label\na,0\nb,good\n",
      /line 3: .*mixed: number 0 in line 2, na/,
    ],
    ["label empty", "a.csv", "text,label\na,\nb,1\n", /line 2: the label is empty/],
    ["one class", "a.csv", "text,label\na,0\nb,0\n", /all labels are 0 — expected at least two/],
    ["text empty", "a.csv", 'text,label\na,0\n"  ",1\n', /line 3: the text is empty/],
    ["later line", "a.csv", 'text,label\n"a\nb",0\n,1\n', /line 4: the text is empty/],
    ["multi-line row", "a.csv", 'text,label\na,0\n"b\nc",x\n', /line 3: .*mixed/],
    [
      "not UTF-8",
      "a.csv",
      Buffer.from("text,label\na\xff,0\n", "latin1"),
      /line 2: .*0xff at offset 1 of column "text"/,
    ],
    ["cut character", "a.csv", Buffer.from([0x61, 0xe2, 0x82]), /line 1: .*byte 0xe2 at offset 1/],
    ["UTF-16", "a.csv", Buffer.from("\ufefftext,label\n", "utf16le"), /byte offset 0 .*UTF-16/],
    ["wrong extension", "a.txt", "text,label\na,0\n", /expected a file .csv, .* got ".txt"/],
    ["JSON broken", "a.jsonl", '{"text":"a","label":0}\n{"text"\n', /line 2: not JSON/],
    ["JSON array", "a.jsonl", '["a",0]\n', /line 1: expected a JSON object, got array of 2/],
    ["JSON empty", "a.jsonl", "\n", /the file is empty/],
    [
      "JSON column",
      "a.jsonl",
      '{"text":"a"}\n',
      /line 1: no column "label" — columns found: "text"/,
    ],
    ["JSON text", "a.jsonl", '{"text":5,"label":0}\n', /line 1: expected a text, got 5/],
    [
      "JSON label",
      "a.jsonl",
      '{"text":"a","label":true}\n',
      /line 1: label — expected .* got true/,
    ],
  ])("names what is wrong: %s", async (_, name, content, message) => {
    const file = await write(name, content);
    const error: unknown = await loadTextDataset(file).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toContain(file);
    expect((error as DataError).message).toMatch(message);
  });

  it("names a file that is not there, and a directory", async () => {
    const missing = path.join(directory, "none.csv");
    await expect(loadTextDataset(missing)).rejects.toThrow(/cannot be read: ENOENT/);
    const { mkdir } = await import("node:fs/promises");
    await mkdir(path.join(directory, "folder.csv"));
    const folder = loadTextDataset(path.join(directory, "folder.csv"));
    await expect(folder).rejects.toThrow(DataError);
  });

  it("rejects one column for both", async () => {
    await expect(loadTextDataset("a.csv", { textColumn: "label" })).rejects.toThrow(ArgumentError);
  });
});

describe("the built-in reviews", () => {
  it("are what the generator makes, in two classes of about the same size", async () => {
    const { readFile } = await import("node:fs/promises");
    const { builtin, generateReviews, toCsv } = await import("../../scripts/generate-reviews.mjs");
    const { BUILTIN_REVIEWS_FILE } = await import("../../lib/data/text-dataset.js");
    expect(toCsv(generateReviews(builtin))).toBe(await readFile(BUILTIN_REVIEWS_FILE, "utf8"));
    const { texts, labels, labelNames } = await loadBuiltinReviews();
    expect(labelNames).toEqual(["negative", "positive"]);
    expect(texts).toHaveLength(8000);
    const positive = labels.filter((label) => label === 1).length / labels.length;
    expect(Math.abs(positive - 0.5)).toBeLessThan(0.03);
    expect(new Set(texts).size / texts.length).toBeGreaterThan(0.99);
  });
});
