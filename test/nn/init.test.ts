import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { normalQuantile } from "../../lib/nn/quantile.js";
import { elements } from "../helpers/golden.js";
import { liveTensors } from "../helpers/memory.js";

const { init } = mp.nn;

const float64 = { dtype: "float64" } as const;

function moments(x: mp.Tensor): { min: number; max: number; mean: number; std: number } {
  const values = elements(x);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const square = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
  const min = values.reduce((a, b) => Math.min(a, b));
  const max = values.reduce((a, b) => Math.max(a, b));
  return { min, max, mean, std: Math.sqrt(square) };
}

describe("init", () => {
  it("uniform draws from [a, b)", () => {
    mp.manualSeed(1);
    const x = mp.zeros([40, 500]);
    expect(init.uniform(x, { a: -3, b: 1 })).toBe(x);
    const { min, max, mean, std } = moments(x);
    expect(min).toBeGreaterThanOrEqual(-3);
    expect(min).toBeLessThan(-2.99);
    expect(max).toBeLessThanOrEqual(1);
    expect(max).toBeGreaterThan(0.99);
    expect(mean).toBeCloseTo(-1, 1);
    expect(std).toBeCloseTo(4 / Math.sqrt(12), 1);
    expect(moments(init.uniform(x)).min).toBeGreaterThanOrEqual(0);
  });

  it("normal draws with a mean and a standard deviation", () => {
    mp.manualSeed(2);
    const { mean, std } = moments(init.normal(mp.zeros([20000]), { mean: 5, std: 0.5 }));
    expect(mean).toBeCloseTo(5, 1);
    expect(std).toBeCloseTo(0.5, 1);
    expect(moments(init.normal(mp.zeros([20000]))).std).toBeCloseTo(1, 1);
  });

  // Mean and standard deviation from torch's trunc_normal_, 200,000 draws.
  it.each([
    [{}, 0.0007, 0.8795],
    [{ mean: 1, std: 2, a: -1, b: 3 }, 0.9943, 1.0785],
    [{ mean: 0, std: 0.3, a: 0.5, b: 1 }, 0.6204, 0.1025],
  ])("truncNormal %o stays within its bounds", (options, mean, std) => {
    mp.manualSeed(3);
    const found = moments(init.truncNormal(mp.zeros([40000], float64), options));
    const { a = -2, b = 2 } = options as { a?: number; b?: number };
    expect(found.min).toBeGreaterThanOrEqual(a);
    expect(found.max).toBeLessThanOrEqual(b);
    expect(Math.abs(found.mean - mean)).toBeLessThan(0.02);
    expect(Math.abs(found.std - std)).toBeLessThan(0.02);
  });

  it("truncNormal without a spread is the mean, within the bounds", () => {
    expect(elements(init.truncNormal(mp.zeros([2]), { mean: 9, std: 0 }))).toEqual([2, 2]);
  });

  it("constant, zeros, ones and eye write what they say", () => {
    const x = mp.zeros([2, 3]);
    expect(elements(init.constant(x, 2.5))).toEqual(new Array(6).fill(2.5));
    expect(elements(init.ones(x))).toEqual(new Array(6).fill(1));
    expect(elements(init.zeros(x))).toEqual(new Array(6).fill(0));
    expect(elements(init.eye(init.ones(x)))).toEqual([1, 0, 0, 0, 1, 0]);
    expect(elements(init.eye(mp.ones([3, 1])))).toEqual([1, 0, 0]);
    const counts = mp.ones([2], { dtype: "int64" });
    expect(elements(init.constant(counts, 7))).toEqual([7, 7]);
  });

  it("calculateGain gives torch's factors", () => {
    expect(init.calculateGain("linear")).toBe(1);
    expect(init.calculateGain("sigmoid")).toBe(1);
    expect(init.calculateGain("conv2d")).toBe(1);
    expect(init.calculateGain("tanh")).toBe(5 / 3);
    expect(init.calculateGain("relu")).toBe(Math.SQRT2);
    expect(init.calculateGain("leakyRelu")).toBeCloseTo(1.4141428569978354, 15);
    expect(init.calculateGain("leakyRelu", 0.2)).toBeCloseTo(1.3867504905630728, 15);
    expect(init.calculateGain("selu")).toBe(0.75);
    expect(() => init.calculateGain("swish" as "tanh")).toThrow(mp.ArgumentError);
  });

  // [40, 30, 3, 2]: 180 inputs and 240 outputs of a unit.
  it.each<[string, (x: mp.Tensor) => mp.Tensor, number, boolean]>([
    ["xavierUniform", (x) => init.xavierUniform(x, { gain: 2 }), 2 * Math.sqrt(2 / 420), true],
    ["xavierNormal", (x) => init.xavierNormal(x), Math.sqrt(2 / 420), false],
    ["kaimingUniform", (x) => init.kaimingUniform(x, { a: 1 }), Math.sqrt(1 / 180), true],
    ["kaimingNormal", (x) => init.kaimingNormal(x), Math.sqrt(2 / 180), false],
    [
      "kaimingNormal fanOut",
      (x) => init.kaimingNormal(x, { mode: "fanOut", nonlinearity: "tanh" }),
      5 / 3 / Math.sqrt(240),
      false,
    ],
  ])("%s has the right spread", (_, fill, std, uniform) => {
    mp.manualSeed(4);
    const found = moments(fill(mp.zeros([40, 30, 3, 2])));
    expect(found.std / std).toBeCloseTo(1, 1);
    expect(Math.abs(found.mean / std)).toBeLessThan(0.1);
    if (uniform) expect(found.max / (std * Math.sqrt(3))).toBeCloseTo(1, 2);
    else expect(found.max / std).toBeGreaterThan(3);
  });

  it.each([
    [4, 7],
    [7, 4],
    [5, 5],
    [1, 3],
  ])("orthogonal [%i, %i] has orthonormal rows or columns", (rows, cols) => {
    mp.manualSeed(5);
    const x = init.orthogonal(mp.zeros([rows, cols], float64), { gain: 3 });
    const product = rows <= cols ? x.matmul(x.transpose(0, 1)) : x.transpose(0, 1).matmul(x);
    const size = Math.min(rows, cols);
    elements(product).forEach((value, i) => {
      expect(value).toBeCloseTo(i % (size + 1) === 0 ? 9 : 0, 12);
    });
  });

  it("orthogonal counts later dimensions as columns", () => {
    const x = init.orthogonal(mp.zeros([3, 2, 2], float64)).reshape([3, 4]);
    elements(x.matmul(x.transpose(0, 1))).forEach((value, i) => {
      expect(value).toBeCloseTo(i % 4 === 0 ? 1 : 0, 12);
    });
  });

  it("writes parameters in place, unrecorded, and repeats with the seed", () => {
    const fills: ((x: mp.Tensor) => mp.Tensor)[] = [
      (x) => init.uniform(x),
      (x) => init.normal(x),
      (x) => init.truncNormal(x),
      (x) => init.xavierUniform(x),
      (x) => init.kaimingNormal(x),
      (x) => init.orthogonal(x),
      (x) => init.eye(x),
    ];
    for (const fill of fills) {
      const parameter = new mp.nn.Parameter(mp.zeros([3, 4], { dtype: "float16" }));
      const run = (): number[] => {
        mp.manualSeed(6);
        expect(fill(parameter)).toBe(parameter);
        return elements(parameter);
      };
      const first = run();
      expect(run()).toEqual(first);
      expect(new Set(first).size).toBeGreaterThan(1);
      expect([parameter.isLeaf, parameter.requiresGrad, parameter.dtype]).toEqual([
        true,
        true,
        "float16",
      ]);
    }
  });

  it("leaves nothing behind", async () => {
    const x = mp.zeros([3, 4]);
    const before = await liveTensors();
    init.truncNormal(x);
    init.orthogonal(x);
    init.eye(x);
    init.uniform(x);
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("takes tensors without elements", () => {
    for (const fill of [
      init.xavierUniform,
      init.kaimingNormal,
      init.orthogonal,
      init.truncNormal,
    ]) {
      expect(fill(mp.zeros([0, 3])).shape).toEqual([0, 3]);
    }
  });

  it.each<[string, () => unknown, new (message: string) => Error]>([
    ["uniform of integers", () => init.uniform(mp.zeros([2], { dtype: "int64" })), mp.DTypeError],
    ["uniform backwards", () => init.uniform(mp.zeros([2]), { a: 1, b: 0 }), mp.ArgumentError],
    ["uniform NaN", () => init.uniform(mp.zeros([2]), { a: NaN }), mp.ArgumentError],
    ["normal negative", () => init.normal(mp.zeros([2]), { std: -1 }), mp.ArgumentError],
    ["truncNormal", () => init.truncNormal(mp.zeros([2]), { a: 3, b: 2 }), mp.ArgumentError],
    ["xavier of a vector", () => init.xavierNormal(mp.zeros([2])), mp.ShapeError],
    [
      "kaiming mode",
      () => init.kaimingNormal(mp.zeros([2, 2]), { mode: "fan" as "fanIn" }),
      mp.ArgumentError,
    ],
    ["eye of a vector", () => init.eye(mp.zeros([2])), mp.ShapeError],
    ["orthogonal of a vector", () => init.orthogonal(mp.zeros([2])), mp.ShapeError],
    ["no tensor", () => init.zeros([1] as unknown as mp.Tensor), mp.ArgumentError],
  ])("refuses %s", (_, run, ErrorClass) => {
    expect(run).toThrow(ErrorClass);
  });
});

describe("normalQuantile", () => {
  // From CPython's statistics.NormalDist().inv_cdf.
  it.each([
    [1e-300, -37.0470962993612],
    [1e-20, -9.262340089798405],
    [1e-5, -4.2648907939228256],
    [0.01, -2.3263478740408408],
    [0.07, -1.4757910281791702],
    [0.08, -1.4050715603096322],
    [0.3, -0.5244005127080407],
    [0.5, 0],
    [0.6, 0.2533471031357998],
    [0.924, 1.4325027208258119],
    [0.926, 1.4466320671589785],
    [0.999, 3.090232306167813],
    [0.9999999999, 6.361340889697421],
    [0, -Infinity],
    [1, Infinity],
  ])("of %d is %d", (p, z) => {
    const found = normalQuantile(p);
    if (Number.isFinite(z)) expect(Math.abs(found - z)).toBeLessThanOrEqual(2e-15 * Math.abs(z));
    else expect(found).toBe(z);
  });
});
