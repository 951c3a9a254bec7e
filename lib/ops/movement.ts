// Functions that move no elements: views of the same memory in another shape. Only `reshape` and
// `flatten` copy, where no strides could say the same.

import { run, view } from "../core/dispatch.js";
import type { DimOptions } from "../core/options.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { describe, ShapeError } from "../errors.js";
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
import { checkOptions, checkTensor, dimOf, optionsWithDim } from "./checks.js";

/** A view with its gradient. */
export function viewOf(
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

/** A list of extents or dimensions: as one argument or, as in torch, as several. */
type List = [list: readonly number[]] | number[];

/** The list among arguments; what is neither form is left to the check of the elements. */
function listOf(given: List): readonly number[] {
  const [first] = given;
  return typeof first === "object" ? first : (given as number[]);
}

// The functions that backward calls are made where no other function refers to the tensor: those of
// one scope share what any of them refers to, and a graph would keep it.
const identity = (g: Tensor): Tensor => g;

/**
 * Strides with which the memory of `x` reads as `shape`, of as many elements; null where there are
 * none. Dimensions that follow each other in memory form blocks, and each block has to be cut anew
 * by dimensions of `shape` of its own.
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
 * The elements of `x`, row-major, in another shape, a list or several numbers; one extent may be -1
 * and is computed. A view where strides allow it, else a copy.
 * @throws ShapeError where the numbers of elements differ.
 */
export function reshape(x: Tensor, ...shape: List): Tensor {
  checkTensor(x, "reshape");
  const target = inferShape(x, listOf(shape));
  const from = x.shape;
  const strides = stridesAs(x, target);
  if (strides !== null) return viewOf("reshape", x, 0, target, strides, (g) => reshape(g, from));
  const dense = run("reshape", "cast", [x], x.dtype, from, []);
  const y = view("reshape", dense, 0, target, contiguousStrides(target));
  dense.dispose();
  record("reshape", [x], [y], [], ([g]) => [reshape(g!, from)]);
  return y;
}

/** What {@link flatten} makes one dimension of. */
export interface FlattenOptions {
  /** Default: 0. */
  startDim?: number | undefined;
  /** The last one, itself included. Default: -1. */
  endDim?: number | undefined;
}

/**
 * Makes one dimension of those from `startDim` to `endDim` (default: all of them; negative ones
 * count from the end), given in this order or as options. 0 dimensions become [1].
 * @throws ShapeError where a dimension is out of range, or the two are in the wrong order.
 */
export function flatten(
  x: Tensor,
  ...range: [options?: FlattenOptions] | [startDim: number, endDim?: number]
): Tensor {
  checkTensor(x, "flatten");
  x.assertUsable("flatten");
  const [first, last] = range;
  const given = typeof first === "object" ? first : { startDim: first, endDim: last };
  checkOptions("flatten", given, ["startDim", "endDim"]);
  const { startDim = 0, endDim = -1 } = given;
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
 * Puts dimension `dims[i]` at place i; `dims` is a list or several numbers. A view.
 * @throws ShapeError unless every dimension is named once.
 */
export function permute(x: Tensor, ...order: List): Tensor {
  checkTensor(x, "permute");
  const rank = x.shape.length;
  const dims = listOf(order);
  const given: unknown = dims;
  if (!Array.isArray(given) || given.length !== rank) {
    throw new ShapeError(
      `permute: expected the ${rank} dimensions of input ${formatShape(x.shape)} in a new order, ` +
        `got ${Array.isArray(given) ? formatShape(dims) : describe(given)}`,
      { op: "permute" },
    );
  }
  normalizeDims(dims, rank, "permute");
  const shape = new Array<number>(rank);
  const strides = new Array<number>(rank);
  const inverse = new Array<number>(rank);
  for (let place = 0; place < rank; place++) {
    const dim = normalizeDim(dims[place]!, rank, "permute");
    shape[place] = x.shape[dim]!;
    strides[place] = x.strides[dim]!;
    inverse[dim] = place;
  }
  return viewOf("permute", x, 0, shape, strides, (g) => permute(g, inverse));
}

/**
 * Repeats dimensions of length 1, and adds dimensions in front, up to `shape`, a list or several
 * numbers, without copying; -1 keeps an extent. A view in which elements share memory.
 * @throws ShapeError where `x` does not broadcast to `shape`.
 */
export function expand(x: Tensor, ...extents: List): Tensor {
  checkTensor(x, "expand");
  const shape = listOf(extents);
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
  return y === x ? viewOf("expand", x, 0, target, expandStrides(x, target), identity) : y;
}

/** Options of {@link squeeze}. */
export interface SqueezeOptions {
  /** One dimension or several, where they are not given by themselves. Default: all of length 1. */
  dim?: number | readonly number[] | undefined;
}

/**
 * Drops dimensions of length 1: `dim` (one or several, by itself or as `{ dim }`), where they have
 * that length, or all of them. A view.
 */
export function squeeze(x: Tensor, dim?: number | readonly number[] | SqueezeOptions): Tensor {
  checkTensor(x, "squeeze");
  const { dim: given } = optionsWithDim<number | readonly number[], SqueezeOptions>(
    "squeeze",
    dim,
    undefined,
    ["dim"],
  );
  const dims = normalizeDims(given, x.shape.length, "squeeze");
  const from = x.shape;
  const shape: number[] = [];
  const strides: number[] = [];
  for (let d = 0; d < from.length; d++) {
    if (from[d] === 1 && dims.includes(d)) continue;
    shape.push(from[d]!);
    strides.push(x.strides[d]!);
  }
  return viewOf("squeeze", x, 0, shape, strides, (g) => reshape(g, from));
}

/** Inserts a dimension of length 1 before place `dim`, or `{ dim }`; -1 puts it last. A view. */
export function unsqueeze(x: Tensor, dim: number | Required<DimOptions>): Tensor {
  checkTensor(x, "unsqueeze");
  const at = normalizeDim(dimOf("unsqueeze", dim, NaN), x.shape.length + 1, "unsqueeze");
  const insert = (list: readonly number[]): number[] => [
    ...list.slice(0, at),
    1,
    ...list.slice(at),
  ];
  const shape = checkShape(insert(x.shape), "unsqueeze");
  return viewOf("unsqueeze", x, 0, shape, insert(x.strides), (g) => squeeze(g, at));
}
