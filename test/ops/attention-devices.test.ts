// Attention on the device under test against the CPU's, gradients included: the same elements are
// dropped, rows take all lengths, and more rows than fit one block of scores add to one gradient.

import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";

interface Result {
  readonly out: number[];
  readonly grads: number[][];
}

function values(x: mp.Tensor): number[] {
  return x.to("float64").reshape([-1]).toArray() as number[];
}

function attend(operands: readonly mp.Tensor[], device: mp.Device, options: object): Result {
  const [q, k, v, g, mask] = operands.map((x) => x.to(device).detach());
  for (const x of [q!, k!, v!]) x.requiresGrad = true;
  mp.manualSeed(5);
  const masked = mask === undefined ? options : { ...options, mask };
  const out = mp.scaledDotProductAttention(q!, k!, v!, masked);
  out.backward(g);
  return { out: values(out), grads: [q!, k!, v!].map((x) => values(x.grad!)) };
}

function largestDifference(a: readonly number[], b: readonly number[]): number {
  expect(a).toHaveLength(b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!) / (1 + Math.abs(b[i]!))), 0);
}

function expectEqualToCpu(
  [B, H, L, S, D, DV]: readonly [number, number, number, number, number, number],
  dtype: mp.DType,
  options: object,
  tolerance: number,
  mask?: mp.Tensor,
): void {
  mp.manualSeed(4);
  const normal = (...shape: number[]): mp.Tensor => mp.randn(shape, { dtype, device: "cpu" });
  const operands = [
    normal(B, L, H, D).transpose(1, 2),
    normal(B, H, S, D),
    normal(B, H, S, DV),
    normal(B, H, L, DV),
    ...(mask === undefined ? [] : [mask]),
  ];
  const expected = attend(operands, "cpu", options);
  const actual = attend(operands, TEST_DEVICE, options);
  expect(largestDifference(actual.out, expected.out)).toBeLessThan(tolerance);
  actual.grads.forEach((grad, i) => {
    expect(largestDifference(grad, expected.grads[i]!)).toBeLessThan(tolerance);
  });
}

describe("attention is that of the CPU", () => {
  it.each([
    ["float64", 1e-12],
    ["float32", 1e-5],
    ["float16", 4e-3],
    ["bfloat16", 3e-2],
  ] as const)("in %s", (dtype, tolerance) => {
    expectEqualToCpu([2, 3, 9, 37, 8, 5], dtype, { causal: true }, tolerance);
    expectEqualToCpu([1, 2, 70, 66, 16, 16], dtype, { scale: 0.3 }, tolerance);
  });

  it.each([1, 37, 64])("dropping the same weights of rows of %d", (length) => {
    expectEqualToCpu([2, 2, 5, length, 4, 4], "float64", { dropout: 0.4 }, 1e-12);
    expectEqualToCpu([1, 1, 3, length, 4, 4], "float32", { dropout: 1 }, 1e-5);
  });

  it("under masks", () => {
    const keys = mp.tensor([[[[true, true, false]]], [[[true, false, false]]]], { device: "cpu" });
    expectEqualToCpu([2, 2, 4, 3, 4, 4], "float32", {}, 1e-5, keys);
    const added = mp.tensor([-1, 2, -Infinity], { dtype: "float16", device: "cpu" });
    expectEqualToCpu([1, 2, 4, 3, 4, 4], "float16", { dropout: 0.2 }, 4e-3, added);
  });

  it("of long rows, with dropout", () => {
    expectEqualToCpu([1, 1, 2, 2500, 3, 2], "float32", { dropout: 0.1 }, 1e-5);
  });

  it.each(["float32", "bfloat16"] as const)("of more rows than one block has, in %s", (dtype) => {
    const tolerance = dtype === "float32" ? 2e-5 : 3e-2;
    expectEqualToCpu([1, 2, 200, 1024, 3, 2], dtype, { dropout: 0.1 }, tolerance);
  });

  it("of nothing", () => {
    expectEqualToCpu([1, 2, 0, 3, 4, 4], "float32", {}, 1e-5);
    expectEqualToCpu([1, 2, 3, 0, 4, 4], "float32", {}, 1e-5);
  });
});
