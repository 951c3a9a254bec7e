import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { compileLibrary } from "../helpers/compiled-lib.js";

let directory: string;
let library: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-workers-"));
  library = (await compileLibrary(directory)).replace(/index\.js$/, "");
  await writeFile(
    path.join(directory, "task.mjs"),
    `import { DataError } from ${JSON.stringify(`${library}errors.js`)};
    export function createTask({ wait = 0, failAt = -1, kind = "data" } = {}) {
      return async (items) => {
        if (wait > 0) await new Promise((done) => setTimeout(done, wait * Math.random()));
        if (items.includes(failAt)) {
          if (kind === "exit") process.exit(7);
          if (kind === "throw") throw new TypeError("of the task");
          if (kind === "string") throw "only a string";
          if (kind === "copy") return () => 1;
          throw new DataError("task: item " + failAt, { op: "task" });
        }
        return { items, values: Float32Array.from(items) };
      };
    }
    export const notAFunction = 1;
    export const createNothing = () => null;`,
  );
});
afterAll(() => rm(directory, { recursive: true }));

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a script in a process of its own, with DataLoader and `task(options)` in scope. */
async function script(body: string, limit = 20_000): Promise<Outcome> {
  const file = path.join(directory, `script-${Math.random().toString(36).slice(2)}.mjs`);
  const task = JSON.stringify(pathToFileURL(path.join(directory, "task.mjs")).href);
  await writeFile(
    file,
    `import { DataLoader, TextTokenizer, collateTexts } from "${library}data/index.js";
    import * as errors from "${library}errors.js";
    const task = (options, exportName) => ({ module: ${task}, options, exportName });
    const numbers = (n) => Array.from({ length: n }, (_, i) => i);
    const collect = async (loader) => {
      const all = [];
      for await (const batch of loader) all.push(batch.items ?? batch);
      return all;
    };
    const say = (value) => console.log(JSON.stringify(value));
    ${body}`,
  );
  const child = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stdout.on("data", (data) => (out += String(data)));
  child.stderr.on("data", (data) => (err += String(data)));
  const timer = setTimeout(() => child.kill("SIGKILL"), limit);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return { code, out, err };
}

async function results(body: string): Promise<unknown[]> {
  const { code, out, err } = await script(body);
  expect(err).toBe("");
  expect(code).toBe(0);
  return out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
}

describe("worker threads of a DataLoader", () => {
  it("give the batches in order, the same as without threads, epoch after epoch", async () => {
    const [one, two, three] = await results(`
      for (const numWorkers of [0, 1, 3]) {
        const options = { batchSize: 3, shuffle: true, seed: 5, numWorkers };
        const loader = new DataLoader(numbers(40), { ...options, collate: task({ wait: 5 }) });
        say([await collect(loader), await collect(loader)]);
      }`);
    expect(two).toEqual(one);
    expect(three).toEqual(one);
    const [first, second] = one as number[][][];
    expect(first).not.toEqual(second);
    expect(first!.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
  });

  it("resume where the loop was, not where the threads were, with any number of them", async () => {
    const [whole, resumed, threads] = await results(`
      const make = (numWorkers) => new DataLoader(numbers(30), {
        batchSize: 4, shuffle: true, seed: 2, numWorkers, prefetchFactor: 4, collate: task() });
      say(await collect(make(0)));
      for (const numWorkers of [2, 0]) {
        const loader = make(2);
        const seen = [];
        for await (const { items } of loader) { seen.push(items); if (seen.length === 3) break; }
        const state = JSON.parse(JSON.stringify(loader.stateDict()));
        const other = make(numWorkers);
        other.loadStateDict(state);
        say([...seen, ...await collect(other)]);
      }`);
    expect(resumed).toEqual(whole);
    expect(threads).toEqual(whole);
  });

  it("tokenize and pad as this thread does", async () => {
    const [one, two] = await results(`
      const texts = ["a good film", "bad", "the film was good, the end bad", "film", "good bad"];
      const tokenizer = TextTokenizer.train(texts, { minFrequency: 1 });
      const samples = texts.map((text, label) => ({ text, label }));
      for (const numWorkers of [0, 2]) {
        const collate = collateTexts(tokenizer, { maxLength: 6 });
        const loader = new DataLoader(samples, { batchSize: 2, numWorkers, collate });
        const batches = await collect(loader);
        say(batches.map((b) => [b.shape, [...b.inputIds], [...b.attentionMask], [...b.labels],
          b.inputIds.constructor.name]));
      }`);
    expect(two).toEqual(one);
    expect(one).toHaveLength(3);
  });

  it.each([
    ["of this library", "data", { name: "DataError", message: "task: item 9", op: "task" }],
    ["of another kind", "throw", { name: "DataError", message: "worker: TypeError: of the task" }],
    ["that are none", "string", { name: "DataError", message: "worker: Error: only a string" }],
    ["of an end", "exit", { name: "DataError", message: "worker: thread \\d ended with code 7" }],
    ["of a result", "copy", { name: "DataError", message: "worker: .*could not be cloned" }],
  ])("pass errors on: %s", async (_, kind, expected) => {
    const [seen, error] = await results(`
      const options = { batchSize: 2, numWorkers: 2, collate: task({ failAt: 9, kind: "${kind}" }) };
      const loader = new DataLoader(numbers(20), options);
      let seen = 0;
      try { for await (const batch of loader) seen++; } catch (e) {
        say(seen);
        say({ name: e.name, message: e.message, op: e.op, code: e.code,
          typed: e instanceof errors.DataError, state: loader.stateDict().batch });
      }`);
    expect(error).toMatchObject({ name: "DataError", code: "ERR_DATA", typed: true });
    const { message, state } = error as { message: string; state: number };
    expect(message).toMatch(new RegExp(expected.message));
    if ("op" in expected) expect(error).toMatchObject({ op: expected.op });
    // Batches 0 to 3 were good; where a whole thread ends, those under way in it are lost too.
    expect(state).toBe(seen);
    if (kind === "exit") expect(seen).toBeLessThanOrEqual(4);
    else expect(seen).toBe(4);
  });

  it.each([
    [`{ module: "file:///none.mjs" }`, "none.mjs cannot be imported"],
    [`task({}, "createMissing")`, "exports no function createMissing"],
    [`task({}, "notAFunction")`, "exports no function notAFunction"],
    [`task({}, "createNothing")`, "returned no function"],
    [`task(() => 1)`, "options cannot be copied to a thread"],
  ])("say what is wrong with a task: %s", async (collate, message) => {
    const body = (numWorkers: number) => `
      try {
        await collect(new DataLoader([1], { numWorkers: ${numWorkers}, collate: ${collate} }));
        say("fine");
      } catch (e) { say([e.message, e instanceof errors.DataError]); }`;
    const [threaded] = await results(body(1));
    expect(threaded).toEqual([expect.stringContaining(message) as string, true]);
    if (collate.includes("=>")) return;
    expect(await results(body(0))).toEqual([[expect.stringContaining(message) as string, true]]);
  });

  it("say that an item cannot be copied", async () => {
    const [error] = await results(`
      const loader = new DataLoader([() => 1], { numWorkers: 1, collate: task() });
      await collect(loader).catch((e) => say([e.name, e.message]));`);
    expect(error).toEqual([
      "DataError",
      expect.stringContaining("an item cannot be copied to a thread") as string,
    ]);
  });

  it.each([
    ["is left early", `for await (const _ of loader) break;`],
    ["throws", `try { for await (const _ of loader) throw 1; } catch {}`],
    ["is finished", `await collect(loader);`],
    ["is never finished", `await loader[Symbol.asyncIterator]().next();`],
    ["is closed under way", `for await (const _ of loader) { await loader.close(); break; }`],
  ])("hold no process when the loop %s", async (_, loop) => {
    const { code, out, err } = await script(`
      const options = { numWorkers: 2, prefetchFactor: 8, collate: task({ wait: 20 }) };
      const loader = new DataLoader(numbers(100), options);
      ${loop}
      say("end");`);
    expect({ code, out, err }).toEqual({ code: 0, out: '"end"\n', err: "" });
  });

  it("are started again after close, and end with `await using`'s dispose", async () => {
    const [first, second] = await results(`
      const loader = new DataLoader(numbers(4), { numWorkers: 1, collate: task() });
      say(await collect(loader));
      await loader[Symbol.asyncDispose]();
      say(await collect(loader));`);
    expect(second).toEqual(first);
  });
});

describe("a file that is larger than memory may be", () => {
  it("is encoded with the memory of a small one", async () => {
    const peaks = await results(`
      import { createWriteStream } from "node:fs";
      import { once } from "node:events";
      import { encodeFile } from "${library}data/index.js";
      const words = numbers(500).map((i) => "word" + i);
      const tokenizer = TextTokenizer.train([words.join(" ")], { minFrequency: 1 });
      const text = numbers(400).map((i) => words[(i * 31) % 500]).join(" ");
      for (const [name, rows] of [["small", 2_000], ["large", 20_000]]) {
        const file = { kind: "csv", path: ${JSON.stringify(directory)} + "/" + name + ".csv" };
        const out = createWriteStream(file.path);
        out.write("text,label\\n");
        for (let i = 0; i < rows; i++) {
          if (!out.write(text + "," + (i % 2) + "\\n")) await once(out, "drain");
        }
        out.end();
        await once(out, "finish");
        let peak = 0;
        const note = () => {
          const { heapUsed, external } = process.memoryUsage();
          peak = Math.max(peak, heapUsed + external);
        };
        const parts = { cacheDirectory: ${JSON.stringify(directory)}, onProgress: note };
        const { store } = await encodeFile(file, tokenizer, parts);
        say({ rows: store.length, peak });
        store.close();
      }`);
    const [small, large] = peaks as { rows: number; peak: number }[];
    expect([small!.rows, large!.rows]).toEqual([2000, 20_000]);
    // The large one has 58 MB of text and 32 MB of ids; what it takes more is the index and garbage.
    expect(large!.peak - small!.peak).toBeLessThan(30e6);
  });
});
