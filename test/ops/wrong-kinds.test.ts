// Arguments of the wrong kind: always a typed error that names the operation, never a crash or an error
// from inside.

import { expect, test } from "vitest";

import * as mp from "../../lib/index.js";

type Any = (...args: unknown[]) => unknown;

const x = mp.ones([2, 3]);
const gone = mp.ones([2]);
gone.dispose();
const truth = mp.tensor([true, false, true]);

const BAD: readonly unknown[] = [
  undefined,
  null,
  "1",
  true,
  {},
  [],
  [1, 2],
  () => 1,
  new Float32Array(2),
  gone,
  1n,
  Object.create(null),
];

/** Operations, and arguments before the bad one. */
const CALLS: readonly (readonly [name: string, before: readonly unknown[]])[] = [
  ...["neg", "abs", "exp", "relu", "gelu", "clamp", "isnan", "sum", "mean", "variance", "amax"].map(
    (name) => [name, []] as const,
  ),
  ...["argmax", "softmax", "logsumexp", "cumsum", "topk", "sort", "multinomial"].map(
    (name) => [name, []] as const,
  ),
  ...["reshape", "flatten", "transpose", "permute", "expand", "squeeze", "unsqueeze"].map(
    (name) => [name, []] as const,
  ),
  ...["narrow", "slice", "select", "split", "chunk", "cat", "stack", "gather"].map(
    (name) => [name, []] as const,
  ),
  ...["indexSelect", "scatterAdd", "embedding", "layerNorm", "rmsNorm", "dropout"].map(
    (name) => [name, []] as const,
  ),
  ...["crossEntropy", "mseLoss", "l1Loss", "bceWithLogits", "nllLoss", "conv2d"].map(
    (name) => [name, []] as const,
  ),
  ...["add", "sub", "mul", "div", "pow", "maximum", "minimum", "eq", "ne", "lt", "le"].flatMap(
    (name) => [[name, []] as const, [name, [x]] as const, [name, [2]] as const],
  ),
  ["where", []],
  ["where", [truth]],
  ["where", [truth, x]],
  ["where", [truth, 1]],
  ["maskedFill", [x]],
  ["matmul", []],
  ["matmul", [x]],
  ["linear", [x]],
  ["scaledDotProductAttention", [x]],
  ["scaledDotProductAttention", [x, x]],
  ["grad", [x]],
];

test.each(CALLS)("%s after %j", (name, before) => {
  const call = (mp as unknown as Record<string, Any>)[name]!;
  for (const bad of BAD) {
    let error: unknown;
    try {
      call(...before, bad);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(mp.MixprecError);
    expect(error).not.toBeInstanceOf(mp.NativeError);
    expect((error as mp.MixprecError).op).toBe(name);
    expect((error as Error).message).toMatch(new RegExp(`^${name}: `));
  }
});

test.each(["noGrad", "enableGrad", "tidy", "checkpoint"])("%s takes functions only", (name) => {
  const call = (mp as unknown as Record<string, Any>)[name]!;
  for (const bad of [undefined, null, 1, x, "f"]) {
    expect(() => call(bad)).toThrow(mp.ArgumentError);
  }
});

test.each([
  ["sub of bool", () => mp.sub(x, truth), mp.DTypeError],
  ["a number less a bool", () => mp.sub(1, truth), mp.DTypeError],
  ["a filling that is no number", () => x.clone().fill("1" as unknown as number), mp.ArgumentError],
  ["masked by no number", () => x.maskedFill(truth, {} as number), mp.ArgumentError],
  [
    "backward on a number",
    () => mp.ones([1], { requiresGrad: true }).backward(1 as never),
    mp.DTypeError,
  ],
  ["promotion of no dtype", () => mp.promoteTypes("float8" as mp.DType, "bool"), mp.DTypeError],
  ["a random state", () => mp.setRandomState({ seed: -1, offset: 0 }), mp.ArgumentError],
  ["a norm over text", () => new mp.nn.LayerNorm("3" as never), mp.ArgumentError],
  ["modules that are none", () => new mp.nn.ModuleList(3 as never), mp.ArgumentError],
  [
    "a state that is none",
    () => new mp.nn.Linear(1, 1).loadStateDict(null as never),
    mp.CheckpointError,
  ],
  ["an optimizer of nothing", () => new mp.SGD(null as never), mp.ArgumentError],
  ["a schedule of nothing", () => mp.lrScheduler.constant(null as never), mp.ArgumentError],
] as const)("%s", (_name, call, ErrorClass) => {
  expect(call).toThrow(ErrorClass);
});

test("clamp promotes as a sum would", () => {
  expect(mp.tensor([true, false]).clamp({ max: 2 }).dtype).toBe("int64");
  expect(mp.tensor([1], { dtype: "int8" }).clamp({ min: 0.5 }).dtype).toBe("float32");
  expect(mp.tensor([1], { dtype: "int8" }).clamp({ min: 0 }).dtype).toBe("int8");
});

test("schedules take Hugging Face's names of the step counts", () => {
  const rates = (options: object): number[] => {
    const optimizer = new mp.SGD([mp.ones([1], { requiresGrad: true })], { lr: 1 });
    const scheduler = mp.lrScheduler.linear(optimizer, options);
    return [0, 1, 2, 3].map(() => {
      scheduler.step();
      return optimizer.paramGroups[0]!.lr;
    });
  };
  expect(rates({ numWarmupSteps: 2, numTrainingSteps: 6 })).toEqual(
    rates({ warmupSteps: 2, totalSteps: 6 }),
  );
  expect(() => rates({ totalSteps: 6, numTrainingSteps: 6 })).toThrow(mp.ArgumentError);
  expect(() => rates({ totalStep: 6 })).toThrow(/there is no option "totalStep"/);
});
