import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { elements } from "../helpers/golden.js";
import { liveTensors } from "../helpers/memory.js";

const { loadCheckpoint, saveCheckpoint, saveSafetensors } = mp;

let directory: string;
let file: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-checkpoint-"));
  file = path.join(directory, "last.ckpt");
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

describe("saveCheckpoint and loadCheckpoint", () => {
  it("give back nested state", async () => {
    const weight = mp.tensor([[1, 2]], { requiresGrad: true });
    const state = {
      epoch: 3,
      name: "run ü",
      done: false,
      nothing: null,
      absent: undefined,
      big: 2n ** 70n,
      numbers: [NaN, Infinity, -Infinity, -0, 0.1, 1e300],
      byStep: new Map<number | string, mp.CheckpointValue>([
        [1, "one"],
        ["w", weight],
      ]),
      list: [[], {}, [weight, { deep: mp.tensor([5n]) }]],
      $tensor: "not a tensor",
      tagged: { $tensor: "name", more: 1 },
      single: { $map: [1] },
      "a.b": mp.tensor([1]),
      a: { b: mp.tensor([2]) },
      __metadata__: mp.tensor([3]),
      ["__proto__"]: 4,
    };
    await saveCheckpoint(file, state);
    const loaded = await loadCheckpoint<typeof state>(file);
    expect(Object.keys(loaded)).toEqual(Object.keys(state));
    const { byStep, list, ...rest } = loaded;
    expect([rest.epoch, rest.name, rest.done, rest.nothing, rest.absent, rest.big]).toEqual([
      3,
      "run ü",
      false,
      null,
      undefined,
      2n ** 70n,
    ]);
    expect("absent" in loaded).toBe(true);
    expect(rest.numbers.every((value, i) => Object.is(value, state.numbers[i]))).toBe(true);
    expect([rest.$tensor, rest.tagged, rest.single]).toEqual([
      state.$tensor,
      state.tagged,
      state.single,
    ]);
    expect([rest["a.b"].item(), rest.a.b.item(), rest.__metadata__.item()]).toEqual([1, 2, 3]);
    const inMap = byStep.get("w") as mp.Tensor;
    const [empty, object, [again, { deep }]] = list as [
      [],
      object,
      [mp.Tensor, { deep: mp.Tensor }],
    ];
    expect([empty, object, byStep.get(1)]).toEqual([[], {}, "one"]);
    expect(again).toBe(inMap);
    expect([elements(again), again.requiresGrad, again.shape]).toEqual([[1, 2], false, [1, 2]]);
    expect([deep.dtype, deep.item()]).toEqual(["int64", 5]);
  });

  it("give back any plain values", async () => {
    const value = fc.letrec((tie) => ({
      node: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom(null, undefined, true, NaN, -0, Infinity),
        fc.double(),
        fc.bigInt(),
        fc.string({ unit: "grapheme" }),
        fc.array(tie("node"), { maxLength: 3 }),
        fc.dictionary(fc.string({ unit: "grapheme" }), tie("node"), { maxKeys: 3 }),
        fc.dictionary(fc.constantFrom("$tensor", "$map", "$object"), tie("node"), { maxKeys: 1 }),
      ),
    })).node;
    const property = fc.asyncProperty(value, async (state) => {
      await saveCheckpoint(file, state as mp.CheckpointValue);
      expect(await loadCheckpoint(file)).toStrictEqual(
        fc.stringify(state) === "undefined" ? undefined : normalize(state),
      );
    });
    await fc.assert(property, { numRuns: 60 });
  });

  it("store modules and optimizers as their state, so that training goes on as it would have", async () => {
    const build = () => {
      mp.manualSeed(1);
      const model = new mp.nn.Sequential(new mp.nn.Linear(3, 4), new mp.nn.Linear(4, 1));
      const optimizer = new mp.AdamW(model.parameters(), { lr: 0.1 });
      const step = (): void => {
        model.zeroGrad();
        model
          .forward(mp.ones([2, 3]))
          .sum()
          .backward();
        optimizer.step();
      };
      return { model, optimizer, step };
    };
    const run = build();
    run.step();
    const { model, optimizer } = run;
    await saveCheckpoint(file, { model, optimizer, step: 1, random: mp.getRandomState() });
    run.step();
    const resumed = build();
    const state = await loadCheckpoint<{
      model: Record<string, mp.Tensor>;
      optimizer: Parameters<typeof resumed.optimizer.loadStateDict>[0];
      random: { seed: number; offset: number };
    }>(file);
    expect(state.random).toEqual(mp.getRandomState());
    resumed.model.loadStateDict(state.model);
    resumed.optimizer.loadStateDict(state.optimizer);
    resumed.step();
    for (const [i, parameter] of resumed.model.parameters().entries()) {
      expect(elements(parameter)).toEqual(elements(run.model.parameters()[i]!));
    }
  });

  it("refuse what a checkpoint cannot hold, named by its path, and write nothing", async () => {
    await saveCheckpoint(file, { step: 1 });
    const loop: unknown[] = [];
    loop.push({ loop });
    let deep: mp.CheckpointValue = 1;
    for (let i = 0; i < 300; i++) deep = [deep];
    const cases: [unknown, RegExp][] = [
      [{ a: [0, () => 1] }, /a\.1 is a function, which/],
      [{ a: Symbol("x") }, /: a is a symbol/],
      [{ when: new Date() }, /when is a Date/],
      [{ bytes: new Uint8Array(2) }, /bytes is a Uint8Array\(2\)/],
      [loop, /0\.loop contains itself/],
      [{ deep }, /is nested deeper than 200 levels/],
      [new Set([1]), /the state is a Set/],
    ];
    for (const [state, message] of cases) {
      const saved = saveCheckpoint(file, state as mp.CheckpointValue);
      const error: unknown = await saved.catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(mp.ArgumentError);
      expect((error as Error).message).toMatch(message);
    }
    expect(await loadCheckpoint(file)).toEqual({ step: 1 });
  });
});

describe("loadCheckpoint", () => {
  const metadata = (state: unknown, version = "1") => ({
    metadata: { format: "mixprec-checkpoint", version, state: JSON.stringify(state) },
  });

  it("tells plain tensors and other versions", async () => {
    await saveSafetensors(file, { w: mp.ones([1]) });
    expect(await failure(loadCheckpoint(file))).toMatch(
      /last.ckpt: holds no checkpoint; use loadSafetensors/,
    );
    await saveSafetensors(file, {}, metadata(1, "2"));
    expect(await failure(loadCheckpoint(file))).toMatch(/is of version "2" — expected 1/);
  });

  it.each<[string, unknown, RegExp]>([
    ["a tensor that is not there", { $tensor: "x" }, /lacks the tensor "x"/],
    ["a tensor without a place", { a: 1 }, /has no place for tensor "w"/],
    ["a tensor without a name", [{ $tensor: 1 }, { $tensor: "w" }], /has "\$tensor" with 1/],
    ["a number that is none", { $number: "12" }, /has "\$number" with "12"/],
    ["a bigint that is none", { $bigint: "1.5" }, /has "\$bigint" with "1.5"/],
    ["a map without pairs", { $map: [[1]] }, /has a map without pairs/],
    ["a map that is none", { $map: 1 }, /has "\$map" with 1/],
    ["an unknown tag", { $set: [] }, /has "\$set" with/],
    ["an object that is none", { $object: [] }, /has "\$object" with/],
  ])("refuses a state with %s", async (_, state, message) => {
    await saveSafetensors(file, { w: mp.ones([1]) }, metadata(state));
    const before = await liveTensors();
    expect(await failure(loadCheckpoint(file))).toMatch(message);
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("refuses a state that is no JSON, or nested without end", async () => {
    const broken = { format: "mixprec-checkpoint", version: "1" };
    await saveSafetensors(file, {}, { metadata: broken });
    expect(await failure(loadCheckpoint(file))).toMatch(/the state is not JSON/);
    const state = "[".repeat(1e5) + "]".repeat(1e5);
    await saveSafetensors(file, {}, { metadata: { ...broken, state } });
    expect(await failure(loadCheckpoint(file))).toMatch(/nested too deeply|not JSON/);
  });

  it("gives a CheckpointError or a state for any damage", async () => {
    await saveCheckpoint(file, { a: [mp.ones([2]), NaN], b: new Map([["k", mp.zeros([1])]]) });
    const good = await readFile(file);
    const before = await liveTensors();
    const edit = fc.record({
      at: fc.nat(good.length - 1),
      byte: fc.integer({ min: 32, max: 126 }),
    });
    const property = fc.asyncProperty(
      fc.array(edit, { minLength: 1, maxLength: 3 }),
      async (edits) => {
        const bytes = Buffer.from(good);
        for (const { at, byte } of edits) bytes[at] = byte;
        await writeFile(file, bytes);
        const result: unknown = await loadCheckpoint(file).catch((error: unknown) => error);
        if (!(result instanceof Error)) mp.tidy(() => disposeAll(result));
        else expect(result).toBeInstanceOf(mp.CheckpointError);
      },
    );
    await fc.assert(property, { numRuns: 400 });
    expect(mp.memory.tensorCount()).toBe(before);
  });
});

function disposeAll(value: unknown): void {
  if (value instanceof mp.Tensor) value.dispose();
  else if (value instanceof Map) for (const item of value.values()) disposeAll(item);
  else if (value !== null && typeof value === "object") Object.values(value).forEach(disposeAll);
}

/** Objects as the loader makes them, with a prototype. */
function normalize(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(normalize);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, normalize(item)]));
}
