// lib/shape.ts: arithmetic over extents and strides.
import fc from "fast-check";
import { expect, test } from "vitest";
import { ShapeError } from "../../lib/errors.js";
import * as shapes from "../../lib/shape.js";

const { broadcastShapes, contiguousStrides, isContiguous, normalizeDim, normalizeDims } = shapes;
const anyShape = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: shapes.MAX_RANK });
const product = (shape: shapes.Shape) => shape.reduce((count, extent) => count * extent, 1);

test("numelOf multiplies", () => {
  expect(shapes.numelOf([])).toBe(1);
  expect(shapes.numelOf([2, 0, 3])).toBe(0);
  fc.assert(fc.property(anyShape, (shape) => shapes.numelOf(shape) === product(shape)));
});

test("dense strides address every element once", () => {
  expect(contiguousStrides([2, 3, 4])).toEqual([12, 4, 1]);
  fc.assert(
    fc.property(anyShape, (shape) => {
      const strides = contiguousStrides(shape);
      expect(isContiguous(shape, strides)).toBe(true);
      const last = shape.reduce((at, extent, dim) => at + (extent - 1) * strides[dim]!, 0);
      if (product(shape) > 0) expect(last).toBe(product(shape) - 1);
    }),
  );
});

test("a transposed or broadcast view is not contiguous", () => {
  expect(isContiguous([3, 2], [1, 3])).toBe(false);
  expect(isContiguous([3, 2], [0, 1])).toBe(false);
  expect(isContiguous([1, 2], [99, 1])).toBe(true);
  expect(isContiguous([3, 0], [1, 7])).toBe(true);
});

test("checkShape takes lists of extents only", () => {
  fc.assert(fc.property(anyShape, (shape) => shapes.checkShape(shape, "zeros") === shape));
  for (const bad of [3, null, "2", [-1], [1.5], [Number.NaN], ["2"], [2 ** 24, 2 ** 24]])
    expect(() => shapes.checkShape(bad, "zeros"), String(bad)).toThrow(ShapeError);
  expect(() => shapes.checkShape(new Array(9).fill(1), "zeros")).toThrow(
    /expected at most 8, got 9/,
  );
});

test("checkShape throws nothing but ShapeError", () => {
  fc.assert(
    fc.property(fc.anything(), (value) => {
      try {
        shapes.checkShape(value, "zeros");
      } catch (error) {
        expect(error).toBeInstanceOf(ShapeError);
      }
    }),
  );
});

test("broadcasting", () => {
  expect(broadcastShapes([2, 1], [3], "add")).toEqual([2, 3]);
  expect(broadcastShapes([], [4, 1], "add")).toEqual([4, 1]);
  expect(broadcastShapes([0], [1], "add")).toEqual([0]);
  expect(() => broadcastShapes([2, 3], [4, 3], "add")).toThrow(
    /add: .*lhs \[2, 3\], rhs \[4, 3\]: dimension 0 is 2 and 4/,
  );
  expect(() => broadcastShapes([0], [2], "add")).toThrow(ShapeError);
});

test("broadcasting commutes, and its result absorbs both operands", () => {
  const pair = fc.array(
    fc.record({ extent: fc.integer({ min: 0, max: 4 }), a: fc.boolean(), b: fc.boolean() }),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(pair, fc.nat(6), (dims, cut) => {
      const a = dims.map(({ extent, a: one }) => (one ? 1 : extent));
      const b = dims.map(({ extent, b: one }) => (one ? 1 : extent)).slice(cut);
      const both = broadcastShapes(a, b, "add");
      expect(broadcastShapes(b, a, "add")).toEqual(both);
      expect(broadcastShapes(both, a, "add")).toEqual(both);
      expect(broadcastShapes(both, b, "add")).toEqual(both);
      expect(both).toHaveLength(Math.max(a.length, b.length));
    }),
  );
});

test("dimensions count from the end when negative", () => {
  expect(normalizeDim(-1, 3, "sum")).toBe(2);
  expect(normalizeDim(-1, 0, "sum")).toBe(0);
  for (const [dim, rank] of [
    [3, 3],
    [-4, 3],
    [1, 0],
    [0.5, 2],
  ] as const)
    expect(() => normalizeDim(dim, rank, "sum")).toThrow(ShapeError);
});

test("lists of dimensions are sorted and have no repeats", () => {
  expect(normalizeDims(undefined, 3, "sum")).toEqual([0, 1, 2]);
  expect(normalizeDims(-1, 3, "sum")).toEqual([2]);
  expect(normalizeDims([-1, 0], 3, "sum")).toEqual([0, 2]);
  expect(normalizeDims(0, 0, "sum")).toEqual([]);
  expect(() => normalizeDims([0, -3], 3, "sum")).toThrow(/named twice/);
});

test("reduction drops dimensions, or keeps them with extent 1", () => {
  fc.assert(
    fc.property(anyShape, fc.array(fc.nat(7)), (shape, picked) => {
      const dims = picked.filter((dim) => dim < shape.length);
      const kept = shapes.reducedShape(shape, dims, true);
      expect(kept).toEqual(shape.map((extent, dim) => (dims.includes(dim) ? 1 : extent)));
      const dropped = shapes.reducedShape(shape, dims, false);
      expect(dropped).toEqual(shape.filter((_, dim) => !dims.includes(dim)));
    }),
  );
});

test("sameShape compares extents", () => {
  fc.assert(fc.property(anyShape, (shape) => shapes.sameShape(shape, [...shape])));
  expect(shapes.sameShape([2, 3], [3, 2])).toBe(false);
  expect(shapes.sameShape([2], [2, 1])).toBe(false);
});
