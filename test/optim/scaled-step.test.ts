// The step on scaled gradients, which the loss scaler takes: as unscaling first, and nothing at all
// where an overflow was found.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";

const { AdamW, SGD } = mp.optim;

const scalar = (value: number): mp.Tensor => mp.tensor(value, { dtype: "float32" });

type Make = (params: mp.Tensor[]) => mp.Optimizer;

const KINDS: [string, Make][] = [
  ["SGD", (p) => new SGD(p, { lr: 0.1 })],
  ["SGD with momentum", (p) => new SGD(p, { lr: 0.1, momentum: 0.9, dampening: 0.4 })],
  ["AdamW", (p) => new AdamW(p, { lr: 0.1 })],
  ["AdamW maximizing with amsgrad", (p) => new AdamW(p, { amsgrad: true, maximize: true })],
  ["AdamW with masters", (p) => new AdamW(p, { lr: 0.1, masterWeights: true })],
];

function setUp(make: Make, dtype: mp.DType = "float32"): { params: mp.Tensor[]; o: mp.Optimizer } {
  mp.manualSeed(1);
  const params = [mp.randn([5, 3], { dtype }), mp.randn([2], { dtype })];
  return { params, o: make(params) };
}

function give(params: readonly mp.Tensor[], seed: number, factor = 1): void {
  mp.manualSeed(seed);
  for (const parameter of params) {
    parameter.grad = mp.mul(mp.randn(parameter.shape), factor).to(parameter.dtype);
  }
}

const values = (params: readonly mp.Tensor[]): unknown => params.map((p) => p.toArray());

describe.each(KINDS)("%s", (_name, make) => {
  test("divides gradients by the scale on the way, and leaves them so", () => {
    const [plain, scaled] = [setUp(make), setUp(make)];
    for (let step = 0; step < 3; step++) {
      give(plain.params, step);
      plain.o.step();
      give(scaled.params, step, 1024);
      scaled.o.stepScaled(scalar(1024), scalar(0));
      expect(values(scaled.params)).toEqual(values(plain.params));
      expect(scaled.params.map((p) => p.grad!.toArray())).toEqual(
        plain.params.map((p) => p.grad!.toArray()),
      );
    }
  });

  test("does nothing after an overflow: no weight, no moment, no count", () => {
    const [clean, skipping] = [setUp(make), setUp(make)];
    for (let step = 0; step < 4; step++) {
      give(skipping.params, 77, Infinity);
      skipping.o.stepScaled(scalar(2), scalar(1));
      give(skipping.params, step);
      skipping.o.stepScaled(null, scalar(0));
      give(clean.params, step);
      clean.o.step();
    }
    expect(values(skipping.params)).toEqual(values(clean.params));
    for (const [i, parameter] of skipping.params.entries()) {
      const other = clean.o.stateOf(clean.params[i]!)!;
      for (const [key, tensor] of Object.entries(skipping.o.stateOf(parameter)!)) {
        expect(tensor.toArray(), key).toEqual(other[key]!.toArray());
      }
    }
  });

  test("float16 gradients that underflow as they are unscaled are left as 0", () => {
    const { params, o } = setUp(make, "float16");
    for (const parameter of params) {
      // 2^-14 / 2^12 is below half of float16's smallest number.
      parameter.grad = mp.full(parameter.shape, 2 ** -14, { dtype: "float16" });
    }
    o.stepScaled(scalar(4096), scalar(0));
    for (const { grad } of params) expect(mp.amax(grad!).item()).toBe(0);
  });
});

test("the step itself sees them unrounded", () => {
  const parameter = mp.ones([3], { dtype: "float16" });
  const optimizer = new AdamW([parameter], { masterWeights: true });
  parameter.grad = mp.full([3], 2 ** -14, { dtype: "float16" });
  optimizer.stepScaled(scalar(4096), scalar(0));
  const moment = (optimizer.stateOf(parameter)!.expAvg!.toArray() as number[])[0]!;
  expect(moment).toBeCloseTo(0.1 * 2 ** -26, 15);
  expect(moment / (0.1 * 2 ** -26)).toBeCloseTo(1, 5);
});

test("scalars of another kind are refused", () => {
  const { params, o } = setUp(KINDS[0]![1]);
  give(params, 0);
  for (const bad of [mp.tensor([1, 2], { dtype: "float32" }), mp.tensor(1, { dtype: "int32" })]) {
    const steps = [
      () => {
        o.stepScaled(null, bad);
      },
      () => {
        o.stepScaled(bad, scalar(0));
      },
    ];
    for (const step of steps) {
      expect(step).toThrow(mp.ArgumentError);
      expect(step).toThrow(/SGD.stepScaled: expected one float32 element, got (float32|int32)/);
    }
  }
});
