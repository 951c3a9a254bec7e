// Views of parts of a tensor, and their gradients.

import { runInPlace, view } from "../core/dispatch.js";
import type { DimOptions } from "../core/options.js";
import { gradOps, record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { formatShape, normalizeDim } from "../shape.js";
import { checkOptions, checkTensor, dimOf } from "./checks.js";
import { cat } from "./concat.js";
import { unsqueeze, viewOf } from "./movement.js";

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

/** What {@link narrow} takes of a dimension. */
export interface NarrowOptions {
  dim: number;
  /** The first element; counts from the end when negative. */
  start: number;
  /** Number of elements. */
  length: number;
}

/**
 * `length` elements from `start` (from the end when negative) along `dim`, given in the order dim,
 * start, length or as options. A view.
 * @throws ShapeError where they are not all there.
 */
export function narrow(
  x: Tensor,
  ...range: [dim: number, start: number, length: number] | [options: NarrowOptions]
): Tensor {
  checkTensor(x, "narrow");
  checkHasDims("narrow", x);
  const [first] = range;
  if (typeof first === "object") checkOptions("narrow", first, ["dim", "start", "length"]);
  const { dim, start, length } =
    typeof first === "object" ? first : { dim: first, start: range[1]!, length: range[2]! };
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
export function slice(
  x: Tensor,
  ...range:
    | [options: SliceOptions]
    | [dim: number, start?: number | null, end?: number | null, step?: number]
): Tensor {
  checkTensor(x, "slice");
  checkHasDims("slice", x);
  const [first, start, end, step] = range;
  const options = typeof first === "number" ? { dim: first, start, end, step } : first;
  checkOptions("slice", options, ["dim", "start", "end", "step"]);
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

/** What {@link select} takes of a dimension. */
export interface SelectOptions {
  dim: number;
  /** The place; counts from the end when negative. */
  index: number;
}

/**
 * The part of `x` at place `index` (from the end when negative) of dimension `dim`, which does not
 * appear in the result; given in the order dim, index or as options. A view.
 * @throws ShapeError where there is no such place.
 */
export function select(
  x: Tensor,
  ...place: [dim: number, index: number] | [options: SelectOptions]
): Tensor {
  checkTensor(x, "select");
  checkHasDims("select", x);
  const [first] = place;
  if (typeof first === "object") checkOptions("select", first, ["dim", "index"]);
  const { dim, index } = typeof first === "object" ? first : { dim: first, index: place[1]! };
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
  const parts: Tensor[] = [];
  let start = 0;
  for (const size of sizes) {
    const shape = x.shape.with(dim, size);
    parts.push(view(name, x, start * x.strides[dim]!, shape, x.strides));
    start += size;
  }
  record(name, [x], parts, [], (grads) => [cat(grads, dim)]);
  return parts;
}

/**
 * Cuts a dimension (default 0; by itself or as `{ dim }`) into pieces: of `sizes` where that is a
 * list, which must add up to the extent, else of `sizes` elements each, the last one of what is
 * left. Views.
 * @throws ShapeError where the sizes do not fit.
 */
export function split(
  x: Tensor,
  sizes: number | readonly number[],
  dim?: number | DimOptions,
): Tensor[] {
  checkTensor(x, "split");
  checkHasDims("split", x);
  const along = normalizeDim(dimOf("split", dim), x.shape.length, "split");
  const extent = x.shape[along]!;
  const given: unknown = typeof sizes === "number" ? sizesOf(extent, sizes) : sizes;
  const list = Array.isArray(given) ? (given as number[]) : [NaN];
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
 * Cuts a dimension (default 0; by itself or as `{ dim }`) into at most `chunks` pieces of one size,
 * the last one of what is left. Views.
 * @throws ArgumentError unless `chunks` is a whole number from 1 up.
 */
export function chunk(x: Tensor, chunks: number, dim?: number | DimOptions): Tensor[] {
  checkTensor(x, "chunk");
  checkHasDims("chunk", x);
  if (!Number.isSafeInteger(chunks) || chunks < 1) {
    throw new ArgumentError(`chunk: expected a number of chunks from 1 up, got ${String(chunks)}`, {
      op: "chunk",
    });
  }
  const along = normalizeDim(dimOf("chunk", dim), x.shape.length, "chunk");
  const extent = x.shape[along]!;
  // As in torch, an empty dimension gives all the chunks that were asked for.
  if (extent === 0) return pieces("chunk", x, new Array<number>(chunks).fill(0), along);
  return pieces("chunk", x, sizesOf(extent, Math.ceil(extent / chunks)), along);
}
