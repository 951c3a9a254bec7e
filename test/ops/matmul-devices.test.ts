// Products on the device under test against the CPU's: shapes around the edges of tiles, every
// layout, and sizes at which other kernels take over.

import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";

/** Values that every dtype holds exactly, and whose products of moderate length float32 does. */
function values(shape: readonly number[], dtype: mp.DType, seed: number): mp.Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const data = Array.from({ length: count }, (_, i) => ((i * 37 + seed * 11) % 17) - 8);
  return mp.tensor(data, { dtype, device: "cpu" }).reshape(shape);
}

function expectEqualToCpu(product: (...operands: mp.Tensor[]) => mp.Tensor, operands: mp.Tensor[]) {
  const expected = product(...operands);
  const actual = product(...operands.map((x) => x.to(TEST_DEVICE)));
  expect(actual.device).toBe(TEST_DEVICE);
  expect(actual.shape).toEqual(expected.shape);
  expect(actual.toArray()).toEqual(expected.toArray());
}

const SIZES = [
  [1, 1, 1],
  [1, 70, 33],
  [65, 1, 17],
  [64, 64, 16],
  [63, 65, 31],
  [129, 130, 40],
  [3, 4, 0],
] as const;

describe("products are those of the CPU", () => {
  it.each(["float64", "float32", "float16", "bfloat16", "int64", "int32", "int8"] as const)(
    "in %s",
    (dtype) => {
      for (const [m, n, k] of SIZES) {
        const a = values([m, k], dtype, 1);
        const b = values([k, n], dtype, 2);
        expectEqualToCpu(mp.matmul, [a, b]);
        expectEqualToCpu(
          (x, y) => mp.matmul(x.transpose(0, 1), y.transpose(0, 1)),
          [values([k, m], dtype, 3), values([n, k], dtype, 4)],
        );
      }
    },
  );

  it("over batches that are views, repeat, and are many", () => {
    const q = values([2, 9, 3, 8], "float32", 5);
    const k = values([2, 7, 3, 8], "float32", 6);
    const heads = (x: mp.Tensor): mp.Tensor => x.transpose(1, 2);
    expectEqualToCpu((x, y) => mp.matmul(heads(x), heads(y).transpose(-1, -2)), [q, k]);
    expectEqualToCpu(mp.matmul, [
      values([3, 1, 4, 5], "float32", 7),
      values([2, 5, 6], "float32", 8),
    ]);
    expectEqualToCpu(mp.matmul, [values([5, 4, 5], "float32", 9), values([5, 6], "float32", 10)]);
    expectEqualToCpu(
      (x, y) => mp.matmul(x.permute([2, 0, 1, 3, 4]), y),
      [values([2, 3, 2, 4, 5], "float64", 11), values([2, 2, 3, 5, 2], "float64", 12)],
    );
    expectEqualToCpu(mp.matmul, [
      values([70, 100, 9], "bfloat16", 13),
      values([70, 9, 80], "bfloat16", 14),
    ]);
  });

  it.each(["float32", "bfloat16"] as const)("with a bias in %s", (dtype) => {
    expectEqualToCpu(
      (x, w, b) => mp.linear(x, w, b),
      [values([2, 35, 20], dtype, 1), values([70, 20], dtype, 2), values([70], dtype, 3)],
    );
  });

  it.each(["highest", "high", "medium"] as const)("at precision %s", (precision) => {
    mp.withFloat32MatmulPrecision(precision, () => {
      const fine = (shape: number[], seed: number): mp.Tensor =>
        values(shape, "float32", seed).mul(1 + 2 ** -9 + 2 ** -12);
      const operands = [fine([20, 3], 1), fine([3, 30], 2)];
      const expected = mp.matmul(operands[0]!, operands[1]!).toArray() as number[][];
      const [a, b] = operands.map((x) => x.to(TEST_DEVICE));
      const actual = mp.matmul(a!, b!).toArray() as number[][];
      actual.forEach((row, i) => {
        row.forEach((value, j) => {
          expect(Math.abs(value - expected[i]![j]!)).toBeLessThan(2e-5);
        });
      });
    });
  });
});
