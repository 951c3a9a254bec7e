// Tensors from data: every array and dtype, what is refused, and whatever else is passed.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { liveTensors } from "../helpers/memory.js";

describe("tensor", () => {
  it("takes numbers, booleans, bigints, at any depth", () => {
    const cases: [mp.NestedArray, mp.DType, number[]][] = [
      [1.5, "float32", []],
      [true, "bool", []],
      [7n, "int64", []],
      [[1, 2, 3], "float32", [3]],
      [[[true], [false]], "bool", [2, 1]],
      [[[1n, 2n]], "int64", [1, 2]],
      [[], "float32", [0]],
      [[[], []], "float32", [2, 0]],
    ];
    for (const [data, dtype, shape] of cases) {
      const x = mp.tensor(data);
      expect([x.dtype, x.shape]).toEqual([dtype, shape]);
      expect(x.toArray()).toEqual(
        JSON.parse(
          JSON.stringify(data, (_, v: unknown) => (typeof v === "object" ? v : Number(v))),
        ),
      );
    }
  });

  it("keeps every bit of an int64", () => {
    const large = 2n ** 62n + 1n;
    expect(mp.tensor([large, -large]).dataSync()).toEqual(BigInt64Array.from([large, -large]));
    const numbers = mp.tensor([2 ** 53 - 1], { dtype: "int64" });
    expect(numbers.dataSync()).toEqual(BigInt64Array.from([2n ** 53n - 1n]));
  });

  it.each([
    ["ragged lists", [[1, 2], [3]], mp.ShapeError],
    ["lists beside numbers", [1, [2]], mp.ShapeError],
    ["nine levels", [[[[[[[[[1]]]]]]]]], mp.ShapeError],
  ])("refuses %s", (_, data, error) => {
    expect(() => mp.tensor(data as mp.NestedArray)).toThrow(error);
  });

  it.each([
    ["uint8", 256],
    ["uint8", -1],
    ["int8", -129],
    ["int32", 2 ** 31],
    ["int64", 2 ** 63],
    ["int64", 2n ** 63n],
    ["int64", NaN],
    ["int32", Infinity],
  ] as const)("refuses in %s what does not fit: %s", (dtype, value) => {
    expect(() => mp.tensor([0, value], { dtype })).toThrow(
      new RegExp(`tensor: ${value} does not fit in ${dtype}`),
    );
    expect(() => mp.tensor(value, { dtype })).toThrow(mp.ArgumentError);
  });

  it("cuts fractions off, and refuses what is no number", () => {
    expect(mp.tensor([1.9, -1.9, -128.5], { dtype: "int8" }).toArray()).toEqual([1, -1, -128]);
    expect(mp.tensor([255.9], { dtype: "uint8" }).toArray()).toEqual([255]);
    expect(() => mp.tensor("3" as never)).toThrow(/tensor: expected numbers at depth 0, got "3"/);
    expect(() => mp.tensor([null] as never)).toThrow(mp.DTypeError);
    expect(() => mp.tensor({} as never)).toThrow(mp.DTypeError);
    expect(() => mp.randint(0, 300, [2], { dtype: "uint8" })).toThrow(mp.ArgumentError);
    expect(mp.randint(255, 256, [2], { dtype: "uint8" }).toArray()).toEqual([255, 255]);
  });

  it("is what typed arrays hold", () => {
    const arrays: [mp.TypedArray, mp.DType][] = [
      [Float64Array.of(0.1, -2), "float64"],
      [Float32Array.of(0.5, 3), "float32"],
      [BigInt64Array.of(-(2n ** 63n), 5n), "int64"],
      [Int32Array.of(-5, 2 ** 31 - 1), "int32"],
      [Int8Array.of(-128, 127), "int8"],
      [Uint8Array.of(0, 255), "uint8"],
    ];
    for (const [array, dtype] of arrays) {
      const x = mp.tensor(array);
      expect([x.dtype, x.shape]).toEqual([dtype, [2]]);
      expect(x.dataSync()).toEqual(array);
      // The tensor has memory of its own.
      array.fill((dtype === "int64" ? 1n : 1) as never);
      expect(x.dataSync()).not.toEqual(array);
    }
    const raw = Uint16Array.of(0x3c00, 0xc000);
    expect(mp.tensor(raw, { dtype: "float16" }).toArray()).toEqual([1, -2]);
    expect(mp.tensor(raw, { dtype: "bfloat16" }).toArray()).toEqual([0.0078125, -2]);
    expect(() => mp.tensor(raw)).toThrow(/Uint16Array holds raw 16-bit floats/);
    expect(() => mp.tensor(new Int16Array(2) as never)).toThrow(mp.DTypeError);
    expect(mp.fromTypedArray(Uint8Array.of(1, 0), [2], { dtype: "bool" }).toArray()).toEqual([
      1, 0,
    ]);
  });

  it("takes a part of a buffer", () => {
    const whole = Float32Array.of(1, 2, 3, 4, 5);
    expect(mp.tensor(whole.subarray(1, 4)).toArray()).toEqual([2, 3, 4]);
    const odd = new Uint8Array(whole.buffer, 3, 5);
    expect(mp.tensor(odd).shape).toEqual([5]);
  });

  it("has as many elements as its shape", () => {
    expect(() => mp.fromTypedArray(new Float32Array(3), [2, 2])).toThrow(
      /fromTypedArray: shape \[2, 2\] has 4 elements, the array has 3/,
    );
    expect(() => mp.fromBytes(new Uint8Array(7), [2])).toThrow(/takes 8 bytes, got 7/);
    expect(mp.fromBytes(Uint8Array.of(0, 0, 128, 63), [1, 1]).toArray()).toEqual([[1]]);
  });
});

describe("fills", () => {
  it("have the shape and dtype they are asked for", () => {
    expect(mp.zeros([2, 0]).shape).toEqual([2, 0]);
    expect(mp.ones([], { dtype: "float16" }).item()).toBe(1);
    expect(mp.full([2], -1.5, { dtype: "bfloat16" }).toArray()).toEqual([-1.5, -1.5]);
    expect(mp.empty([3, 2], { dtype: "int8" }).shape).toEqual([3, 2]);
    expect(mp.eye(2, { dtype: "int32" }).toArray()).toEqual([
      [1, 0],
      [0, 1],
    ]);
    expect(mp.ones([1], { requiresGrad: true }).requiresGrad).toBe(true);
  });

  it("count", () => {
    expect(mp.arange(4).toArray()).toEqual([0, 1, 2, 3]);
    expect(mp.arange(4).dtype).toBe("int64");
    expect(mp.arange(1, 2, 0.25).toArray()).toEqual([1, 1.25, 1.5, 1.75]);
    expect(mp.arange(1, 2, 0.25).dtype).toBe("float32");
    expect(mp.arange(5, 0, -2).toArray()).toEqual([5, 3, 1]);
    expect(mp.arange(3, { dtype: "float16" }).dtype).toBe("float16");
    expect(() => mp.arange(0, 1, 0)).toThrow(mp.ArgumentError);
    expect(() => mp.arange(Infinity)).toThrow(mp.ArgumentError);
  });

  it.each([[[-1]], [[1.5]], [[NaN]], [["2"]], [3], [null], [[2 ** 40, 2 ** 20]]])(
    "refuse the shape %j",
    (shape) => {
      for (const make of [mp.zeros, mp.ones, mp.empty, mp.rand, mp.randn]) {
        expect(() => make(shape as number[])).toThrow(mp.ShapeError);
      }
      expect(() => mp.full(shape as number[], 1)).toThrow(mp.ShapeError);
      expect(() => mp.randint(0, 2, shape as number[])).toThrow(mp.ShapeError);
    },
  );

  it("that no machine holds are an OutOfMemoryError", () => {
    expect(() => mp.zeros([2 ** 44])).toThrow(mp.OutOfMemoryError);
    expect(() => mp.zeros([2 ** 44])).toThrow(
      /zeros: out of memory on (cpu|cuda:0): .* MiB were asked for/,
    );
    expect(mp.zeros([2]).toArray()).toEqual([0, 0]);
  });

  it("know the dtypes and devices there are", () => {
    expect(() => mp.zeros([1], { dtype: "float8" as mp.DType })).toThrow(/zeros: unknown dtype/);
    expect(() => mp.zeros([1], { device: "cuda:99" })).toThrow(mp.DeviceError);
    expect(() => mp.zeros([1], { device: "tpu" as mp.Device })).toThrow(/unknown device/);
    expect(() => mp.rand([1], { dtype: "int32" })).toThrow(mp.DTypeError);
  });
});

describe("random numbers", () => {
  it("follow the seed and go on", () => {
    mp.manualSeed(42);
    const [a, b] = [mp.randn([100]).toArray(), mp.randn([100]).toArray()];
    expect(a).not.toEqual(b);
    const state = mp.getRandomState();
    const next = mp.rand([3]).toArray();
    mp.setRandomState(state);
    expect(mp.rand([3]).toArray()).toEqual(next);
    mp.manualSeed(42);
    expect(mp.randn([100]).toArray()).toEqual(a);
  });

  it.each(["float64", "float32", "float16", "bfloat16"] as const)("are spread in %s", (dtype) => {
    mp.manualSeed(1);
    const uniform = mp.rand([20_000], { dtype }).to("float64");
    expect(uniform.amin().item()).toBeGreaterThanOrEqual(0);
    expect(uniform.amax().item()).toBeLessThan(1);
    expect(Math.abs(uniform.mean().item() - 0.5)).toBeLessThan(0.01);
    const normal = mp.randn([20_000], { dtype }).to("float64");
    expect(Math.abs(normal.mean().item())).toBeLessThan(0.03);
    expect(Math.abs(normal.variance().item() - 1)).toBeLessThan(0.05);
    const whole = mp.randint(-3, 4, [5000]);
    expect([whole.amin().item(), whole.amax().item(), whole.dtype]).toEqual([-3, 3, "int64"]);
    expect(() => mp.randint(3, 3, [1])).toThrow(mp.ArgumentError);
  });
});

describe("any data", () => {
  const anything = fc.oneof(
    fc.anything({ withBigInt: true, withTypedArray: true, withDate: true, maxDepth: 4 }),
    fc.array(fc.oneof(fc.double(), fc.array(fc.double(), { maxLength: 3 })), { maxLength: 3 }),
  );
  const dtype = fc.option(fc.constantFrom(...mp.DTYPES), { nil: undefined });

  it("makes a tensor or a typed error", async () => {
    // What other tests left would be collected in the middle of a count.
    await liveTensors();
    fc.assert(
      fc.property(anything, dtype, (data, chosen) => {
        const before = mp.memory.tensorCount();
        let x: mp.Tensor;
        try {
          x = mp.tensor(data as mp.NestedArray, chosen === undefined ? {} : { dtype: chosen });
        } catch (error) {
          expect(error).toBeInstanceOf(mp.MixprecError);
          expect(mp.memory.tensorCount()).toBe(before);
          return;
        }
        expect(x.numel).toBe(x.shape.reduce((a, b) => a * b, 1));
        if (chosen !== undefined) expect(x.dtype).toBe(chosen);
        x.dispose();
        expect(mp.memory.tensorCount()).toBe(before);
      }),
      { numRuns: 1500, seed: 11 },
    );
  });

  it("comes back as it went in, where the dtype holds it", () => {
    const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
    fc.assert(
      fc.property(shape, fc.infiniteStream(fc.double()), (extents, numbers) => {
        const count = extents.reduce((a, b) => a * b, 1);
        const data = Float64Array.from({ length: count }, () => numbers.next().value as number);
        const nest = (dim: number, at: number, block: number): mp.NestedArray => {
          if (dim === extents.length) return data[at]!;
          const inner = block / extents[dim]!;
          return Array.from({ length: extents[dim]! }, (_, i) =>
            nest(dim + 1, at + i * inner, inner),
          );
        };
        const x = mp.tensor(nest(0, 0, count), { dtype: "float64" });
        expect(x.dataSync()).toEqual(data);
        const y = mp.fromTypedArray(data, extents);
        expect(y.toArray()).toEqual(nest(0, 0, count));
        expect(mp.fromBytes(y.bytes(), extents, { dtype: "float64" }).dataSync()).toEqual(data);
        x.dispose();
      }),
      { numRuns: 200, seed: 13 },
    );
  });

  it("in the shape of anything is refused or made", () => {
    fc.assert(
      fc.property(fc.anything({ maxDepth: 2 }), (shape) => {
        try {
          expect(mp.zeros(shape as number[]).shape).toEqual(shape);
        } catch (error) {
          if (!(error instanceof mp.OutOfMemoryError)) expect(error).toBeInstanceOf(mp.ShapeError);
        }
      }),
      { numRuns: 1000, seed: 17 },
    );
  });
});
