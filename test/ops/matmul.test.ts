import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { gradcheck } from "../helpers/gradcheck.js";

const FLOATS = ["float64", "float32", "float16", "bfloat16"] as const;

/** A product of the elements that the tensors hold, in float64. */
function reference(lhs: mp.Tensor, rhs: mp.Tensor): number[][] {
  const a = lhs.toArray() as number[][];
  const b = rhs.toArray() as number[][];
  return a.map((row) =>
    b[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)),
  );
}

function expectClose(actual: mp.Tensor, expected: number[][], tolerance: number): void {
  const got = actual.toArray() as number[][];
  expected.forEach((row, i) => {
    row.forEach((value, j) => {
      const bound = tolerance * Math.max(1, Math.abs(value));
      expect(Math.abs(got[i]![j]! - value), `element ${i}, ${j}`).toBeLessThanOrEqual(bound);
    });
  });
}

describe("matmul", () => {
  it.each(FLOATS)("multiplies matrices of %s", (dtype) => {
    mp.manualSeed(1);
    const lhs = mp.randn([7, 33], { dtype });
    const rhs = mp.randn([33, 18], { dtype });
    const out = mp.matmul(lhs, rhs);
    expect(out.dtype).toBe(dtype);
    const bound = { float64: 1e-13, float32: 1e-5, float16: 2e-3, bfloat16: 1.6e-2 }[dtype];
    expectClose(out, reference(lhs, rhs), bound);
  });

  it("rounds 16-bit results once, from a float32 sum", () => {
    const ones = mp.ones([1, 4096], { dtype: "float16" });
    const small = mp.full([4096, 1], 2 ** -12, { dtype: "float16" });
    expect(mp.matmul(ones, small).item()).toBe(1);
    // In float16 the sum would stop at 2048.
    expect(mp.matmul(ones, mp.ones([4096, 1], { dtype: "float16" })).item()).toBe(4096);
  });

  it("takes vectors on either side", () => {
    const matrix = mp.tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const vector = mp.tensor([1, 10, 100]);
    expect(mp.matmul(matrix, vector).toArray()).toEqual([321, 654]);
    expect(mp.matmul(mp.tensor([1, 10]), matrix).toArray()).toEqual([41, 52, 63]);
    const dot = mp.matmul(vector, vector);
    expect(dot.shape).toEqual([]);
    expect(dot.item()).toBe(10101);
  });

  it("broadcasts leading dimensions, also over views", () => {
    mp.manualSeed(2);
    const lhs = mp.randn([2, 1, 4, 3], { dtype: "float64" });
    const rhs = mp.randn([5, 2, 3], { dtype: "float64" }).transpose(1, 2);
    const out = mp.matmul(lhs, rhs);
    expect(out.shape).toEqual([2, 5, 4, 2]);
    for (let i = 0; i < 2; i++) {
      for (let j = 0; j < 5; j++) {
        const left = lhs.select(0, i).select(0, 0);
        expectClose(out.select(0, i).select(0, j), reference(left, rhs.select(0, j)), 1e-13);
      }
    }
  });

  it("multiplies heads in place of a [B, L, H, D] tensor", () => {
    mp.manualSeed(3);
    const x = mp.randn([2, 5, 3, 4], { dtype: "float64" }).transpose(1, 2);
    const out = mp.matmul(x, x.transpose(-1, -2));
    for (let b = 0; b < 2; b++) {
      for (let h = 0; h < 3; h++) {
        const head = x.select(0, b).select(0, h);
        const expected = reference(head, head.transpose(0, 1));
        expectClose(out.select(0, b).select(0, h), expected, 1e-13);
      }
    }
  });

  it("gives zeros for K = 0 and nothing for M = 0", () => {
    expect(mp.matmul(mp.zeros([2, 0]), mp.zeros([0, 3])).toArray()).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
    expect(mp.matmul(mp.zeros([0, 4]), mp.zeros([4, 3])).shape).toEqual([0, 3]);
    expect(mp.matmul(mp.zeros([0, 2, 4]), mp.zeros([0, 4, 3])).shape).toEqual([0, 2, 3]);
  });

  it("multiplies integers exactly", () => {
    const lhs = mp.tensor([[100, -3]], { dtype: "int64" });
    const rhs = mp.tensor([[7], [2 ** 40]], { dtype: "int64" });
    expect(mp.matmul(lhs, rhs).item()).toBe(700 - 3 * 2 ** 40);
  });

  it("lets NaN and infinity through", () => {
    const out = mp.matmul(mp.tensor([[0, NaN]]), mp.tensor([[1], [1]]));
    expect(out.item()).toBeNaN();
    expect(mp.matmul(mp.tensor([[0]]), mp.tensor([[Infinity]])).item()).toBeNaN();
  });

  it.each([
    ["matrices", [3, 4], [4, 5]],
    ["vector and matrix", [4], [4, 5]],
    ["matrix and vector", [3, 4], [4]],
    ["vectors", [4], [4]],
    ["rows of a batch with one matrix", [2, 3, 4], [4, 5]],
    ["one matrix with a batch", [3, 4], [2, 4, 2]],
    ["a broadcast batch", [2, 1, 3, 2], [3, 2, 2]],
    ["an empty batch", [0, 3, 2], [2, 2]],
  ])("differentiates %s", (_, left, right) => {
    mp.manualSeed(4);
    const lhs = mp.randn(left, { dtype: "float64" });
    const rhs = mp.randn(right, { dtype: "float64" });
    gradcheck((a, b) => mp.matmul(a, b), [lhs, rhs], { second: true });
  });

  it("differentiates views", () => {
    mp.manualSeed(5);
    const x = mp.randn([2, 3, 2, 4], { dtype: "float64" });
    const heads = (t: mp.Tensor): mp.Tensor => t.transpose(1, 2);
    gradcheck((t) => mp.matmul(heads(t), heads(t).transpose(-1, -2)), [x], { second: true });
  });

  it.each(["float16", "bfloat16"] as const)("gives gradients in %s", (dtype) => {
    const lhs = mp.ones([2, 3], { dtype, requiresGrad: true });
    const rhs = mp.full([3, 2], 2, { dtype, requiresGrad: true });
    mp.matmul(lhs, rhs).sum().backward();
    expect(lhs.grad!.dtype).toBe(dtype);
    expect(lhs.grad!.toArray()).toEqual([
      [4, 4, 4],
      [4, 4, 4],
    ]);
    expect(rhs.grad!.toArray()).toEqual([
      [2, 2],
      [2, 2],
      [2, 2],
    ]);
  });

  it("names both operands in its errors", () => {
    const message = "matmul: shape mismatch, lhs [2, 3], rhs [4, 5]: K is 3 and 4";
    expect(() => mp.matmul(mp.zeros([2, 3]), mp.zeros([4, 5]))).toThrow(message);
    expect(() => mp.matmul(mp.zeros([2, 2, 3]), mp.zeros([5, 3, 5]))).toThrow(mp.ShapeError);
    expect(() => mp.matmul(mp.tensor(1), mp.zeros([1]))).toThrow(mp.ShapeError);
    const half = mp.zeros([3, 2], { dtype: "float16" });
    expect(() => mp.matmul(mp.zeros([2, 3]), half)).toThrow(mp.DTypeError);
    expect(() => mp.matmul(mp.zeros([2, 3]), half)).toThrow(/float32 \[2, 3\].*float16 \[3, 2\]/);
  });
});

describe("float32 matmul precision", () => {
  // 1 + 2^-12 rounds to 1 in TF32 (10 stored bits) and bfloat16 (7); 1 + 2^-9 only in bfloat16.
  const product = (value: number): number =>
    mp.matmul(mp.tensor([[value]]), mp.tensor([[1]])).item();

  it("rounds inputs as its mode says", () => {
    const fine = 1 + 2 ** -12;
    const coarse = 1 + 2 ** -9;
    expect(product(fine)).toBe(fine);
    mp.withFloat32MatmulPrecision("high", () => {
      expect(product(fine)).toBe(1);
      expect(product(coarse)).toBe(coarse);
      expect(product(1 + 2 ** -11)).toBe(1 + 2 ** -10);
    });
    mp.withFloat32MatmulPrecision("medium", () => {
      expect(product(coarse)).toBe(1);
    });
    expect(mp.getFloat32MatmulPrecision()).toBe("highest");
  });

  it("does not touch other dtypes", () => {
    mp.withFloat32MatmulPrecision("medium", () => {
      const value = mp.tensor([[1 + 2 ** -30]], { dtype: "float64" });
      expect(mp.matmul(value, mp.ones([1, 1], { dtype: "float64" })).item()).toBe(1 + 2 ** -30);
    });
  });

  it("is kept by backward", () => {
    const x = mp.tensor([[1 + 2 ** -12]], { requiresGrad: true });
    const w = mp.tensor([[1 + 2 ** -12]]);
    const y = mp.withFloat32MatmulPrecision("medium", () => mp.matmul(x, w));
    y.backward(mp.ones([1, 1]));
    expect(x.grad!.item()).toBe(1);
  });

  it("names the modes it knows", () => {
    expect(() => mp.setFloat32MatmulPrecision("best" as "high")).toThrow(
      /expected "highest", "high" or "medium", got "best"/,
    );
  });
});

describe("linear", () => {
  it("adds the bias before it rounds", () => {
    // 2048 + 1 is a tie in float16, which would go to 2048 if the product was rounded first.
    const x = mp.tensor([[2048, 1]], { dtype: "float16" });
    const weight = mp.tensor([[1, 0.5]], { dtype: "float16" });
    const bias = mp.tensor([1], { dtype: "float16" });
    expect(mp.linear(x, weight, bias).item()).toBe(2050);
  });

  it.each([
    ["a vector", [4], [3, 4]],
    ["rows", [5, 4], [3, 4]],
    ["a batch of rows", [2, 5, 4], [3, 4]],
    ["one feature", [2, 4], [4]],
  ])("differentiates %s", (_, input, weights) => {
    mp.manualSeed(6);
    const x = mp.randn(input, { dtype: "float64" });
    const weight = mp.randn(weights, { dtype: "float64" });
    const bias = mp.randn(weights.slice(0, -1), { dtype: "float64" });
    expect(mp.linear(x, weight, bias).shape).toEqual([
      ...input.slice(0, -1),
      ...weights.slice(0, -1),
    ]);
    gradcheck((a, w, b) => mp.linear(a, w, b), [x, weight, bias], { second: true });
    gradcheck((a, w) => mp.linear(a, w), [x, weight]);
  });

  it("takes an input that is no dense block", () => {
    mp.manualSeed(7);
    const x = mp.randn([4, 3, 5], { dtype: "float64" });
    const weight = mp.randn([2, 5], { dtype: "float64" });
    const through = (t: mp.Tensor): mp.Tensor => mp.linear(t.permute([1, 0, 2]), weight);
    const dense = mp.linear(x.permute([1, 0, 2]).contiguous(), weight);
    expect(through(x).toArray()).toEqual(dense.toArray());
    gradcheck((t) => through(t), [x]);
  });

  it("names what does not fit", () => {
    expect(() => mp.linear(mp.zeros([2, 3]), mp.zeros([4, 5]))).toThrow(
      "linear: shape mismatch, lhs [2, 3], rhs [4, 5]: K is 3 and 5",
    );
    const weight = mp.zeros([4, 3]);
    expect(() => mp.linear(mp.zeros([2, 3]), weight, mp.zeros([3]))).toThrow(
      /expected a bias of shape \[4\], got \[3\]/,
    );
    const half = mp.zeros([4], { dtype: "float16" });
    expect(() => mp.linear(mp.zeros([2, 3]), weight, half)).toThrow(mp.DTypeError);
  });
});
