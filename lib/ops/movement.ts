// Functions that move no elements: views of the same memory in another shape. Only `reshape` and
// `flatten` copy, where no strides could say the same.

import { run, runInPlace, view } from "../core/dispatch.js";
import { gradOps, record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError, ShapeError } from "../errors.js";
import {
  checkShape,
  contiguousStrides,
  formatShape,
  normalizeDim,
  normalizeDims,
  numelOf,
  type Shape,
} from "../shape.js";
import { broadcastTo, expandStrides } from "./broadcast.js";
import { cat } from "./concat.js";
import { checkTensor } from "./promotion.js";

/** A view with its gradient. */
function viewOf(
  name: string,
  x: Tensor,
  offset: number,
  shape: Shape,
  strides: readonly number[],
  backward: (g: Tensor) => Tensor,
): Tensor {
  const y = view(name, x, offset, shape, strides);
  record(name, [x], [y], [], ([g]) => [backward(g!)]);
  return y;
}

/**
 * Strides with which the memory of `x` reads as `shape`, of as many elements; null where there are
 * none. Dimensions that follow each other in memory form blocks, and each block has to be cut anew by
 * dimensions of `shape` of its own.
 */
function stridesAs(x: Tensor, shape: Shape): number[] | null {
  if (x.isContiguous) return contiguousStrides(shape);
  const strides = new Array<number>(shape.length).fill(1);
  let to = shape.length - 1;
  let blockSize = 1;
  let blockStride = x.strides[x.strides.length - 1]!;
  for (let from = x.shape.length - 1; from >= 0; from--) {
    blockSize *= x.shape[from]!;
    const ends =
      from === 0 || (x.shape[from - 1] !== 1 && x.strides[from - 1] !== blockSize * blockStride);
    if (!ends) continue;
    let filled = 1;
    while (to >= 0 && (filled < blockSize || shape[to] === 1)) {
      strides[to] = filled * blockStride;
      filled *= shape[to]!;
      to--;
    }
    if (filled !== blockSize) return null;
    if (from > 0) {
      blockSize = 1;
      blockStride = x.strides[from - 1]!;
    }
  }
  return to === -1 ? strides : null;
}

/** `shape` with its -1 replaced by what is left of `numel`. */
function inferShape(x: Tensor, shape: Shape): number[] {
  if (!Array.isArray(shape)) return checkShape(shape, "reshape");
  const list: readonly number[] = shape;
  const unknowns = list.filter((extent) => extent === -1).length;
  const known = checkShape(
    list.map((extent) => (extent === -1 ? 1 : extent)),
    "reshape",
  );
  const count = numelOf(known);
  const total = x.numel;
  const fits = unknowns === 0 ? count === total : count > 0 && total % count === 0;
  if (unknowns <= 1 && fits) {
    return list.map((extent) => (extent === -1 ? total / count : extent));
  }
  let why = `they have ${total} and ${count} elements`;
  if (unknowns === 1) why = `${total} elements cannot be divided by the ${count} of the others`;
  if (unknowns > 1) why = "only one extent can be -1";
  throw new ShapeError(
    `reshape: input ${formatShape(x.shape)} cannot be read as ${formatShape(shape)}: ${why}`,
    { op: "reshape" },
  );
}

/**
 * The elements of `x`, row-major, in another shape; one extent may be -1 and is computed. A view where
 * strides allow it, else a copy.
 * @throws ShapeError where the numbers of elements differ.
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  checkTensor(x, "reshape");
  const target = inferShape(x, shape);
  const from = x.shape;
  const strides = stridesAs(x, target);
  if (strides !== null) return viewOf("reshape", x, 0, target, strides, (g) => reshape(g, from));
  const dense = run("reshape", "cast", [x], x.dtype, from, []);
  const y = view("reshape", dense, 0, target, contiguousStrides(target));
  dense.dispose();
  record("reshape", [x], [y], [], ([g]) => [reshape(g!, from)]);
  return y;
}

/**
 * Makes one dimension of those from `startDim` to `endDim` (default: all of them; negative ones count
 * from the end). 0 dimensions become [1].
 * @throws ShapeError where a dimension is out of range, or the two are in the wrong order.
 */
export function flatten(x: Tensor, startDim = 0, endDim = -1): Tensor {
  checkTensor(x, "flatten");
  const rank = x.shape.length;
  const start = normalizeDim(startDim, rank, "flatten");
  const end = normalizeDim(endDim, rank, "flatten");
  if (start > end) {
    throw new ShapeError(
      `flatten: expected startDim not after endDim, got ${startDim} and ${endDim} for an input ` +
        formatShape(x.shape),
      { op: "flatten" },
    );
  }
  const middle = numelOf(x.shape.slice(start, end + 1));
  return reshape(x, [...x.shape.slice(0, start), middle, ...x.shape.slice(end + 1)]);
}

/** Swaps two dimensions; negative ones count from the end. A view. */
export function transpose(x: Tensor, dim0: number, dim1: number): Tensor {
  checkTensor(x, "transpose");
  const rank = x.shape.length;
  const a = normalizeDim(dim0, rank, "transpose");
  const b = normalizeDim(dim1, rank, "transpose");
  const swap = (list: readonly number[]): number[] => {
    const out = [...list];
    if (rank > 0) [out[a], out[b]] = [list[b]!, list[a]!];
    return out;
  };
  return viewOf("transpose", x, 0, swap(x.shape), swap(x.strides), (g) => transpose(g, a, b));
}

/**
 * Puts dimension `dims[i]` at place i. A view.
 * @throws ShapeError unless every dimension is named once.
 */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  checkTensor(x, "permute");
  const rank = x.shape.length;
  if (!Array.isArray(dims) || dims.length !== rank) {
    throw new ShapeError(
      `permute: expected the ${rank} dimensions of input ${formatShape(x.shape)} in a new order, ` +
        `got [${String(dims)}]`,
      { op: "permute" },
    );
  }
  normalizeDims(dims, rank, "permute");
  const order = dims.map((dim: number) => normalizeDim(dim, rank, "permute"));
  const shape = order.map((dim) => x.shape[dim]!);
  const strides = order.map((dim) => x.strides[dim]!);
  const inverse = new Array<number>(rank);
  order.forEach((dim, place) => {
    inverse[dim] = place;
  });
  return viewOf("permute", x, 0, shape, strides, (g) => permute(g, inverse));
}

/**
 * Repeats dimensions of length 1, and adds dimensions in front, up to `shape`, without copying; -1
 * keeps an extent. A view in which elements share memory.
 * @throws ShapeError where `x` does not broadcast to `shape`.
 */
export function expand(x: Tensor, shape: Shape): Tensor {
  checkTensor(x, "expand");
  const list: unknown = shape;
  const lead = Array.isArray(list) ? list.length - x.shape.length : 0;
  const target = checkShape(
    Array.isArray(list)
      ? list.map((extent: unknown, dim) =>
          extent === -1 && dim >= lead ? x.shape[dim - lead] : extent,
        )
      : list,
    "expand",
  );
  const fits =
    lead >= 0 && x.shape.every((extent, dim) => extent === 1 || extent === target[dim + lead]);
  if (!fits) {
    throw new ShapeError(
      `expand: input ${formatShape(x.shape)} does not broadcast to ${formatShape(shape)}`,
      { op: "expand" },
    );
  }
  const y = broadcastTo(x, target);
  return y === x ? viewOf("expand", x, 0, target, expandStrides(x, target), (g) => g) : y;
}

/**
 * Drops dimensions of length 1: `dim` (one or several), where they have that length, or all of them.
 * A view.
 */
export function squeeze(x: Tensor, dim?: number | readonly number[]): Tensor {
  checkTensor(x, "squeeze");
  const dims = normalizeDims(dim, x.shape.length, "squeeze");
  const kept = x.shape.flatMap((extent, d) => (extent === 1 && dims.includes(d) ? [] : [d]));
  const shape = kept.map((d) => x.shape[d]!);
  const strides = kept.map((d) => x.strides[d]!);
  const from = x.shape;
  return viewOf("squeeze", x, 0, shape, strides, (g) => reshape(g, from));
}

/** Inserts a dimension of length 1 before place `dim`; -1 puts it last. A view. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  checkTensor(x, "unsqueeze");
  const at = normalizeDim(dim, x.shape.length + 1, "unsqueeze");
  const insert = (list: readonly number[]): number[] => [
    ...list.slice(0, at),
    1,
    ...list.slice(at),
  ];
  const shape = checkShape(insert(x.shape), "unsqueeze");
  return viewOf("unsqueeze", x, 0, shape, insert(x.strides), (g) => squeeze(g, at));
}

function checkHasDims(name: string, x: Tensor): void {
  if (x.shape.length > 0) return;
  throw new ShapeError(`${name}: expected an input of at least one dimension, got []`, {
    op: name,
  });
}

/** Every `step`th element along a checked dimension; its adjoint writes them into zeros. */
function strided(
  name: string,
  x: Tensor,
  dim: number,
  start: number,
  length: number,
  step: number,
): Tensor {
  const shape = x.shape.with(dim, length);
  const strides = x.strides.with(dim, x.strides[dim]! * step);
  const extent = x.shape[dim]!;
  return viewOf(name, x, start * x.strides[dim]!, shape, strides, (g) =>
    scattered(name, g, dim, start, step, extent),
  );
}

function scattered(
  name: string,
  g: Tensor,
  dim: number,
  start: number,
  step: number,
  extent: number,
): Tensor {
  const length = g.shape[dim]!;
  const y = gradOps.full(g.shape.with(dim, extent), 0, g.dtype, g.device);
  const strides = y.strides.with(dim, y.strides[dim]! * step);
  const window = view(name, y, start * y.strides[dim]!, g.shape, strides);
  runInPlace(name, "copy_into", [window, g], [], []);
  window.dispose();
  record(name, [g], [y], [], ([gg]) => [strided(name, gg!, dim, start, length, step)]);
  return y;
}

/**
 * `length` elements from `start` (from the end when negative) along `dim`. A view.
 * @throws ShapeError where they are not all there.
 */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  checkTensor(x, "narrow");
  checkHasDims("narrow", x);
  const along = normalizeDim(dim, x.shape.length, "narrow");
  const extent = x.shape[along]!;
  const from = start < 0 ? start + extent : start;
  const whole = Number.isInteger(start) && Number.isInteger(length);
  if (!whole || from < 0 || length < 0 || from + length > extent) {
    throw new ShapeError(
      `narrow: ${length} elements from ${start} are not all in dimension ${along} of input ` +
        formatShape(x.shape),
      { op: "narrow" },
    );
  }
  return strided("narrow", x, along, from, length, 1);
}

/** What {@link slice} takes of a dimension. */
export interface SliceOptions {
  /** Default: 0. */
  dim?: number | undefined;
  /** The first element; counts from the end when negative. Default: 0. */
  start?: number | null | undefined;
  /** The element after the last one; counts from the end when negative. Default: the end. */
  end?: number | null | undefined;
  /** Distance between the elements, from 1 up. Default: 1. */
  step?: number | undefined;
}

function sliceBound(value: number | null | undefined, extent: number, fallback: number): number {
  if (value === null || value === undefined) return fallback;
  if (!Number.isInteger(value) && Math.abs(value) !== Infinity) {
    throw new ArgumentError(
      `slice: expected whole numbers for start and end, got ${String(value)}`,
      {
        op: "slice",
      },
    );
  }
  return Math.min(Math.max(value < 0 ? value + extent : value, 0), extent);
}

/**
 * Every `step`th element from `start` to before `end` along a dimension, as Python's
 * `x[start:end:step]`: bounds count from the end when negative and are limited to the extent. Takes
 * `{ dim, start, end, step }`, or the four in this order. A view.
 * @throws ArgumentError for a step below 1 or bounds that are not whole.
 */
export function slice(x: Tensor, options: SliceOptions): Tensor;
export function slice(
  x: Tensor,
  dim: number,
  start?: number | null,
  end?: number | null,
  step?: number,
): Tensor;
export function slice(
  x: Tensor,
  dimOrOptions: number | SliceOptions,
  start?: number | null,
  end?: number | null,
  step?: number,
): Tensor {
  checkTensor(x, "slice");
  checkHasDims("slice", x);
  const options =
    typeof dimOrOptions === "number" ? { dim: dimOrOptions, start, end, step } : dimOrOptions;
  const along = normalizeDim(options.dim ?? 0, x.shape.length, "slice");
  const extent = x.shape[along]!;
  const stride = options.step ?? 1;
  if (!Number.isSafeInteger(stride) || stride < 1) {
    throw new ArgumentError(`slice: expected a step from 1 up, got ${String(stride)}`, {
      op: "slice",
    });
  }
  const from = sliceBound(options.start, extent, 0);
  const to = sliceBound(options.end, extent, extent);
  const length = Math.max(0, Math.ceil((to - from) / stride));
  return strided("slice", x, along, length === 0 ? 0 : from, length, stride);
}

/**
 * The part of `x` at place `index` (from the end when negative) of dimension `dim`, which does not
 * appear in the result. A view.
 * @throws ShapeError where there is no such place.
 */
export function select(x: Tensor, dim: number, index: number): Tensor {
  checkTensor(x, "select");
  checkHasDims("select", x);
  const along = normalizeDim(dim, x.shape.length, "select");
  const extent = x.shape[along]!;
  if (!Number.isInteger(index) || index < -extent || index >= extent) {
    throw new ShapeError(
      `select: index ${String(index)} is not in dimension ${along} of input ${formatShape(x.shape)}`,
      { op: "select" },
    );
  }
  const at = index < 0 ? index + extent : index;
  const shape = x.shape.toSpliced(along, 1);
  const strides = x.strides.toSpliced(along, 1);
  return viewOf("select", x, at * x.strides[along]!, shape, strides, (g) =>
    scattered("select", unsqueeze(g, along), along, at, 1, extent),
  );
}

/** Views of pieces of `sizes` along a checked dimension, with one node for all of them. */
function pieces(name: string, x: Tensor, sizes: readonly number[], dim: number): Tensor[] {
  const stride = x.strides[dim]!;
  let start = 0;
  const parts = sizes.map((size) => {
    const part = view(name, x, start * stride, x.shape.with(dim, size), x.strides);
    start += size;
    return part;
  });
  record(name, [x], parts, [], (grads) => [cat(grads, dim)]);
  return parts;
}

/**
 * Cuts a dimension into pieces: of `sizes` where that is a list, which must add up to the extent, else
 * of `sizes` elements each, the last one of what is left. Views.
 * @throws ShapeError where the sizes do not fit.
 */
export function split(x: Tensor, sizes: number | readonly number[], dim = 0): Tensor[] {
  checkTensor(x, "split");
  checkHasDims("split", x);
  const along = normalizeDim(dim, x.shape.length, "split");
  const extent = x.shape[along]!;
  const list = typeof sizes === "number" ? sizesOf(extent, sizes) : sizes;
  const whole = list.every((size) => Number.isInteger(size) && size >= 0);
  if (!whole || list.reduce((total, size) => total + size, 0) !== extent) {
    throw new ShapeError(
      `split: pieces of [${String(sizes)}] do not make up dimension ${along} of input ` +
        formatShape(x.shape),
      { op: "split" },
    );
  }
  return pieces("split", x, list, along);
}

function sizesOf(extent: number, size: number): number[] {
  if (!Number.isInteger(size) || size < 0 || (size === 0 && extent > 0)) return [NaN];
  if (extent === 0) return [0];
  return Array.from({ length: Math.ceil(extent / size) }, (_, i) =>
    Math.min(size, extent - i * size),
  );
}

/**
 * Cuts a dimension into at most `chunks` pieces of one size, the last one of what is left. Views.
 * @throws ArgumentError unless `chunks` is a whole number from 1 up.
 */
export function chunk(x: Tensor, chunks: number, dim = 0): Tensor[] {
  checkTensor(x, "chunk");
  checkHasDims("chunk", x);
  if (!Number.isSafeInteger(chunks) || chunks < 1) {
    throw new ArgumentError(`chunk: expected a number of chunks from 1 up, got ${String(chunks)}`, {
      op: "chunk",
    });
  }
  const along = normalizeDim(dim, x.shape.length, "chunk");
  const extent = x.shape[along]!;
  // As in torch, an empty dimension gives all the chunks that were asked for.
  if (extent === 0) return pieces("chunk", x, new Array<number>(chunks).fill(0), along);
  return pieces("chunk", x, sizesOf(extent, Math.ceil(extent / chunks)), along);
}
