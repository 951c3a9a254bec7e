// Reductions, softmax, normalization, losses and sorting on a CUDA device against the CPU: in the
// lengths, layouts and dtypes that choose another kernel or another path through it.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { compare, expectSame, FLOATS, numbers } from "../helpers/compare-devices.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";

const INTEGERS = ["int64", "int32", "int8", "uint8", "bool"] as const;

/** The gradients of the inputs, weighted with `g`. */
function gradients(
  compute: (...inputs: mp.Tensor[]) => mp.Tensor,
  inputs: readonly mp.Tensor[],
  g: mp.Tensor,
): mp.Tensor[] {
  const leaves = inputs.map((x) => {
    const leaf = x.detach();
    leaf.requiresGrad = true;
    return leaf;
  });
  return mp.grad([compute(...leaves)], leaves, { gradOutputs: [g] });
}

/** Lengths of rows: of a warp, of a block, kept in shared memory and not, whole vectors and not. */
const LENGTHS = [1, 7, 64, 333, 1024, 1500, 2048, 30_001, 33_000];

describe.skipIf(!ON_CUDA)("reductions on the device", () => {
  const REDUCTIONS: Record<string, (x: mp.Tensor, dim?: number | number[]) => mp.Tensor> = {
    sum: (x, dim) => mp.sum(x, { dim }),
    mean: (x, dim) => mp.mean(x, { dim }),
    variance: (x, dim) => mp.variance(x, { dim }),
    amax: (x, dim) => mp.amax(x, { dim }),
    amin: (x, dim) => mp.amin(x, { dim }),
    logsumexp: (x, dim) => mp.logsumexp(x, { dim }),
  };
  const SHAPES: readonly [string, readonly number[], (x: mp.Tensor) => mp.Tensor][] = [
    ["short rows", [300, 24], (x) => x],
    ["rows of a block", [3, 2050], (x) => x],
    ["rows that are not aligned", [5, 1027], (x) => x],
    ["rows inside a matrix", [6, 80], (x) => x.narrow(1, 3, 64)],
    ["transposed", [70, 40], (x) => x.transpose(0, 1)],
    ["few columns", [900, 3], (x) => x],
    ["repeated", [1, 70], (x) => x.expand([40, 70])],
    ["many columns, few rows", [3, 700], (x) => x],
  ];

  for (const [name, op] of Object.entries(REDUCTIONS)) {
    test(name, () => {
      for (const [, shape, view] of SHAPES) {
        const count = shape.reduce((a, b) => a * b, 1);
        for (const dtype of FLOATS) {
          const x = numbers(count, dtype, 1).reshape([...shape]);
          compare((y) => [op(view(y), 0), op(view(y), 1), op(view(y), [0, 1])], [x]);
        }
      }
      for (const dtype of FLOATS) {
        const cube = numbers(6 * 50 * 20, dtype, 2).reshape([6, 50, 20]);
        compare((y) => [op(y, [0, 2]), op(y, 1), op(y.permute([2, 0, 1]), [0, 1])], [cube]);
        compare((y) => op(y.reshape([])), [numbers(1, dtype, 3)]);
      }
    });
  }

  test("parts of long reductions", () => {
    for (const dtype of ["float32", "bfloat16", "int64"] as const) {
      const x = numbers(200_003, dtype, 4);
      compare((y) => [mp.sum(y), mp.amax(y), mp.argmax(y), mp.argmin(y)], [x]);
      // Down columns.
      const tall = numbers(9000 * 20, dtype, 5).reshape([9000, 20]);
      compare((y) => [mp.sum(y, { dim: 0 }), mp.amin(y, { dim: 0 })], [tall]);
      compare((y) => mp.argmin(y, { dim: 0 }), [tall], true);
    }
    compare((y) => [mp.variance(y), mp.logsumexp(y)], [numbers(200_003, "float32", 6)]);
    expect(mp.ones([200_003], { device: TEST_DEVICE }).sum().item()).toBe(200_003);
  });

  test("positions, with equal elements and NaN", () => {
    for (const dtype of [...FLOATS, ...INTEGERS]) {
      const x = numbers(37 * 45, dtype, 7).reshape([37, 45]);
      const both = (y: mp.Tensor): mp.Tensor[] =>
        [{}, { dim: 0 }, { dim: 1 }].flatMap((o) => [mp.argmax(y, o), mp.argmin(y, o)]);
      compare(both, [x], true);
      compare((y) => both(y.transpose(0, 1)), [x], true);
      compare((y) => [mp.amax(y, { dim: 1 }), mp.amin(y)], [x], true);
      compare((y) => both(y.mul(0).to(dtype)), [x], true);
    }
    const special = mp.tensor([1, Infinity, NaN, -Infinity, NaN, 5], { device: "cpu" });
    compare((y) => [mp.argmax(y), mp.argmin(y)], [special], true);
    compare((y) => [mp.amax(y), mp.amin(y), mp.logsumexp(y), mp.sum(y)], [special]);
  });

  test("sums of whole numbers wrap around, and take any dtype to any", () => {
    const most = 2n ** 62n;
    const large = mp.fromTypedArray(new BigInt64Array([most, most, 5n]), [3], { device: "cpu" });
    compare((x) => mp.sum(x), [large], true);
    for (const from of [...FLOATS, ...INTEGERS]) {
      for (const dtype of ["float64", "float32", "float16", "int64", "int32"] as const) {
        compare((x) => mp.sum(x, { dim: 0, dtype }), [numbers(40, from, 8).reshape([8, 5])]);
      }
    }
  });

  test("nothing to reduce, and no results", () => {
    const empty = mp.zeros([0, 3], { device: "cpu" });
    for (const op of ["sum", "mean", "variance", "logsumexp"] as const) {
      compare((x) => [REDUCTIONS[op]!(x, 0), REDUCTIONS[op]!(x, 1)], [empty]);
    }
    compare((x) => [mp.amax(x, { dim: 1 }), mp.argmax(x, { dim: 1 })], [empty]);
  });
});

describe.skipIf(!ON_CUDA)("rows on the device", () => {
  const SOFTMAX: Record<string, (x: mp.Tensor, dim: number) => mp.Tensor> = {
    softmax: (x, dim) => mp.softmax(x, { dim }),
    logSoftmax: (x, dim) => mp.logSoftmax(x, { dim }),
  };

  for (const [name, op] of Object.entries(SOFTMAX)) {
    test(`${name} and its gradient`, () => {
      for (const length of LENGTHS) {
        for (const dtype of length > 3000 ? (["float64", "float16"] as const) : FLOATS) {
          const x = numbers(2 * length, dtype, 1).reshape([2, length]);
          const g = numbers(2 * length, dtype, 2).reshape([2, length]);
          compare((y, h) => [op(y, 1), ...gradients((z) => op(z, 1), [y], h)], [x, g]);
        }
      }
      const x = numbers(6 * 40 * 9, "float32", 3).reshape([6, 40, 9]);
      for (const dim of [0, 1, 2]) {
        compare((y, h) => [op(y, dim), ...gradients((z) => op(z, dim), [y], h)], [x, x.mul(2)]);
        compare((y) => op(y.transpose(0, 2), dim), [x]);
        compare((y) => op(y.narrow(2, 1, 8), dim), [x]);
      }
      compare((y) => op(y.reshape([]), 0), [numbers(1, "float32", 4)]);
      compare((y) => op(y, 0), [mp.zeros([0, 3], { device: "cpu" })]);
    });

    test(`${name} of infinities and NaN`, () => {
      const rows = [
        [-Infinity, 1, 2, -Infinity],
        [-Infinity, -Infinity, -Infinity, -Infinity],
        [Infinity, 1, 2, 3],
        [NaN, 1, 2, 3],
        [3e38, -3e38, 0, 3e38],
      ];
      const x = mp.tensor(rows, { device: "cpu" });
      compare((y) => [op(y, 1), op(y.transpose(0, 1), 0).contiguous()], [x]);
    });
  }

  test("layer and RMS normalization and their gradients", () => {
    for (const length of [1, 7, 64, 768, 1027, 2056, 13_000, 26_001]) {
      const rows = length > 3000 ? 2 : 70;
      for (const dtype of length > 1000 ? (["float64", "bfloat16"] as const) : FLOATS) {
        const x = numbers(rows * length, dtype, 1)
          .reshape([rows, length])
          .add(1);
        const g = numbers(rows * length, dtype, 2).reshape([rows, length]);
        const weight = numbers(length, dtype, 3);
        const bias = numbers(length, dtype, 4);
        const layer = (y: mp.Tensor, w?: mp.Tensor, b?: mp.Tensor): mp.Tensor =>
          mp.layerNorm(y, length, w, b);
        const rms = (y: mp.Tensor, w?: mp.Tensor): mp.Tensor => mp.rmsNorm(y, length, w);
        compare((y, w, b) => [layer(y, w, b), layer(y), rms(y, w), rms(y)], [x, weight, bias]);
        const check = (...inputs: mp.Tensor[]): mp.Tensor[] => {
          const [y, w, b, h] = inputs as [mp.Tensor, mp.Tensor, mp.Tensor, mp.Tensor];
          return [...gradients(layer, [y, w, b], h), ...gradients(rms, [y, w], h)];
        };
        // The gradient of x is a small difference of large numbers where rows are long.
        if (length > 1) compare(check, [x, weight, bias, g]);
      }
    }
  });

  test("normalization of mixed dtypes, strides and many rows", () => {
    const x = numbers(300 * 130, "bfloat16", 1).reshape([300, 130]);
    const weight = numbers(128, "float32", 2);
    const norm = (y: mp.Tensor, w: mp.Tensor): mp.Tensor =>
      mp.layerNorm(y.narrow(1, 1, 128), 128, w);
    const g = numbers(300 * 128, "bfloat16", 3).reshape([300, 128]);
    compare((y, w, h) => [norm(y, w), ...gradients(norm, [y, w], h)], [x, weight, g]);
    compare((y, w) => mp.rmsNorm(y.narrow(1, 2, 128), 128, w), [x, weight]);
    const empty = mp.zeros([0, 128], { device: "cpu" });
    compare(
      (y, w, h) => gradients((a, b) => mp.layerNorm(a, 128, b), [y, w], h),
      [empty, weight, empty],
    );
  });

  test("cross entropy and its gradient", () => {
    for (const classes of [1, 5, 64, 1000, 5003]) {
      for (const dtype of classes > 1000 ? (["float32"] as const) : FLOATS) {
        const rows = 9;
        const logits = numbers(rows * classes, dtype, 1)
          .reshape([rows, classes])
          .mul(5);
        const values = BigInt64Array.from({ length: rows }, (_, i) =>
          i === 4 ? -100n : BigInt((i * 7919) % classes),
        );
        const target = mp.fromTypedArray(values, [rows], { device: "cpu" });
        for (const labelSmoothing of [0, 0.1]) {
          const loss = (x: mp.Tensor, t: mp.Tensor): mp.Tensor =>
            mp.crossEntropy(x, t, { labelSmoothing, reduction: "none" });
          const g = numbers(rows, dtype, 2);
          compare(
            (x, t, h) => [loss(x, t), ...gradients((y) => loss(y, t), [x], h)],
            [logits, target, g],
          );
          compare(
            (x, t) => loss(x.transpose(0, 1).contiguous().transpose(0, 1), t),
            [logits, target],
          );
        }
      }
    }
  });

  test("a target out of range is named as on the CPU", () => {
    const message = (device: mp.Device): string => {
      const logits = mp.zeros([3, 4], { device });
      const target = mp.tensor([1, 4, 0], { dtype: "int64", device });
      try {
        mp.crossEntropy(logits, target).dataSync();
      } catch (error) {
        expect(error).toBeInstanceOf(mp.ArgumentError);
        return (error as Error).message;
      }
      return "no error";
    };
    expect(message(TEST_DEVICE)).toBe(message("cpu"));
    expect(message("cpu")).toMatch(/got 4 in row 1/);
  });
});

describe.skipIf(!ON_CUDA)("order on the device", () => {
  test("running sums", () => {
    for (const dtype of [...FLOATS, ...INTEGERS]) {
      for (const shape of [[1], [3, 5], [2, 1030], [4, 7, 9], [2, 40_000], [0, 4], [3, 0]]) {
        const count = shape.reduce((a, b) => a * b, 1);
        // Whole numbers: 16-bit sums depend on the order of rounding otherwise.
        const x = numbers(count, dtype, 1).mul(2).to("int32").to(dtype).reshape(shape);
        for (let dim = 0; dim < shape.length; dim++) {
          compare((y) => mp.cumsum(y, dim, { dtype: count > 5000 ? "float64" : undefined }), [x]);
        }
      }
    }
    const x = numbers(2 * 20_000, "float32", 2).reshape([2, 20_000]);
    compare((y, g) => gradients((z) => mp.cumsum(z, 1), [y], g), [x, x]);
    compare((y) => mp.cumsum(y.transpose(0, 1), 0), [x]);
  });

  /** Numbers with many equal ones, NaN, infinities and zeros of both signs. */
  function mixed(count: number, dtype: mp.DType): mp.Tensor {
    const x = numbers(count, dtype, 3);
    if (!dtype.includes("float")) return x;
    const values = Float64Array.from(x.to("float64").dataSync() as Float64Array, (value, i) => {
      const special = [NaN, Infinity, -Infinity, 0, -0];
      return i % 11 < 5 ? special[i % 11]! : Math.round(value * 20) / 20;
    });
    return mp.fromTypedArray(values, [count], { dtype, device: "cpu" });
  }

  test("sorting, whole and in part", () => {
    for (const dtype of [...FLOATS, ...INTEGERS]) {
      for (const length of [1, 2, 31, 500, 1024, 1025, 5000]) {
        const x = mixed(2 * length, dtype).reshape([2, length]);
        for (const descending of [false, true]) {
          compare((y) => Object.values(mp.sort(y, { descending })) as mp.Tensor[], [x], true);
          for (const k of new Set([1, Math.ceil(length / 20), Math.ceil(length * 0.7), length])) {
            const largest = descending;
            compare((y) => Object.values(mp.topk(y, k, { largest })) as mp.Tensor[], [x], true);
          }
        }
      }
    }
  });

  test("sorting along other dimensions and strides", () => {
    const x = mixed(6 * 50 * 7, "float32").reshape([6, 50, 7]);
    for (const dim of [0, 1, 2]) {
      compare((y) => Object.values(mp.sort(y, { dim })) as mp.Tensor[], [x], true);
      compare((y) => Object.values(mp.topk(y, 4, { dim })) as mp.Tensor[], [x], true);
      const moved = (y: mp.Tensor): mp.Tensor => y.permute([2, 0, 1]);
      compare((y) => Object.values(mp.sort(moved(y), { dim })) as mp.Tensor[], [x], true);
    }
    const empty = mp.zeros([3, 0], { device: "cpu" });
    compare((y) => Object.values(mp.sort(y)) as mp.Tensor[], [empty], true);
    compare((y) => Object.values(mp.topk(y, 0)) as mp.Tensor[], [mp.ones([3], { device: "cpu" })]);
  });

  test("the order of a long row", () => {
    const count = 50_257;
    const x = numbers(count, "float32", 4).to(TEST_DEVICE);
    const { values, indices } = mp.topk(x, 50);
    const expected = mp.topk(x.to("cpu"), 50);
    expectSame(values, expected.values, true);
    expectSame(indices, expected.indices, true);
  });
});
