// Saving and restoring optimizers.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { liveTensors } from "../helpers/memory.js";

const { Adam, AdamW, SGD } = mp.optim;

type Make = (params: mp.Tensor[]) => mp.Optimizer;

function parameters(dtype: mp.DType = "float32"): mp.Tensor[] {
  mp.manualSeed(3);
  return [mp.randn([2, 3], { dtype }), mp.randn([4], { dtype }), mp.ones([2], { dtype })];
}

/** Steps with gradients that depend on the step alone; the last parameter never has one. */
function walk(optimizer: mp.Optimizer, from: number, to: number): void {
  const params = optimizer.parameters();
  for (let step = from; step < to; step++) {
    mp.manualSeed(step);
    for (const parameter of params.slice(0, 2)) {
      parameter.grad = mp.randn(parameter.shape, { dtype: parameter.dtype });
    }
    optimizer.step();
  }
}

const KINDS: [string, Make, string[]][] = [
  ["SGD", (p) => new SGD(p, { lr: 0.1 }), []],
  [
    "SGD with momentum",
    (p) => new SGD(p, { lr: 0.1, momentum: 0.9, dampening: 0.5 }),
    ["momentumBuffer", "step"],
  ],
  ["Adam", (p) => new Adam(p, { lr: 0.1 }), ["expAvg", "expAvgSq", "step"]],
  [
    "AdamW with amsgrad",
    (p) => new AdamW(p, { lr: 0.1, amsgrad: true }),
    ["expAvg", "expAvgSq", "maxExpAvgSq", "step"],
  ],
];

describe.each(KINDS)("%s", (_name, make, keys) => {
  test("goes on where it was, bit for bit", () => {
    const whole = make(parameters());
    walk(whole, 0, 8);
    const first = make(parameters());
    walk(first, 0, 4);
    const second = make(first.parameters().map((parameter) => parameter.clone()));
    second.loadStateDict(first.stateDict());
    // The copies are its own.
    first.dispose();
    walk(second, 4, 8);
    expect(second.parameters().map((p) => p.toArray())).toEqual(
      whole.parameters().map((p) => p.toArray()),
    );
  });

  test("has torch's layout", () => {
    const params = parameters();
    const optimizer = make(params);
    walk(optimizer, 0, 1);
    const { state, paramGroups } = optimizer.stateDict();
    expect(Object.keys(state)).toEqual(["0", "1"]);
    expect(Object.keys(state[0]!).sort()).toEqual(keys);
    expect(paramGroups).toHaveLength(1);
    expect(paramGroups[0]!.params).toEqual([0, 1, 2]);
    expect(paramGroups[0]!.lr).toBe(0.1);
    for (const key of keys) expect(state[1]![key]).toBe(optimizer.stateOf(params[1]!)![key]);
  });
});

test("parameters are numbered through the groups, whose options are restored", () => {
  const [a, b, c] = parameters();
  const make = (lr: number): mp.optim.AdamW =>
    new AdamW([
      { params: [a!], lr },
      { params: [b!, c!], lr: lr / 2, weightDecay: 0.5 },
    ]);
  const saved = make(0.1);
  const dict = saved.stateDict();
  expect(dict.paramGroups.map(({ params }) => params)).toEqual([[0], [1, 2]]);
  const other = make(7);
  other.loadStateDict(dict);
  expect(other.paramGroups.map(({ lr, weightDecay }) => [lr, weightDecay])).toEqual([
    [0.1, 0.01],
    [0.05, 0.5],
  ]);
  expect(other.paramGroups[1]!.params).toEqual([b, c]);
});

test("state takes the dtype of the parameters, counts stay float32", () => {
  const wide = new Adam(parameters());
  walk(wide, 0, 2);
  const narrow = new Adam(parameters("bfloat16"));
  narrow.loadStateDict(wide.stateDict());
  const { step, expAvg } = narrow.stateOf(narrow.parameters()[0]!)!;
  expect([step!.dtype, step!.item(), expAvg!.dtype]).toEqual(["float32", 2, "bfloat16"]);
});

test("masters and float32 moments are restored in float32", () => {
  const make = (): mp.Optimizer =>
    new AdamW(parameters("bfloat16"), { lr: 1e-3, masterWeights: true });
  const whole = make();
  walk(whole, 0, 8);
  const first = make();
  walk(first, 0, 4);
  const second = make();
  second.parameters().forEach((parameter, i) => {
    parameter.copyFrom(first.parameters()[i]!);
  });
  second.loadStateDict(first.stateDict());
  walk(second, 4, 8);
  const of = (optimizer: mp.Optimizer): unknown[] => {
    const { master, expAvg } = optimizer.stateOf(optimizer.parameters()[0]!)!;
    return [master!.dtype, expAvg!.dtype, master!.toArray(), expAvg!.toArray()];
  };
  expect(of(second)).toEqual(of(whole));
  expect(of(second).slice(0, 2)).toEqual(["float32", "float32"]);
});

test("a state of torch's is understood: number steps, buffers without a count, None", () => {
  const [a, b] = [mp.zeros([1]), mp.zeros([1])];
  const sgd = new SGD([a, b], { lr: 1, momentum: 0.5, dampening: 0.5 });
  const dict = sgd.stateDict();
  dict.state = { 0: { momentumBuffer: mp.tensor([4.0]) }, 1: { momentumBuffer: null as never } };
  sgd.loadStateDict(dict);
  for (const parameter of [a, b]) parameter.grad = mp.ones([1]);
  sgd.step();
  expect([a.toArray(), b.toArray()]).toEqual([[-2.5], [-1]]);

  const adam = new Adam([a]);
  const state = { step: 3, expAvg: mp.ones([1]), expAvgSq: mp.ones([1]) };
  adam.loadStateDict({ ...adam.stateDict(), state: { 0: state as never } });
  expect(adam.stateOf(a)!.step!.item()).toBe(3);
});

describe("what does not fit is an error, and changes nothing", () => {
  type Dict = mp.optim.OptimizerStateDict;
  const moments = (shape: number[]): Record<string, mp.Tensor> => ({
    step: mp.tensor(1, { dtype: "float32" }),
    expAvg: mp.ones(shape),
    expAvgSq: mp.ones(shape),
  });
  test.each<[string, (dict: Dict) => unknown, RegExp]>([
    ["null", () => null, /expected an object with state and paramGroups, got null/],
    ["no groups", ({ state }) => ({ state }), /expected an object/],
    ["more groups", (d) => ({ ...d, paramGroups: [...d.paramGroups, ...d.paramGroups] }), /2 para/],
    [
      "fewer parameters",
      (d) => ({ ...d, paramGroups: [{ ...d.paramGroups[0], params: [0] }] }),
      /group 0 has 1 parameters, here 3/,
    ],
    ["no params", (d) => ({ ...d, paramGroups: [{ lr: 1 }] }), /group 0 has no params/],
    [
      "a parameter twice",
      (d) => ({ ...d, paramGroups: [{ ...d.paramGroups[0], params: [0, 1, 1] }] }),
      /parameter 1 is in two places/,
    ],
    ["state of nothing", (d) => ({ ...d, state: { 9: moments([4]) } }), /parameter 9, which is in/],
    [
      "another optimizer's state",
      (d) => ({ ...d, state: { 1: { momentumBuffer: mp.ones([4]) } } }),
      /the state of parameter 1 \(float32 \[4\]\) lacks step/,
    ],
    [
      "another shape",
      (d) => ({ ...d, state: { 0: moments([2, 3]), 1: moments([5]) } }),
      /expAvg has shape \[5\] instead of \[4\] of parameter 1 \(float32 \[4\]\)/,
    ],
    [
      "no tensor",
      (d) => ({ ...d, state: { 1: { ...moments([4]), expAvg: 3 } } }),
      /expAvg is 3, not a tensor/,
    ],
    ["state that is none", (d) => ({ ...d, state: { 1: 3 } }), /state of parameter 1 is 3/],
  ])("%s", async (_name, change, message) => {
    const optimizer = new Adam(parameters());
    walk(optimizer, 0, 1);
    const before = optimizer.stateOf(optimizer.parameters()[1]!)!.expAvg;
    const bad = change(optimizer.stateDict()) as never;
    const count = await liveTensors();
    const load = (): void => {
      optimizer.loadStateDict(bad);
    };
    expect(load).toThrow(mp.CheckpointError);
    expect(load).toThrow(message);
    expect(mp.memory.tensorCount()).toBe(count);
    expect(optimizer.stateOf(optimizer.parameters()[1]!)!.expAvg).toBe(before);
  });

  test("an option out of its range", () => {
    const optimizer = new Adam(parameters());
    const dict = optimizer.stateDict();
    dict.paramGroups[0]!.lr = NaN;
    expect(() => {
      optimizer.loadStateDict(dict);
    }).toThrow(/lr — .* got NaN/);
    expect(optimizer.paramGroups[0]!.lr).toBe(1e-3);
  });
});
