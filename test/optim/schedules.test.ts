// Learning rates over steps: by name as the reference formulas, and tied to steps that count.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { readGolden } from "../helpers/golden.js";

const { SGD, lrScheduler } = mp.optim;

interface ScheduleCase {
  readonly name: string;
  readonly schedule: keyof typeof lrScheduler;
  readonly options: object;
  readonly lr: number;
  readonly lrs: readonly number[];
}

const golden = readGolden("optim/schedules.json") as { cases: ScheduleCase[] };

type Make = (optimizer: mp.Optimizer, options: object) => mp.LRScheduler;

function optimizerWith(...lrs: number[]): mp.Optimizer {
  return new SGD(lrs.map((lr) => ({ params: [mp.ones([1])], lr })));
}

const lrsOf = (optimizer: mp.Optimizer): number[] => optimizer.paramGroups.map(({ lr }) => lr);

describe("learning rates after each step", () => {
  test.each(golden.cases)("$name", ({ schedule, options, lr, lrs }) => {
    const optimizer = new SGD([mp.ones([1])], { lr });
    const scheduler = (lrScheduler[schedule] as Make)(optimizer, options);
    lrs.forEach((expected, step) => {
      if (step > 0) scheduler.step();
      expect(optimizer.paramGroups[0]!.lr, `step ${step}`).toBeCloseTo(expected, 12);
      expect(scheduler.getLastLr()).toEqual(lrsOf(optimizer));
    });
    expect(scheduler.lastEpoch).toBe(lrs.length - 1);
  });

  test("every group keeps its own rate", () => {
    const optimizer = optimizerWith(1, 0.1);
    const scheduler = lrScheduler.linear(optimizer, { totalSteps: 4 });
    scheduler.step();
    expect(lrsOf(optimizer)).toEqual([0.75, 0.75 * 0.1]);
    expect(optimizer.paramGroups.map(({ initialLr }) => initialLr)).toEqual([1, 0.1]);
  });

  test("lambdaLR takes a function, or one for each group", () => {
    const optimizer = optimizerWith(1, 2);
    const scheduler = lrScheduler.lambdaLR(optimizer, [(step) => step + 1, (step) => 10 ** -step]);
    expect(lrsOf(optimizer)).toEqual([1, 2]);
    scheduler.step();
    expect(lrsOf(optimizer)).toEqual([2, 0.2]);
    const other = optimizerWith(3);
    lrScheduler.lambdaLR(other, (step) => 1 / (step + 2));
    expect(lrsOf(other)).toEqual([1.5]);
  });
});

describe("steps that were left out", () => {
  const outcome = (skipped: boolean): { skipped: boolean } => ({ skipped });

  test("do not count", () => {
    const optimizer = optimizerWith(1);
    const scheduler = lrScheduler.linear(optimizer, { totalSteps: 10 });
    scheduler.step(outcome(true));
    expect(lrsOf(optimizer)).toEqual([1]);
    scheduler.step(outcome(false));
    expect(lrsOf(optimizer)).toEqual([0.9]);
    scheduler.step(outcome(true));
    scheduler.step(outcome(false));
    scheduler.step(outcome(false));
    expect(scheduler.lastEpoch).toBe(3);
    expect(lrsOf(optimizer)[0]).toBeCloseTo(0.7, 12);
  });

  test("are looked at no sooner than a rate is needed", () => {
    const parameter = mp.ones([1]);
    const optimizer = new SGD([parameter], { lr: 1 });
    const scheduler = lrScheduler.linear(optimizer, { totalSteps: 2 });
    let reads = 0;
    const lazy = {
      get skipped(): boolean {
        reads++;
        return false;
      },
    };
    scheduler.step(lazy);
    optimizer.zeroGrad();
    expect(optimizer.parameters()).toEqual([parameter]);
    expect(optimizer.gradients()).toEqual([]);
    expect(reads).toBe(0);
    parameter.grad = mp.ones([1]);
    optimizer.step();
    expect(reads).toBe(1);
    // The step was made at the rate that the outcome led to.
    expect(parameter.toArray()).toEqual([0.5]);
    scheduler.getLastLr();
    expect(reads).toBe(1);
  });

  test.each([
    ["stateDict", (scheduler: mp.LRScheduler) => scheduler.stateDict().lastEpoch],
    ["lastEpoch", (scheduler: mp.LRScheduler) => scheduler.lastEpoch],
    ["a plain step", (scheduler: mp.LRScheduler) => (scheduler.step(), scheduler.lastEpoch - 1)],
  ])("are settled by %s", (_name, read) => {
    const scheduler = lrScheduler.linear(optimizerWith(1), { totalSteps: 10 });
    scheduler.step(outcome(false));
    scheduler.step(outcome(true));
    expect(read(scheduler)).toBe(1);
  });
});

describe("state", () => {
  test("goes on where it was", () => {
    const make = (): [mp.Optimizer, mp.LRScheduler] => {
      const optimizer = optimizerWith(1, 0.5);
      return [optimizer, lrScheduler.cosine(optimizer, { warmupSteps: 2, totalSteps: 9 })];
    };
    const [first, scheduler] = make();
    for (let step = 0; step < 4; step++) scheduler.step();
    const saved = JSON.parse(JSON.stringify(scheduler.stateDict())) as mp.optim.LRSchedulerState;
    expect(Object.keys(saved)).toEqual(["lastEpoch", "baseLrs", "lastLr"]);
    const [second, resumed] = make();
    resumed.loadStateDict(saved);
    expect(lrsOf(second)).toEqual(lrsOf(first));
    scheduler.step();
    resumed.step();
    expect(lrsOf(second)).toEqual(lrsOf(first));
  });

  test("lastEpoch goes on with an optimizer that was scheduled before", () => {
    const optimizer = optimizerWith(1);
    lrScheduler.linear(optimizer, { totalSteps: 10 });
    const resumed = lrScheduler.linear(optimizer, { totalSteps: 10, lastEpoch: 4 });
    expect(resumed.lastEpoch).toBe(5);
    expect(lrsOf(optimizer)).toEqual([0.5]);
    expect(() => lrScheduler.linear(optimizerWith(1), { totalSteps: 9, lastEpoch: 4 })).toThrow(
      /lastEpoch is 4, but group 0 has no initialLr/,
    );
  });

  test.each([
    [null],
    [{}],
    [{ lastEpoch: -1, baseLrs: [1], lastLr: [1] }],
    [{ lastEpoch: 1, baseLrs: [1, 2], lastLr: [1, 2] }],
    [{ lastEpoch: 1, baseLrs: [NaN], lastLr: [1] }],
  ])("that does not fit is a CheckpointError: %j", (state) => {
    const optimizer = optimizerWith(1);
    const scheduler = lrScheduler.linear(optimizer, { totalSteps: 10 });
    const load = (): void => {
      scheduler.loadStateDict(state as never);
    };
    expect(load).toThrow(mp.CheckpointError);
    expect(scheduler.stateDict()).toEqual({ lastEpoch: 0, baseLrs: [1], lastLr: [1] });
  });
});

test.each<[string, (optimizer: mp.Optimizer) => unknown, RegExp]>([
  ["NaN steps", (o) => lrScheduler.linear(o, { totalSteps: NaN }), /linear: totalSteps.*NaN/],
  ["no steps", (o) => lrScheduler.cosine(o, {}), /cosine: totalSteps.*undefined/],
  ["negative warmup", (o) => lrScheduler.constant(o, { warmupSteps: -1 }), /warmupSteps.*-1/],
  [
    "an end above the rate",
    (o) => lrScheduler.polynomial(o, { totalSteps: 3, lrEnd: 2 }),
    /lrEnd — expected a rate below the optimizer's, 0.001, got 2/,
  ],
  ["minLrRate", (o) => lrScheduler.cosine(o, { totalSteps: 3, minLrRate: 2 }), /minLrRate/],
  ["timescale 0", (o) => lrScheduler.inverseSqrt(o, { timescale: 0 }), /timescale/],
  ["a list of wrong length", (o) => lrScheduler.lambdaLR(o, []), /one for each of 1 groups/],
  ["stepSize 0", (o) => lrScheduler.stepLR(o, { stepSize: 0 }), /stepSize/],
  ["no milestones", (o) => lrScheduler.multiStepLR(o, {} as never), /milestones.*undefined/],
  ["a NaN gamma", (o) => lrScheduler.exponentialLR(o, { gamma: NaN }), /gamma.*NaN/],
  ["tMax 0", (o) => lrScheduler.cosineAnnealingLR(o, { tMax: 0 }), /tMax/],
  ["lastEpoch -2", (o) => lrScheduler.linear(o, { totalSteps: 3, lastEpoch: -2 }), /lastEpoch/],
  ["a step number", (o) => lrScheduler.constant(o).step(3 as never), /outcome of a step, got 3/],
])("%s: an ArgumentError", (_name, make, message) => {
  const call = (): unknown => make(optimizerWith(1));
  expect(call).toThrow(mp.ArgumentError);
  expect(call).toThrow(message);
});
