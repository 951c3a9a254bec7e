// Selecting and adding by index on every device against loops in JavaScript: long lists, places that
// many elements go to, every dtype, strided operands.

import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { eachDevice } from "../helpers/devices.js";

/** Repeatable whole numbers from 0 to `bound` - 1. */
function numbers(count: number, bound: number, seed = 1): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return state % bound;
  });
}

eachDevice((device) => {
  const on = (data: mp.NestedArray, dtype: mp.DType): mp.Tensor =>
    mp.tensor(data, { dtype, device });

  describe("adding by index", () => {
    // 5000 positions are several tiles of the sort, 300 rows take two of its passes.
    it.each([
      ["float32", 5000, 300, 3],
      ["float64", 700, 5, 130],
      ["float16", 600, 300, 1],
      ["bfloat16", 40, 70_000, 5],
    ] as const)("sums rows: %s, %d ids of %d rows, width %d", (dtype, count, rows, width) => {
      const ids = numbers(count, rows);
      const values = numbers(count * width, 4, 7);
      const expected = new Array<number>(rows * width).fill(0);
      ids.forEach((id, i) => {
        for (let k = 0; k < width; k++) expected[id * width + k]! += values[i * width + k]!;
      });
      const weight = mp.zeros([rows, width], { dtype, device, requiresGrad: true });
      const grad = mp.tensor(values, { dtype, device }).reshape([count, width]);
      mp.embedding(weight, on(ids, "int64")).backward(grad);
      expect(weight.grad!.reshape([-1]).toArray()).toEqual(expected);
    });

    it.each(["float32", "float16", "int64", "int8"] as const)("scatters %s", (dtype) => {
      const ids = numbers(3000, 7, 3);
      const expected = numbers(14, 3, 5);
      const x = on(expected, dtype).reshape([7, 2]);
      ids.forEach((id, i) => (expected[id * 2 + (i % 2)]! += i % 3 === 0 ? 1 : 0));
      const source = ids.map((_, i) => (i % 3 === 0 ? 1 : 0));
      const index = on(ids, "int64").reshape([1500, 2]);
      const total = mp.scatterAdd(x, 0, index, on(source, dtype).reshape([1500, 2]));
      const wrapped = dtype === "int8" ? expected.map((v) => (v << 24) >> 24) : expected;
      expect(total.reshape([-1]).toArray()).toEqual(wrapped);
    });

    it("adds in the order of the index, whatever else there is", () => {
      const ids = [2, 0, 2, 2, 1, 2];
      const parts = [1e8, 3, 1, 1, 5, -1e8];
      const sum = parts
        .filter((_, i) => ids[i] === 2)
        .reduce((a, b) => Math.fround(a + Math.fround(b)), 0);
      const total = mp.scatterAdd(
        mp.zeros([3], { device }),
        0,
        on(ids, "int64"),
        on(parts, "float32"),
      );
      expect(total.toArray()).toEqual([3, 5, sum]);
    });

    it.each([0, 1, 2])("selects and sums along dimension %d of a strided tensor", (dim) => {
      const lengths = [4, 3, 35];
      const x = on(numbers(4 * 3 * 35, 100), "float64")
        .reshape([35, 3, 4])
        .transpose(0, 2);
      x.requiresGrad = true;
      const chosen = numbers(50, lengths[dim]!, 11);
      const y = mp.indexSelect(x, dim, on(chosen, "int64"));
      const parts = chosen.map((at) => x.narrow(dim, at, 1));
      expect(y.toArray()).toEqual(mp.cat(parts, dim).toArray());

      const grad = on(numbers(50 * 420, 9, 13).slice(0, y.numel), "float64").reshape(y.shape);
      y.backward(grad);
      const values = grad.reshape([-1]).toArray() as number[];
      const inner = lengths.slice(dim + 1).reduce((a, b) => a * b, 1);
      const expected = new Array<number>(420).fill(0);
      values.forEach((value, i) => {
        const row = Math.floor(i / inner);
        const to = Math.floor(row / 50) * lengths[dim]! + chosen[row % 50]!;
        expected[to * inner + (i % inner)]! += value;
      });
      expect(x.grad!.reshape([-1]).toArray()).toEqual(expected);
    });

    it("gathers from and scatters to strided tensors of any element size", () => {
      for (const dtype of ["bool", "bfloat16", "int32", "float64"] as const) {
        const x = on(numbers(60, 2), dtype).reshape([12, 5]).transpose(0, 1);
        const index = on(numbers(4 * 30, 12, 17), "int64")
          .reshape([30, 4])
          .transpose(0, 1);
        const from = x.toArray() as unknown[][];
        const at = index.toArray() as number[][];
        const expected = at.map((row, i) => row.map((j) => from[i]![j]));
        expect(mp.gather(x, 1, index).toArray()).toEqual(expected);
      }
    });
  });
});
