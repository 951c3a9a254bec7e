// Shapes and strides: pure arithmetic over lists of extents.

import { describe, ShapeError } from "./errors.js";

/** Extents of a tensor, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** The largest number of dimensions the addon takes. */
export const MAX_RANK = 8;

/** Number of elements. */
export function numelOf(shape: Shape): number {
  let count = 1;
  for (let dim = 0; dim < shape.length; dim++) count *= shape[dim]!;
  return count;
}

/** `[2, 3]` */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether two shapes are the same. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let dim = 0; dim < a.length; dim++) if (a[dim] !== b[dim]) return false;
  return true;
}

/** Strides, in elements, of a dense row-major tensor. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    strides[dim] = stride;
    stride *= shape[dim]!;
  }
  return strides;
}

/** Whether strides are those of a dense row-major tensor (extents of 1 may have any stride). */
export function isContiguous(shape: Shape, strides: Shape): boolean {
  let expected = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    const extent = shape[dim]!;
    if (extent === 0) return true;
    if (extent !== 1 && strides[dim] !== expected) return false;
    expected *= extent;
  }
  return true;
}

/** Throws ShapeError unless `shape` is a list of at most {@link MAX_RANK} whole numbers from 0 up. */
export function checkShape(shape: unknown, op: string): number[] {
  if (!Array.isArray(shape)) {
    throw new ShapeError(`${op}: expected a shape, a list of extents, got ${describe(shape)}`, {
      op,
    });
  }
  if (shape.length > MAX_RANK) {
    throw new ShapeError(
      `${op}: too many dimensions — expected at most ${MAX_RANK}, got ${shape.length}`,
      { op },
    );
  }
  let count = 1;
  for (const extent of shape as unknown[]) {
    if (typeof extent !== "number" || !Number.isInteger(extent) || extent < 0) {
      throw new ShapeError(
        `${op}: expected extents that are whole numbers from 0 up, got [${shape.map((extent) => describe(extent)).join(", ")}]`,
        { op },
      );
    }
    count *= extent;
  }
  if (count > 2 ** 47) {
    throw new ShapeError(`${op}: shape [${shape.join(", ")}] has too many elements`, { op });
  }
  return shape as number[];
}

/** The shape two operands broadcast to. Throws ShapeError where they do not fit. */
export function broadcastShapes(a: Shape, b: Shape, op: string): Shape {
  if (sameShape(a, b)) return a;
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const left = i <= a.length ? a[a.length - i]! : 1;
    const right = i <= b.length ? b[b.length - i]! : 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new ShapeError(
        `${op}: shapes do not broadcast, lhs ${formatShape(a)}, rhs ${formatShape(b)}: ` +
          `dimension ${rank - i} is ${left} and ${right}`,
        { op },
      );
    }
    out[rank - i] = left === 1 ? right : left;
  }
  return out;
}

/** A dimension counted from the end when negative, checked against `rank`. */
export function normalizeDim(dim: number, rank: number, op: string): number {
  const limit = Math.max(rank, 1);
  if (!Number.isInteger(dim) || dim < -limit || dim >= limit) {
    throw new ShapeError(
      `${op}: dimension out of range — expected ${-limit} to ${limit - 1}, got ${describe(dim)}`,
      { op },
    );
  }
  return dim < 0 ? dim + limit : dim;
}

/** Dimensions as a sorted list without repeats; undefined means all of them. */
export function normalizeDims(
  dims: number | readonly number[] | undefined,
  rank: number,
  op: string,
): number[] {
  if (dims === undefined) return Array.from({ length: rank }, (_, dim) => dim);
  const given: unknown = typeof dims === "number" ? [dims] : dims;
  if (!Array.isArray(given)) {
    throw new ShapeError(`${op}: expected a dimension or a list of them, got ${describe(dims)}`, {
      op,
    });
  }
  const list = (given as number[]).map((dim) => normalizeDim(dim, rank, op));
  const unique = new Set(list);
  if (unique.size !== list.length) {
    throw new ShapeError(`${op}: a dimension is named twice in ${formatShape(list)}`, { op });
  }
  return rank === 0 ? [] : [...unique].sort((a, b) => a - b);
}

/** The shape after reducing `dims`. */
export function reducedShape(shape: Shape, dims: readonly number[], keepdim: boolean): number[] {
  const reduced = new Set(dims);
  const out: number[] = [];
  shape.forEach((extent, dim) => {
    if (!reduced.has(dim)) out.push(extent);
    else if (keepdim) out.push(1);
  });
  return out;
}
