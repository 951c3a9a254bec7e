import { spawn } from "node:child_process";
import {
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  utimes,
  writeFile,
} from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { loadBuiltinReviews } from "../../lib/data/text-dataset.js";
import { encodeDataset, trainingTexts } from "../../lib/data/token-dataset.js";
import {
  defaultCacheDirectory,
  encodeFile,
  type EncodeFileOptions,
} from "../../lib/data/token-cache.js";
import { openTokenStore, type TokenStore } from "../../lib/data/token-store.js";
import { TextTokenizer } from "../../lib/data/tokenizer.js";
import { DataError } from "../../lib/errors.js";
import { compileLibrary } from "../helpers/compiled-lib.js";

let directory: string;
let cache: string;
let texts: readonly string[];
let tokenizer: TextTokenizer;
let data: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-token-cache-"));
  texts = (await loadBuiltinReviews()).texts.slice(0, 1500);
  tokenizer = TextTokenizer.train(texts, { vocabSize: 800 });
  data = path.join(directory, "data.csv");
  await writeFile(data, csvOf(texts));
});
afterAll(() => rm(directory, { recursive: true }));
beforeEach(async () => {
  cache = await mkdtemp(path.join(directory, "cache-"));
});

const csvOf = (rows: readonly string[]): string =>
  `text,label\n${rows.map((text, i) => `"${text}",${i % 3 === 0 ? "no" : "yes"}\n`).join("")}`;

const encode = (options: EncodeFileOptions = {}, file = data, by = tokenizer) =>
  encodeFile({ kind: "csv", path: file }, by, { cacheDirectory: cache, ...options });

function expectWhole(store: TokenStore): void {
  expect(store.length).toBe(texts.length);
  texts.forEach((text, i) => {
    expect([...store.content(i)]).toEqual(tokenizer.encode(text).slice(1, -1));
    expect(store.label(i)).toBe(i % 3 === 0 ? "no" : "yes");
  });
  expect(store.place(7)).toEqual({ file: data, unit: "line", at: 9 });
  expect(store.content(3, 2)).toEqual(store.content(3).subarray(0, 2));
  expect(store.lengthOf(3)).toBe(store.content(3).length);
}

const keptFile = async (): Promise<string> => path.join(cache, (await readdir(cache))[0]!);

describe("encodeFile", () => {
  it("makes the token ids once, and reads them from then on, from memory or the disk", async () => {
    const made = await encode();
    expect(made.cache).toBe("made");
    expectWhole(made.store);
    const hit = await encode();
    expect(hit.cache).toBe("hit");
    expectWhole(hit.store);
    const onDisk = openTokenStore(await keptFile(), { mostInMemory: 0 })!;
    expectWhole(onDisk);
    expect(onDisk.maxId).toBe(made.store.maxId);
    onDisk.close();
    expect(() => onDisk.content(0)).toThrow(/it was closed/);
    const off = await encode({ cacheDirectory: null });
    expect(off.cache).toBe("off");
    expectWhole(off.store);
    expect(await readdir(cache)).toHaveLength(1);
  });

  it("tells files, tokenizers and ways of reading apart", async () => {
    const { cache: first } = await encode();
    const other = TextTokenizer.train(texts, { vocabSize: 700 });
    const outcomes = [
      first,
      (await encode({}, data, other)).cache,
      (await encode({ badRows: "skip" })).cache,
      (await encode({ labelColumn: null })).cache,
      (await encode({ quoting: true, textColumn: "text" })).cache,
    ];
    expect(outcomes).toEqual(["made", "made", "made", "made", "hit"]);
    const file = path.join(directory, "changed.csv");
    await writeFile(file, csvOf(texts.slice(0, 20)));
    expect((await encode({}, file)).cache).toBe("made");
    await writeFile(file, csvOf(texts.slice(1, 21)));
    await utimes(file, new Date(), new Date(Date.now() + 5000));
    const { store, cache: second } = await encode({}, file);
    expect(second).toBe("made");
    expect([...store.content(0)]).toEqual(tokenizer.encode(texts[1]!).slice(1, -1));
  });

  it("knows a file by its content where that is asked for", async () => {
    const copy = path.join(directory, "copy.csv");
    await copyFile(data, copy);
    expect((await encode({ identity: "content" })).cache).toBe("made");
    const { cache: outcome, store } = await encode({ identity: "content" }, copy);
    expect(outcome).toBe("hit");
    expect(store.place(0).file).toBe(copy);
    expect((await encode({}, copy)).cache).toBe("made");
  });

  it.each<[string, (bytes: Buffer) => Buffer]>([
    ["empty", () => Buffer.alloc(0)],
    ["cut short", (bytes) => bytes.subarray(0, bytes.length - 100)],
    ["cut in front", (bytes) => bytes.subarray(8)],
    ["one bit of an id is wrong", (bytes) => flip(bytes, 40)],
    ["one bit of the index is wrong", (bytes) => flip(bytes, bytes.length - 3000)],
    ["the length of the footer is wrong", (bytes) => flip(bytes, bytes.length - 16)],
    ["the mark is wrong", (bytes) => flip(bytes, bytes.length - 1)],
    ["it is something else", () => Buffer.from("text,label\n".repeat(100))],
  ])("makes a damaged one again: %s", async (_, damage) => {
    await encode();
    const file = await keptFile();
    const whole = await readFile(file);
    await writeFile(file, damage(Buffer.from(whole)));
    expect(() => openTokenStore(file)).toThrow(DataError);
    const repaired = await encode();
    expect(repaired.cache).toBe("repaired");
    expectWhole(repaired.store);
    expect((await readFile(file)).equals(whole)).toBe(true);
    expect((await encode()).cache).toBe("hit");
  });

  it("stays whole while several write it at once", async () => {
    const all = await Promise.all(Array.from({ length: 5 }, () => encode()));
    for (const { store } of all) expectWhole(store);
    expect(await readdir(cache)).toHaveLength(1);
  });

  it("leaves nothing behind where a row is bad, and remembers what was left out", async () => {
    const file = path.join(directory, "bad.csv");
    await writeFile(file, `text,label\na film,0\n,1\nb,1\n`);
    await expect(encode({}, file)).rejects.toThrow(/bad.csv, line 3: the text is empty/);
    expect(await readdir(cache)).toEqual([]);
    for (const outcome of ["made", "hit"]) {
      const read = await encode({ badRows: "skip" }, file);
      expect(read.cache).toBe(outcome);
      expect(read.store.length).toBe(2);
      expect(read.store.place(1).at).toBe(4);
      expect(read.store.facts.bad).toEqual({
        count: 1,
        rows: [{ file, unit: "line", at: 3, reason: "the text is empty" }],
      });
    }
  });

  it("takes away what a killed process left half written, once it is old", async () => {
    const names = ["old", "new"].map((age) => `.0123.tokens.99-${age}.tmp`);
    for (const name of [...names, "other.tmp"]) await writeFile(path.join(cache, name), "x");
    const past = new Date(Date.now() - 2 * 24 * 3600 * 1000);
    for (const name of [names[0]!, "other.tmp"]) await utimes(path.join(cache, name), past, past);
    await encode();
    const left = (await readdir(cache)).filter((name) => !name.endsWith(".tokens"));
    expect(left.sort()).toEqual([names[1], "other.tmp"]);
  });

  it("says that the cache cannot be written, and that a file is not there", async () => {
    const blocked = path.join(directory, "blocked");
    await writeFile(blocked, "");
    const error: unknown = await encode({ cacheDirectory: blocked }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toMatch(
      /cannot be kept in .*blocked.* name another directory/,
    );
    await expect(encode({}, path.join(directory, "none.csv"))).rejects.toThrow(/cannot be read/);
  });

  it("reports how far it is, and ends where that throws", async () => {
    const seen: number[] = [];
    await encode({ onProgress: (rows) => seen.push(rows) });
    expect(seen.at(-1)).toBe(texts.length);
    expect(seen.length).toBeGreaterThan(1);
    await rm(await keptFile());
    const stop = () => {
      throw new RangeError("enough");
    };
    await expect(encode({ onProgress: stop })).rejects.toThrow("enough");
    expect(await readdir(cache)).toEqual([]);
  });
});

describe("encodeFile with threads and in several processes", () => {
  it("gives the same file, byte for byte", async () => {
    await encode();
    const expected = await readFile(await keptFile());
    const home = path.join(directory, "compiled");
    await mkdir(home);
    const library = (await compileLibrary(home)).replace(/index\.js$/, "");
    await tokenizer.save(home);
    const script = path.join(home, "encode.mjs");
    await writeFile(
      script,
      `import { encodeFile, TextTokenizer } from "${library}data/index.js";
      const [, , cacheDirectory, numWorkers] = process.argv;
      const tokenizer = await TextTokenizer.fromDirectory(${JSON.stringify(home)});
      const file = { kind: "csv", path: ${JSON.stringify(data)} };
      const { store } = await encodeFile(file, tokenizer,
        { cacheDirectory, numWorkers: Number(numWorkers) });
      console.log(store.length);`,
    );
    const run = (workers: string) =>
      new Promise<string>((resolve) => {
        const child = spawn(process.execPath, [script, path.join(home, "cache"), workers]);
        let out = "";
        for (const stream of [child.stdout, child.stderr]) {
          stream.on("data", (part) => (out += String(part)));
        }
        child.on("close", (code) => resolve(`${out.trim()} ${code}`));
      });
    const outcomes = await Promise.all([run("2"), run("0"), run("1")]);
    expect(outcomes).toEqual(["1500 0", "1500 0", "1500 0"]);
    const files = await readdir(path.join(home, "cache"));
    expect(files).toHaveLength(1);
    expect((await readFile(path.join(home, "cache", files[0]!))).equals(expected)).toBe(true);
  });
});

describe("encodeDataset", () => {
  it("parts rows as `trainingTexts` says, cuts texts off and keeps the special tokens", async () => {
    const files = { train: [{ kind: "csv", path: data } as const], validation: [], test: [] };
    const options = { cacheDirectory: null, validation: 0.2, test: 0.2, seed: 4 };
    const set = await encodeDataset("data", files, tokenizer, options);
    const { train, validation, test } = set.samples(9);
    expect([train, validation, test].map(({ length }) => length)).toEqual([900, 300, 300]);
    expect(set.labelNames).toEqual(["no", "yes"]);
    const seen: string[] = [];
    for await (const text of trainingTexts("data", files, options)) seen.push(text);
    const ids = (text: string) => tokenizer.encode(text, { maxLength: 9 }).join();
    const trained = Array.from({ length: train.length }, (_, i) =>
      [...asArray(train.get(i).ids)].join(),
    );
    expect(trained.sort()).toEqual(seen.map(ids).sort());
    const all = [train, validation, test].flatMap((part) =>
      Array.from({ length: part.length }, (_, i) => part.get(i).label),
    );
    expect(all.filter((label) => label === 0)).toHaveLength(500);
    expect(set.maxId).toBeLessThan(tokenizer.vocabSize);
    expect(train.lengths.every((length) => length <= 9)).toBe(true);
    expect(train.truncated).toBe(seen.filter((text) => tokenizer.encode(text).length > 9).length);
    set.close();
    expect(() => train.get(0)).toThrow(DataError);
  });
});

const asArray = (ids: ArrayLike<number>): number[] => Array.from(ids);

function flip(bytes: Buffer, at: number): Buffer {
  bytes[at]! ^= 1;
  return bytes;
}

describe("defaultCacheDirectory", () => {
  it("is what the environment says, or the user's cache", () => {
    const saved = { ...process.env };
    try {
      process.env.MIXPREC_CACHE = "/a";
      process.env.XDG_CACHE_HOME = "/b";
      expect(defaultCacheDirectory()).toBe(path.join("/a", "tokens"));
      delete process.env.MIXPREC_CACHE;
      expect(defaultCacheDirectory()).toBe(path.join("/b", "mixprec", "tokens"));
      delete process.env.XDG_CACHE_HOME;
      expect(defaultCacheDirectory()).toBe(path.join(homedir(), ".cache", "mixprec", "tokens"));
    } finally {
      process.env = saved;
    }
  });
});
