import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { elements } from "../helpers/golden.js";
import { liveTensors } from "../helpers/memory.js";

const { inspectSafetensors, loadSafetensors, saveSafetensors } = mp;

let directory: string;
let file: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-safetensors-"));
  file = path.join(directory, "model.safetensors");
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

function sample(): Record<string, mp.Tensor> {
  mp.manualSeed(1);
  const state = mp.DTYPES.map((dtype) => {
    const x = mp.randint(0, 2, [2, 3], { dtype: "int64" });
    return [`w.${dtype}`, x.to(dtype)] as const;
  });
  return {
    ...Object.fromEntries(state),
    scalar: mp.tensor(3.5),
    empty: mp.zeros([0, 4], { dtype: "bfloat16" }),
    exact: mp.tensor([2n ** 62n + 1n, -1n]),
    special: mp.tensor([NaN, Infinity, -Infinity, -0, 1e-45]),
  };
}

function expectSame(a: Record<string, mp.Tensor>, b: Record<string, mp.Tensor>): void {
  expect(Object.keys(a).sort()).toEqual(Object.keys(b).sort());
  for (const [name, tensor] of Object.entries(a)) {
    expect([tensor.dtype, tensor.shape]).toEqual([b[name]!.dtype, b[name]!.shape]);
    expect([...tensor.bytes()], name).toEqual([...b[name]!.bytes()]);
  }
}

describe("saveSafetensors and loadSafetensors", () => {
  it("give back every dtype bit for bit", async () => {
    const state = sample();
    await saveSafetensors(file, state, { metadata: { format: "pt", "": "ü\n" } });
    const loaded = await loadSafetensors(file);
    expectSame(loaded, state);
    expect(Object.values(loaded).some(({ requiresGrad }) => requiresGrad)).toBe(false);
    const { tensors, metadata } = await inspectSafetensors(file);
    expect(metadata).toEqual({ format: "pt", "": "ü\n" });
    expect(tensors).toHaveLength(Object.keys(state).length);
    expect(tensors).toContainEqual({ name: "empty", dtype: "bfloat16", shape: [0, 4] });
    expect(await readdir(directory)).toEqual(["model.safetensors"]);
  });

  it("give back any tensors", async () => {
    const one = fc.record({
      name: fc.string({ unit: "grapheme", maxLength: 8 }).filter((n) => n !== "__metadata__"),
      dtype: fc.constantFrom(...mp.DTYPES),
      shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }),
    });
    const property = fc.asyncProperty(
      fc.uniqueArray(one, { selector: ({ name }) => name, maxLength: 6 }),
      async (list) => {
        const pairs = list.map(({ name, dtype, shape }): [string, mp.Tensor] => [
          name,
          mp.randint(0, 2, shape).to(dtype),
        ]);
        await saveSafetensors(file, new Map(pairs));
        expectSame(await loadSafetensors(file), Object.fromEntries(pairs));
      },
    );
    await fc.assert(property, { numRuns: 40 });
  });

  it("write views and shared tensors as dense ones of their own", async () => {
    const base = mp.arange(0, 12, 1, { dtype: "float32" }).reshape([3, 4]);
    const state = {
      transposed: base.transpose(0, 1),
      column: base.select(1, 2),
      expanded: base.select(1, 0).unsqueeze(1).expand([3, 2]),
      base,
      again: base,
    };
    await saveSafetensors(file, state);
    const loaded = await loadSafetensors(file);
    expectSame(loaded, state);
    expect(elements(loaded.transposed!)).toEqual([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    expect(elements(loaded.expanded!)).toEqual([0, 0, 4, 4, 8, 8]);
    mp.noGrad(() => loaded.base!.fill(0));
    expect(elements(loaded.again!)[11]).toBe(11);
  });

  it("cast floats to the dtype that is asked for, and leave integers", async () => {
    await saveSafetensors(file, sample());
    const before = await liveTensors();
    const loaded = await loadSafetensors(file, { dtype: "float64", device: "cpu" });
    expect(mp.memory.tensorCount()).toBe(before + Object.keys(loaded).length);
    const dtypes = new Set(Object.values(loaded).map(({ dtype }) => dtype));
    expect(dtypes).toEqual(new Set(["float64", "int64", "int32", "int8", "uint8", "bool"]));
    expect(loaded.scalar!.item()).toBe(3.5);
  });

  it("load some by name", async () => {
    await saveSafetensors(file, sample());
    const loaded = await loadSafetensors(file, { names: new Set(["scalar", "w.bool"]) });
    expect(Object.keys(loaded).sort()).toEqual(["scalar", "w.bool"]);
    expect(await failure(loadSafetensors(file, { names: ["scalar", "x", "y"] }))).toMatch(
      /model.safetensors: lacks the tensors "x", "y"$/,
    );
    expect(await loadSafetensors(file, { names: [] })).toEqual({});
  });

  it("hold an odd name as an own property", async () => {
    const pairs: [string, mp.Tensor][] = [
      ["__proto__", mp.ones([1])],
      ["constructor", mp.zeros([1])],
    ];
    await saveSafetensors(file, pairs);
    const loaded = await loadSafetensors(file);
    expect(Object.hasOwn(loaded, "__proto__")).toBe(true);
    expect(Object.keys(loaded).sort()).toEqual(["__proto__", "constructor"]);
  });

  it("work on nothing", async () => {
    await saveSafetensors(file, {});
    expect(await loadSafetensors(file)).toEqual({});
    expect((await stat(file)).size).toBe(16);
  });

  it("pass one tensor at a time through memory", async () => {
    const bytes = 2 ** 20;
    const state = Array.from(
      { length: 24 },
      (_, i) => [`w${i}`, mp.zeros([bytes], { dtype: "uint8" })] as const,
    );
    await saveSafetensors(file, state);
    for (const [, tensor] of state) tensor.dispose();
    globalThis.gc!();
    mp.memory.resetPeakMemoryStats();
    const allocated = mp.memory.memoryAllocated();
    const buffers = process.memoryUsage().arrayBuffers;
    const loaded = await loadSafetensors(file);
    expect(process.memoryUsage().arrayBuffers - buffers).toBeLessThan(4 * bytes);
    expect(mp.memory.maxMemoryAllocated() - allocated).toBeLessThan(26 * bytes);
    for (const tensor of Object.values(loaded)) tensor.dispose();
  });
});

describe("saving", () => {
  it("may go on while tensors are disposed", async () => {
    const x = mp.tensor([1, 2]);
    const saved = saveSafetensors(file, { x });
    x.dispose();
    await saved;
    expect(elements((await loadSafetensors(file)).x!)).toEqual([1, 2]);
  });

  it("names a tensor that changes meanwhile, and keeps the old file", async () => {
    const x = mp.zeros([4]);
    await saveSafetensors(file, { x });
    const saved = saveSafetensors(file, { x });
    x.fill(1);
    expect(await failure(saved)).toMatch(
      /tensor "x" was changed in place while it was being saved/,
    );
    expect(elements((await loadSafetensors(file)).x!)).toEqual([0, 0, 0, 0]);
    expect(await readdir(directory)).toEqual(["model.safetensors"]);
  });

  it("leaves nothing behind", async () => {
    const state = sample();
    const before = await liveTensors();
    await saveSafetensors(file, state);
    await failure(saveSafetensors(path.join(directory, "none", "x"), state));
    await failure(saveSafetensors(file, { ...state, ["__metadata__"]: state.scalar! }));
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("names what it cannot write", async () => {
    const x = mp.ones([1]);
    const pair = ["x", x] as const;
    expect(await failure(saveSafetensors(file, [pair, pair]))).toMatch(/"x" stands there twice/);
    expect(await failure(saveSafetensors(path.join(directory, "no/x"), { x }))).toMatch(
      /no\/x: cannot be written: ENOENT/,
    );
    const wrong = { x: [1] as unknown as mp.Tensor };
    await expect(saveSafetensors(file, wrong)).rejects.toThrow(
      /tensor "x" — expected a tensor, got array of 1/,
    );
    x.dispose();
    await expect(saveSafetensors(file, { x })).rejects.toThrow(mp.DisposedError);
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("loading", () => {
  it("names a file that is not there, is a directory, or is cut off", async () => {
    expect(await failure(loadSafetensors(file))).toMatch(
      /model.safetensors: cannot be opened: ENOENT/,
    );
    expect(await failure(inspectSafetensors(file))).toMatch(/cannot be opened: ENOENT/);
    expect(await failure(loadSafetensors(directory))).toMatch(/cannot be read: EISDIR/);
    await saveSafetensors(file, sample());
    const { size } = await stat(file);
    await truncate(file, size - 1);
    const message = await failure(loadSafetensors(file));
    expect(message).toContain(file);
    expect(message).toMatch(/out of range/);
    await writeFile(file, "");
    expect(await failure(loadSafetensors(file))).toMatch(/truncated/);
  });

  it("names bytes that are no bool, and more dimensions than there are", async () => {
    const write = (entry: object, data: number[]): Promise<void> => {
      const json = Buffer.from(JSON.stringify({ w: entry }));
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(json.byteLength));
      return writeFile(file, Buffer.concat([length, json, Buffer.from(data)]));
    };
    await write({ dtype: "BOOL", shape: [3], data_offsets: [0, 3] }, [0, 1, 2]);
    expect(await failure(loadSafetensors(file))).toMatch(/"w": expected bytes 0 and 1, got 2 at 2/);
    const shape = new Array<number>(9).fill(1);
    await write({ dtype: "U8", shape, data_offsets: [0, 1] }, [0]);
    expect(await failure(loadSafetensors(file))).toMatch(/"w": .*expected at most 8, got 9/);
  });

  it("refuses options that make no sense", async () => {
    await saveSafetensors(file, sample());
    await expect(loadSafetensors(file, { dtype: "int8" })).rejects.toThrow(mp.ArgumentError);
    const unknown = { dtype: "f32" as mp.DType };
    await expect(loadSafetensors(file, unknown)).rejects.toThrow(mp.DTypeError);
    await expect(loadSafetensors(file, { device: "cuda:3" })).rejects.toThrow(mp.DeviceError);
  });

  it("gives a CheckpointError or whole tensors for any damage, and leaves nothing behind", async () => {
    await saveSafetensors(file, { a: mp.ones([2, 2]), b: mp.zeros([3], { dtype: "bool" }) });
    const good = await readFile(file);
    const edit = fc.record({ at: fc.nat(good.length - 1), byte: fc.integer({ min: 0, max: 255 }) });
    const before = await liveTensors();
    let failed = 0;
    const property = fc.asyncProperty(
      fc.array(edit, { maxLength: 3 }),
      fc.oneof(fc.constant(good.length), fc.nat(good.length)),
      fc.oneof(fc.constant(new Uint8Array(0)), fc.uint8Array({ maxLength: 9 })),
      async (edits, length, extra) => {
        const bytes = Buffer.from(good);
        for (const { at, byte } of edits) bytes[at] = byte;
        await writeFile(file, Buffer.concat([bytes.subarray(0, length), extra]));
        try {
          const loaded = await loadSafetensors(file);
          for (const tensor of Object.values(loaded)) {
            expect(elements(tensor)).toHaveLength(tensor.numel);
            tensor.dispose();
          }
        } catch (error) {
          if (!(error instanceof mp.CheckpointError)) throw error;
          expect(error.message).toContain(file);
          failed++;
        }
      },
    );
    await fc.assert(property, { numRuns: 400 });
    expect(failed).toBeGreaterThan(50);
    expect(mp.memory.tensorCount()).toBe(before);
  });
});

describe("an index of several files", () => {
  const index = (): string => path.join(directory, "model.safetensors.index.json");

  async function write(map: unknown): Promise<void> {
    await saveSafetensors(path.join(directory, "one.safetensors"), {
      a: mp.tensor([1]),
      unlisted: mp.tensor([9]),
    });
    await saveSafetensors(path.join(directory, "two.safetensors"), { b: mp.tensor([2, 3]) });
    await writeFile(index(), typeof map === "string" ? map : JSON.stringify(map));
  }

  const good = { weight_map: { a: "one.safetensors", b: "two.safetensors" } };

  it("gives the tensors it lists", async () => {
    await write({ metadata: { total_size: 12 }, ...good });
    const loaded = await loadSafetensors(index());
    expect(Object.keys(loaded)).toEqual(["a", "b"]);
    expect(elements(loaded.b!)).toEqual([2, 3]);
    const some = await loadSafetensors(index(), { names: ["b"], dtype: "float16" });
    expect(Object.values(some).map(({ dtype }) => dtype)).toEqual(["float16"]);
    expect((await inspectSafetensors(index())).tensors).toEqual([
      { name: "a", dtype: "float32", shape: [1] },
      { name: "b", dtype: "float32", shape: [2] },
    ]);
  });

  it.each<[string, unknown, RegExp]>([
    ["no JSON", "{", /index.json: is not JSON/],
    ["no object", "[]", /expected an object with a weight_map/],
    ["no map", {}, /expected an object with a weight_map/],
    ["a name twice", '{"weight_map":{"a":"x","a":"y"}}', /the key "a" twice/],
    ["a number as file", { weight_map: { a: 1 } }, /"a" — expected a file name, got 1/],
    ["a file elsewhere", { weight_map: { a: "../one.safetensors" } }, /expected a file name/],
    ["the directory itself", { weight_map: { a: ".." } }, /expected a file name/],
    ["a file that is not there", { weight_map: { a: "three" } }, /three: cannot be opened/],
    [
      "a tensor that is not there",
      { weight_map: { a: "one.safetensors", b: "one.safetensors" } },
      /one.safetensors: lacks the tensors "b"/,
    ],
  ])("is an error with %s", async (_, map, message) => {
    await write(map);
    const before = await liveTensors();
    expect(await failure(loadSafetensors(index()))).toMatch(message);
    expect(await failure(inspectSafetensors(index()))).toMatch(message);
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("names what it does not list", async () => {
    await write(good);
    expect(await failure(loadSafetensors(index(), { names: ["unlisted"] }))).toMatch(
      /index.json: lacks the tensors "unlisted"/,
    );
    await rm(index());
    expect(await failure(loadSafetensors(index()))).toMatch(/index.json: cannot be read: ENOENT/);
  });
});
