// The same computation on the CPU, which has tests of its own, and on the device under test.

import { expect } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "./devices.js";
import { elements } from "./golden.js";

/** The floating-point dtypes. */
export const FLOATS = ["float64", "float32", "float16", "bfloat16"] as const;

/** `count` numbers on the CPU from -3 to 3, whole ones from -100 to 99 for integers. */
export function numbers(count: number, dtype: mp.DType, seed: number): mp.Tensor {
  const values = Float64Array.from({ length: count }, (_, i) => {
    const x = Math.sin(i * 12.9898 + seed * 78.233) * 43758.5453;
    const unit = x - Math.floor(x);
    if (dtype === "bool") return unit < 0.5 ? 0 : 1;
    if (dtype === "uint8") return Math.floor(unit * 200);
    return dtype.startsWith("int") ? Math.floor(unit * 200) - 100 : unit * 6 - 3;
  });
  return mp.fromTypedArray(values, [count], { dtype, device: "cpu" });
}

const TOLERANCE: Partial<Record<mp.DType, number>> = {
  float64: 1e-12,
  float32: 1e-5,
  float16: 2 ** -9,
  bfloat16: 2 ** -6,
};

/** Fails unless the tensor is on the device under test and holds what the expected one does. */
export function expectSame(found: mp.Tensor, expected: mp.Tensor, exact = false): void {
  expect(found.device).toBe(TEST_DEVICE);
  expect(found.dtype).toBe(expected.dtype);
  expect(found.shape).toEqual(expected.shape);
  if (exact) {
    const [bytes, wanted] = [found, expected].map((x) => Buffer.from(x.bytes()).toString("hex"));
    expect(bytes, expected.toString()).toBe(wanted);
    return;
  }
  const wanted = elements(expected);
  const tolerance = TOLERANCE[expected.dtype] ?? 0;
  // Sums of numbers of both signs are off by as much where they are near 0.
  const finite = wanted.filter(Number.isFinite).map(Math.abs);
  const floor = finite.reduce((a, b) => Math.max(a, b / 8), 0.25);
  elements(found).forEach((value, i) => {
    const want = wanted[i]!;
    if (Object.is(value, want) || value === want) return;
    const allowed = tolerance * Math.max(Math.abs(want), floor);
    if (!(Math.abs(value - want) <= allowed)) {
      expect.fail(`element ${i} of ${expected.toString()}: expected ${want}, got ${value}`);
    }
  });
}

/** What a computation gives: one tensor, or several. */
export type Results = mp.Tensor | readonly mp.Tensor[];

/** Runs `compute` over the inputs, which are on the CPU, on both devices and compares. */
export function compare(
  compute: (...inputs: mp.Tensor[]) => Results,
  inputs: readonly mp.Tensor[],
  exact = false,
): void {
  mp.tidy(() => {
    const expected = [compute(...inputs)].flat();
    const found = [compute(...inputs.map((x) => x.to(TEST_DEVICE)))].flat();
    expect(found.length).toBe(expected.length);
    found.forEach((tensor, i) => {
      expectSame(tensor, expected[i]!, exact);
    });
  });
}
