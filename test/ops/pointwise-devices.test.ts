// Element-wise ops, copies and casts on a CUDA device against the CPU, which has its own tests: in
// every dtype and layout that chooses another kernel.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { elements } from "../helpers/golden.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";

const FLOATS = ["float64", "float32", "float16", "bfloat16"] as const;
const DTYPES = [...FLOATS, "int64", "int32", "int8", "uint8", "bool"] as const;

/** `count` numbers around zero, whole ones for integers; none that an integer dtype cannot hold. */
function numbers(count: number, dtype: mp.DType, seed: number): mp.Tensor {
  const values = Float64Array.from({ length: count }, (_, i) => {
    const x = Math.sin(i * 12.9898 + seed * 78.233) * 43758.5453;
    const unit = x - Math.floor(x);
    if (dtype === "bool") return unit < 0.5 ? 0 : 1;
    if (dtype === "uint8") return Math.floor(unit * 100);
    return dtype.startsWith("int") ? Math.floor(unit * 200) - 100 : unit * 6 - 3;
  });
  return mp.fromTypedArray(values, [count], { dtype, device: "cpu" });
}

type Layout = (count: number, dtype: mp.DType, seed: number) => mp.Tensor;
const LAYOUTS: Record<string, Layout> = {
  "dense, whole vectors": (_, dtype, seed) => numbers(512, dtype, seed).reshape([16, 32]),
  "dense, a ragged end": (_, dtype, seed) => numbers(1003, dtype, seed),
  "one element": (_, dtype, seed) => numbers(1, dtype, seed),
  "no dimensions": (_, dtype, seed) => numbers(1, dtype, seed).reshape([]),
  empty: (_, dtype, seed) => numbers(0, dtype, seed).reshape([3, 0]),
  transposed: (_, dtype, seed) =>
    numbers(35 * 17, dtype, seed)
      .reshape([35, 17])
      .transpose(0, 1),
  "every other column": (_, dtype, seed) =>
    numbers(24 * 20, dtype, seed)
      .reshape([24, 20, 1])
      .reshape([24, 10, 2])
      .select(2, 1),
  "misaligned rows": (_, dtype, seed) =>
    numbers(24 * 33, dtype, seed)
      .reshape([24, 33])
      .narrow(1, 1, 32),
  "aligned rows with gaps": (_, dtype, seed) =>
    numbers(24 * 48, dtype, seed)
      .reshape([24, 48])
      .narrow(1, 16, 16),
  expanded: (_, dtype, seed) => numbers(20, dtype, seed).reshape([20, 1]).expand([20, 16]),
};

/** The same view over memory on the device under test. */
function onDevice(x: mp.Tensor): mp.Tensor {
  const base = x.to(TEST_DEVICE);
  expect(base.device).toBe(TEST_DEVICE);
  // Moving makes dense; strides are brought back by going through a larger tensor.
  if (x.isContiguous || x.ndim !== 2) return base;
  const [rows, columns] = x.shape as [number, number];
  if (x.strides[0] === 1) return base.transpose(0, 1).contiguous().transpose(0, 1);
  if (x.strides[1] === 0) return base.narrow(1, 0, 1).contiguous().expand([rows, columns]);
  const wide = mp.zeros([rows, columns * 2 + 1], { dtype: x.dtype, device: TEST_DEVICE });
  const view = wide.narrow(1, 1, columns);
  view.copyFrom(base);
  return view;
}

const TOLERANCE: Record<string, number> = {
  float64: 1e-14,
  float32: 2e-6,
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
};

function expectSame(found: mp.Tensor, expected: mp.Tensor, exact = false): void {
  expect(found.device).toBe(TEST_DEVICE);
  expect(found.dtype).toBe(expected.dtype);
  expect(found.shape).toEqual(expected.shape);
  const wanted = elements(expected);
  const tolerance = exact ? 0 : (TOLERANCE[expected.dtype] ?? 0);
  elements(found).forEach((value, i) => {
    const want = wanted[i]!;
    if (Object.is(value, want) || value === want) return;
    const allowed = tolerance * Math.max(Math.abs(want), 0.25);
    if (!(Math.abs(value - want) <= allowed)) {
      expect.fail(`element ${i} of ${expected.toString()}: expected ${want}, got ${value}`);
    }
  });
}

/** Applies `op` on both devices and compares. */
function compare(
  op: (...inputs: mp.Tensor[]) => mp.Tensor,
  inputs: mp.Tensor[],
  exact = false,
): void {
  expectSame(op(...inputs.map(onDevice)), op(...inputs), exact);
}

const UNARY: Record<string, (x: mp.Tensor) => mp.Tensor> = {
  neg: mp.neg,
  abs: mp.abs,
  exp: mp.exp,
  log: (x) => mp.log(mp.abs(x)),
  sqrt: mp.sqrt,
  rsqrt: (x) => mp.rsqrt(mp.add(mp.abs(x), 0.5)),
  reciprocal: (x) => mp.reciprocal(mp.add(mp.abs(x), 0.5)),
  tanh: mp.tanh,
  sigmoid: mp.sigmoid,
  relu: mp.relu,
  gelu: (x) => mp.gelu(x),
  "gelu tanh": (x) => mp.gelu(x, { approximate: "tanh" }),
  silu: mp.silu,
  erf: mp.erf,
  sin: mp.sin,
  cos: mp.cos,
};

const GRADIENTS = ["tanh", "sigmoid", "relu", "gelu", "gelu tanh", "silu"];

describe.skipIf(!ON_CUDA)("element-wise on the device", () => {
  for (const [layout, make] of Object.entries(LAYOUTS)) {
    test(`functions of one number, ${layout}`, () => {
      for (const dtype of FLOATS) {
        mp.tidy(() => {
          const x = make(0, dtype, 1);
          for (const op of Object.values(UNARY)) compare(op, [x]);
        });
      }
      for (const dtype of ["int64", "int32", "int8", "uint8"] as const) {
        const x = make(0, dtype, 2);
        compare(mp.neg, [x]);
        compare(mp.abs, [x]);
        compare(mp.relu, [x]);
      }
    });

    test(`gradients, ${layout}`, () => {
      for (const dtype of FLOATS) {
        for (const name of GRADIENTS) {
          const gradientOf = (x: mp.Tensor, g: mp.Tensor): mp.Tensor => {
            const leaf = x.detach();
            leaf.requiresGrad = true;
            return mp.grad(UNARY[name]!(leaf), leaf, { gradOutputs: g });
          };
          compare(gradientOf, [make(0, dtype, 3), make(0, dtype, 4)]);
        }
      }
    });

    test(`functions of two numbers, ${layout}`, () => {
      for (const dtype of [...FLOATS, "int64", "int32", "int8", "uint8"] as const) {
        mp.tidy(() => {
          const a = make(0, dtype, 5);
          const b = make(0, dtype, 6);
          for (const op of [mp.add, mp.sub, mp.mul, mp.maximum, mp.minimum]) {
            compare((x, y) => op(x, y), [a, b]);
            compare((x) => op(x, 2), [a]);
            compare((x) => op(2, x), [a]);
          }
          compare((x, y) => mp.div(x, mp.add(mp.abs(y), 1)), [a, b]);
          compare((x, y) => mp.pow(mp.add(mp.abs(x), 1), mp.clamp(y, { min: 0, max: 3 })), [a, b]);
          for (const relation of [mp.eq, mp.ne, mp.lt, mp.le, mp.gt, mp.ge]) {
            compare((x, y) => relation(x, y), [a, b]);
            compare((x) => relation(x, 1), [a]);
          }
          compare((x, y) => mp.where(mp.gt(x, y), x, y), [a, b], true);
          compare((x) => mp.where(mp.gt(x, 1), x, 3), [a], true);
          compare((x) => mp.clamp(x, { min: 1, max: 2 }), [a], true);
        });
      }
    });

    test(`casts, ${layout}`, () => {
      for (const from of DTYPES) {
        const x = make(0, from, 7);
        // Negative numbers as uint8 are left to the platform, as in torch.
        for (const to of DTYPES) {
          compare((y) => (to === "uint8" ? mp.abs(y.to("float32")) : y).to(to), [x], true);
        }
        compare((y) => y.clone(), [x], true);
      }
    });
  }

  test("more than one round of the grid", () => {
    const count = 270_001;
    const x = mp.arange(count, { dtype: "float32", device: TEST_DEVICE });
    const expectEvery = (y: mp.Tensor, value: (i: number) => number): void => {
      const found = y.dataSync() as Float32Array;
      expect(found.length).toBe(y.numel);
      expect(found.findIndex((element, i) => element !== value(i))).toBe(-1);
    };
    expectEvery(x, (i) => i);
    expectEvery(mp.neg(x), (i) => -i);
    expectEvery(mp.neg(x.narrow(0, 1, count - 1)), (i) => -i - 1);
    const pairs = x.narrow(0, 0, count - 1).reshape([2, (count - 1) / 2]);
    expectEvery(pairs.transpose(0, 1).contiguous(), (i) => (i % 2) * 135_000 + Math.floor(i / 2));
    expectEvery(x.to("int32").to("float32"), (i) => i);
  });

  test("broadcasting against rows, columns and single elements", () => {
    for (const dtype of FLOATS) {
      const matrix = numbers(24 * 32, dtype, 8).reshape([24, 32]);
      for (const other of [[32], [1, 32], [24, 1], [1, 1], []]) {
        const count = other.reduce((a, b) => a * b, 1);
        const vector = numbers(count, dtype, 9).reshape(other);
        compare((x, y) => mp.add(x, y), [matrix, vector]);
        compare((x, y) => mp.mul(y, x), [matrix, vector]);
        compare((x, y) => mp.where(mp.gt(x, 0), x, y), [matrix, vector], true);
      }
      compare(
        (x, y) => mp.sub(x, y),
        [numbers(7 * 9, dtype, 1).reshape([7, 1, 9]), numbers(5 * 9, dtype, 2).reshape([5, 9])],
      );
    }
  });

  test("mixed dtypes meet as on the CPU", () => {
    for (const a of DTYPES) {
      for (const b of DTYPES) {
        compare((x, y) => mp.add(x, y), [numbers(100, a, 1), numbers(100, b, 2)]);
        compare((x, y) => mp.mul(x, y), [numbers(100, a, 1), numbers(1, b, 2).reshape([])]);
      }
    }
  });

  test("special numbers", () => {
    const special = [NaN, Infinity, -Infinity, 0, -0, 1e30, -1e30, 1e-40, 6.1e-5, 65504, 65520];
    for (const dtype of FLOATS) {
      const x = mp.tensor(special, { dtype, device: "cpu" });
      for (const op of Object.values(UNARY)) {
        // Sine and cosine of huge numbers differ in libm's reduction of the argument.
        compare((y) => op(mp.where(mp.gt(mp.abs(y), 1e20), Infinity, y)), [x]);
      }
      compare(mp.isnan, [x]);
      compare(mp.isfinite, [x]);
      for (const to of DTYPES) compare((y) => y.to(to), [x], true);
    }
  });

  test("fills, ranges and copies in place", () => {
    for (const dtype of DTYPES) {
      compare((x) => x.clone().fill(1), [numbers(37, dtype, 1)], true);
      compare((x) => x.clone().zero(), [numbers(37, dtype, 1)], true);
      const range = mp.arange(-3, 50, 0.7, { dtype, device: TEST_DEVICE });
      if (dtype !== "uint8" && dtype !== "bool") {
        expectSame(range, mp.arange(-3, 50, 0.7, { dtype, device: "cpu" }), true);
      }
      const constant = mp.full([5, 3], 1, { dtype, device: TEST_DEVICE });
      expectSame(constant, mp.full([5, 3], 1, { dtype, device: "cpu" }), true);
    }
    const shifted = (x: mp.Tensor): mp.Tensor => {
      const y = x.clone();
      y.narrow(0, 1, 99).copyFrom(y.narrow(0, 0, 99));
      return y;
    };
    compare(shifted, [numbers(100, "float32", 3)], true);
    const transposed = (x: mp.Tensor): mp.Tensor => {
      const y = x.reshape([10, 10]).clone();
      y.transpose(0, 1).copyFrom(x.reshape([10, 10]));
      return y;
    };
    for (const dtype of DTYPES) compare(transposed, [numbers(100, dtype, 3)], true);
  });
});

describe.skipIf(!ON_CUDA)("between devices", () => {
  test("there and back, with gradients", () => {
    for (const dtype of DTYPES) {
      const x = numbers(1000, dtype, 1);
      expect(elements(x.to(TEST_DEVICE).to("cpu"))).toEqual(elements(x));
    }
    const x = mp.tensor([1, 2, 3], { device: "cpu", requiresGrad: true });
    const y = mp.mul(x.to({ device: TEST_DEVICE, dtype: "bfloat16" }), 2);
    const g = mp.grad(y, x, {
      gradOutputs: mp.ones([3], { dtype: "bfloat16", device: TEST_DEVICE }),
    });
    expect(g.device).toBe("cpu");
    expect(g.dtype).toBe("float32");
    expect(g.toArray()).toEqual([2, 2, 2]);
  });

  test("copies of several pieces", async () => {
    const count = 2_200_000;
    const values = Float32Array.from({ length: count }, (_, i) => i % 1013);
    const x = mp.fromTypedArray(values, [count], { device: TEST_DEVICE });
    const doubled = mp.mul(x, 2);
    const found = (await doubled.data()) as Float32Array;
    expect(found.length).toBe(count);
    expect(found.every((value, i) => value === 2 * (i % 1013))).toBe(true);
  });

  test("data() gives the elements of the time of the call", async () => {
    const x = mp.full([1000], 1, { device: TEST_DEVICE });
    const before = x.data();
    x.fill(2);
    const after = x.data();
    x.dispose();
    expect((await before)[999]).toBe(1);
    expect((await after)[0]).toBe(2);
  });

  test("operands on two devices are an error that names both", () => {
    const here = mp.ones([2], { device: "cpu" });
    const there = mp.ones([2], { device: TEST_DEVICE });
    expect(() => mp.add(here, there)).toThrow(/different devices.*on cpu.*on cuda:0/);
    expect(() => mp.ones([2], { device: "cuda:7" })).toThrow(mp.DeviceError);
    expect(() => here.to("cuda:7")).toThrow(/cuda:7 is not available, there (is|are)/);
  });
});
