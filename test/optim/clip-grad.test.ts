// Clipping of gradients against torch's results.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import {
  compareWith,
  decodeValue,
  readGolden,
  type GoldenValue,
  type Tolerance,
} from "../helpers/golden.js";

const { clipGradNorm, clipGradValue } = mp.optim;

interface ClipCase {
  readonly name: string;
  readonly dtype: mp.DType;
  readonly grads: readonly (readonly GoldenValue[])[];
  readonly maxNorm?: GoldenValue;
  readonly normType?: GoldenValue;
  readonly norm?: GoldenValue;
  readonly clipValue?: number;
  readonly clipped: readonly (readonly GoldenValue[])[];
}

const golden = readGolden("optim/clipping.json") as { shapes: number[][]; cases: ClipCase[] };

// torch computes the norm of bfloat16 gradients in bfloat16.
const NORM_TOLERANCES: Partial<Record<mp.DType, number>> = {
  float64: 1e-13,
  float32: 1e-6,
  bfloat16: 2 ** -7,
};
const TOLERANCES: Partial<Record<mp.DType, Tolerance>> = {
  bfloat16: { relative: 2 ** -6, absolute: 0 },
};

function withGrad(values: readonly GoldenValue[], shape: number[], dtype: mp.DType): mp.Tensor {
  const parameter = mp.zeros(shape, { dtype, requiresGrad: true });
  parameter.grad = mp.fromTypedArray(Float64Array.from(values, decodeValue), shape, { dtype });
  return parameter;
}

describe("as torch", () => {
  test.each(golden.cases)("$name", (entry) => {
    const { dtype, clipValue } = entry;
    const params = entry.grads.map((values, i) => withGrad(values, golden.shapes[i]!, dtype));
    if (clipValue === undefined) {
      const normType = decodeValue(entry.normType!);
      const norm = clipGradNorm(params, decodeValue(entry.maxNorm!), { normType });
      expect(norm.dtype).toBe(dtype === "float64" ? dtype : "float32");
      expect(norm.shape).toEqual([]);
      const expected = decodeValue(entry.norm!);
      if (Number.isFinite(expected)) {
        const relative = Math.abs(norm.item() - expected) / expected;
        expect(relative).toBeLessThan(NORM_TOLERANCES[dtype]!);
      } else {
        expect(norm.item()).toBe(expected);
      }
    } else {
      clipGradValue(params, clipValue);
    }
    params.forEach((parameter, i) => {
      const expected = { dtype, shape: parameter.shape, values: entry.clipped[i]! };
      const tolerance = TOLERANCES[dtype];
      expect(compareWith(parameter.grad!, expected, tolerance && { tolerance })).toBeNull();
    });
  });
});

test("strided gradients are clipped in place", () => {
  const parameter = mp.zeros([2, 3]);
  const memory = mp.tensor([
    [3, 0],
    [0, 4],
    [0, 0],
  ]);
  parameter.grad = memory.transpose(0, 1);
  expect(clipGradNorm([parameter], 2.5).item()).toBe(5);
  expect((memory.toArray() as number[][]).flat().map((x) => Math.round(x * 1e4) / 1e4)).toEqual([
    1.5, 0, 0, 2, 0, 0,
  ]);
  clipGradValue([parameter], 1);
  expect(memory.toArray()).toEqual([
    [1, 0],
    [0, 1],
    [0, 0],
  ]);
});

test("the norm of float16 gradients does not overflow", () => {
  const parameter = mp.zeros([4], { dtype: "float16" });
  parameter.grad = mp.full([4], 60_000, { dtype: "float16" });
  expect(clipGradNorm(parameter, 1).item()).toBe(120_000);
  expect(mp.amax(parameter.grad).item()).toBeCloseTo(0.5, 3);
});

test("a large norm is summed exactly enough", () => {
  const parameter = mp.zeros([1_000_001]);
  parameter.grad = mp.full([1_000_001], 0.1);
  const exact = Math.fround(0.1) * Math.sqrt(1_000_001);
  expect(clipGradNorm([parameter], Infinity).item()).toBe(Math.fround(exact));
});

test("gradients of different dtypes are one vector", () => {
  const params = [
    withGrad([3], [1], "float32"),
    withGrad([4], [1], "bfloat16"),
    withGrad([12], [1], "float64"),
  ];
  const norm = clipGradNorm(params, 6.5);
  expect([norm.dtype, norm.item()]).toEqual(["float64", 13]);
  expect(params.map((p) => Math.round(mp.item(p.grad!) * 1e4) / 1e4)).toEqual([1.5, 2, 6]);
});

test("parameters without gradients do not matter, shared ones count once", () => {
  const parameter = withGrad([3, 4], [2], "float32");
  const bare = mp.zeros([2], { requiresGrad: true });
  expect(clipGradNorm([bare, parameter, parameter], 10).item()).toBe(5);
  expect(clipGradNorm([bare], 10).item()).toBe(0);
  expect(clipGradNorm([], 10).item()).toBe(0);
  clipGradValue([bare], 1);
  expect(bare.grad).toBeNull();
});

test("a generator of parameters is taken, and the norm outlives a tidy that returns it", () => {
  const parameter = withGrad([3, 4], [2], "float32");
  const list = function* (): Generator<mp.Tensor> {
    yield parameter;
  };
  const norm = mp.tidy(() => clipGradNorm(list(), 1));
  expect(norm.item()).toBe(5);
});

describe("errorIfNonfinite", () => {
  test("throws before anything is written, and counts what is not finite", () => {
    const params = [withGrad(["NaN", 1], [2], "float32"), withGrad([2], [1], "float32")];
    const clip = (): unknown => clipGradNorm(params, 1, { errorIfNonfinite: true });
    expect(clip).toThrow(mp.GradError);
    expect(clip).toThrow(/norm of the gradients is NaN.*of 2 gradients 1 are not finite/);
    expect(params[1]!.grad!.toArray()).toEqual([2]);
  });

  test("lets finite gradients through", () => {
    const parameter = withGrad([3, 4], [2], "float32");
    expect(clipGradNorm([parameter], 1, { errorIfNonfinite: true }).item()).toBe(5);
  });
});

test.each<[string, () => unknown, RegExp]>([
  ["a NaN norm", () => clipGradNorm([], NaN), /clipGradNorm: maxNorm — .* got NaN/],
  ["a negative norm", () => clipGradNorm([], -1), /maxNorm/],
  ["a norm that is text", () => clipGradNorm([], "1" as never), /maxNorm — .* got "1"/],
  ["norm type 0", () => clipGradNorm([], 1, { normType: 0 }), /normType — .* got 0/],
  ["a NaN norm type", () => clipGradNorm([], 1, { normType: NaN }), /normType/],
  ["a negative value", () => clipGradValue([], -0.1), /clipGradValue: clipValue — .* got -0.1/],
  ["no list", () => clipGradNorm(3 as never, 1), /list of parameters, got 3/],
  ["a list of numbers", () => clipGradValue([3] as never, 1), /expected a tensor, got 3/],
])("%s: an ArgumentError", (_name, call, message) => {
  expect(call).toThrow(mp.ArgumentError);
  expect(call).toThrow(message);
});
