// Reductions over dimensions: sums and averages, extrema and their positions, logsumexp.

import { defineOp, describe, run } from "../core/dispatch.js";
import { record } from "../core/tape.js";
import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { checkDType, isFloating, isHalfWidth, type DType } from "../dtype.js";
import { ArgumentError, DTypeError } from "../errors.js";
import type { NativeOp } from "../op-names.js";
import { formatShape, normalizeDim, normalizeDims, reducedShape, type Shape } from "../shape.js";
import { div, eq, mul, sub, where } from "./binary.js";
import { broadcastTo } from "./broadcast.js";
import { to } from "./cast.js";
import { checkFloating, checkTensor, optionsWithDim } from "./checks.js";
import { reshape } from "./movement.js";
import { exp, isfinite } from "./pointwise.js";
import { floatResult } from "./promotion.js";

/** One dimension or several, from the end when negative; all of them where left out or `[]`. */
export type Dims = number | readonly number[];

/** What to reduce over. */
export interface ReduceOptions {
  /** The dimensions, where they do not stand in front of the options. */
  dim?: Dims | null | undefined;
  /** Keeps the reduced dimensions, with length 1. Default: false. */
  keepdim?: boolean | undefined;
}

/** Options of {@link sum} and {@link mean}. */
export interface SumOptions extends ReduceOptions {
  /** dtype of the result, in which is summed (16-bit floats in float32). */
  dtype?: DType | undefined;
}

/** Options of {@link variance}. */
export interface VarianceOptions extends ReduceOptions {
  /** The sum of squares is divided by the count minus this. Default: 1, the unbiased estimate. */
  correction?: number | undefined;
  /** torch's older word for a correction of 1 (true) or 0 (false). */
  unbiased?: boolean | undefined;
}

/** Options of {@link argmax} and {@link argmin}. */
export interface ArgOptions {
  /** The dimension, where it does not stand in front; the flattened tensor where left out. */
  dim?: number | undefined;
  /** Keeps the dimension, with length 1. Default: false. */
  keepdim?: boolean | undefined;
}

const REDUCE_OPTIONS = ["dim", "keepdim"];
const SUM_OPTIONS = [...REDUCE_OPTIONS, "dtype"];
const VARIANCE_OPTIONS = [...REDUCE_OPTIONS, "correction", "unbiased"];

interface Reduction {
  readonly dims: readonly number[];
  /** The dimensions as the addon takes them: bit d for dimension d. */
  readonly mask: number;
  readonly shape: Shape;
  /** The shape with reduced dimensions of length 1, which broadcasts against the input. */
  readonly keptShape: Shape;
  /** Elements per result. */
  readonly count: number;
}

function reductionOf(name: string, x: Tensor, options: ReduceOptions): Reduction {
  const { dim, keepdim = false } = options;
  const given = dim ?? undefined;
  const all = typeof given === "object" && given.length === 0;
  const dims = normalizeDims(all ? undefined : given, x.shape.length, name);
  let mask = 0;
  let count = 1;
  for (const d of dims) {
    mask += 2 ** d;
    count *= x.shape[d]!;
  }
  const keptShape = reducedShape(x.shape, dims, true);
  const shape = keepdim ? keptShape : reducedShape(x.shape, dims, false);
  return { dims, mask, shape, keptShape, count };
}

/** A tensor whose arithmetic is not rounded to 16 bits at every step. */
function widened(x: Tensor): Tensor {
  return isHalfWidth(x.dtype) ? to(x, "float32") : x;
}

/** Sums, times `factor`, in `dtype`. */
function sumTimes(
  name: string,
  x: Tensor,
  reduction: Reduction,
  dtype: DType,
  factor: number,
): Tensor {
  const y = run(name, "sum", [x], dtype, reduction.shape, [reduction.mask, factor]);
  const from = x.shape;
  record(name, [x], [y], [], ([g]) => {
    const scaled = factor === 1 ? g! : mul(g!, factor);
    return [broadcastTo(reshape(scaled, reduction.keptShape), from)];
  });
  return y;
}

/** A reduction's arguments after the tensor: dimensions, options, or both. */
type Reduce<O> = (x: Tensor, dim?: Dims | O, options?: Omit<O, "dim">) => Tensor;

/**
 * Sum over dimensions. Floats keep their dtype (16-bit ones are summed in float32 and rounded
 * once), integers and bool give int64, unless `dtype` is given. No elements give 0. Autocast runs
 * it in float32 unless `dtype` is given.
 */
export const sum: Reduce<SumOptions> = defineOp("sum", (x, dim, given): Tensor => {
  checkTensor(x, "sum");
  const options = optionsWithDim<Dims, SumOptions>("sum", dim, given, SUM_OPTIONS);
  const natural = isFloating(x.dtype) ? x.dtype : "int64";
  const dtype = options.dtype === undefined ? natural : checkDType(options.dtype, "sum");
  return sumTimes("sum", x, reductionOf("sum", x, options), dtype, 1);
});

/**
 * Average over dimensions, in the dtype of x (16-bit floats are summed in float32 and rounded once)
 * or in `dtype`. No elements give NaN.
 * @throws DTypeError for integers and bool, unless `dtype` is floating point.
 */
export const mean: Reduce<SumOptions> = defineOp("mean", (x, dim, given): Tensor => {
  checkTensor(x, "mean");
  const options = optionsWithDim<Dims, SumOptions>("mean", dim, given, SUM_OPTIONS);
  const dtype = options.dtype === undefined ? x.dtype : checkDType(options.dtype, "mean");
  if (!isFloating(dtype)) {
    throw new DTypeError(
      `mean: expected a floating-point input or { dtype }, got ${describe(x)}` +
        (options.dtype === undefined ? "" : ` with dtype ${dtype}`),
      { op: "mean" },
    );
  }
  const reduction = reductionOf("mean", x, options);
  return sumTimes("mean", x, reduction, dtype, 1 / reduction.count);
});

function correctionOf({ correction, unbiased }: VarianceOptions): number {
  if (correction !== undefined && unbiased !== undefined) {
    throw new ArgumentError("variance: expected one of correction and unbiased, got both", {
      op: "variance",
    });
  }
  if (unbiased !== undefined) return unbiased ? 1 : 0;
  if (correction === undefined) return 1;
  if (typeof correction === "number" && !Number.isNaN(correction)) return correction;
  throw new ArgumentError(`variance: correction — expected a number, got ${String(correction)}`, {
    op: "variance",
  });
}

/**
 * Variance over dimensions: the average squared distance from the mean, with `correction` taken off
 * the count. dtype of x; 16-bit floats are computed in float32. NaN where the count is not larger
 * than the correction.
 * @throws DTypeError for integers and bool.
 */
export const variance: Reduce<VarianceOptions> = defineOp("variance", (x, dim, given): Tensor => {
  checkFloating("variance", x);
  const options = optionsWithDim<Dims, VarianceOptions>("variance", dim, given, VARIANCE_OPTIONS);
  const correction = correctionOf(options);
  const { dims, mask, shape, keptShape, count } = reductionOf("variance", x, options);
  const y = run("variance", "variance", [x], x.dtype, shape, [mask, correction]);
  record("variance", [x], [y], [x], ([g], [saved]) => {
    const wide = widened(saved!);
    const centered = sub(wide, mean(wide, { dim: dims, keepdim: true }));
    const factor = 2 / Math.max(0, count - correction);
    return [mul(centered, mul(reshape(g!, keptShape), factor))];
  });
  return y;
});

function checkNotEmpty(name: string, x: Tensor, dims: readonly number[]): void {
  if (dims.every((dim) => x.shape[dim] !== 0)) return;
  throw new ArgumentError(
    `${name}: expected at least one element to choose from, got ${describe(x)} over ` +
      `dimensions ${formatShape(dims)}`,
    { op: name },
  );
}

function defineExtremum(name: "amax" | "amin"): Reduce<ReduceOptions> {
  return defineOp(name, (x: Tensor, dim?: Dims | ReduceOptions, given?: ReduceOptions): Tensor => {
    checkTensor(x, name);
    const options = optionsWithDim<Dims, ReduceOptions>(name, dim, given, REDUCE_OPTIONS);
    const { dims, mask, shape, keptShape } = reductionOf(name, x, options);
    checkNotEmpty(name, x, dims);
    const y = run(name, name, [x], x.dtype, shape, [mask]);
    record(name, [x], [y], [x, y], ([g], [input, output]) => {
      const chosen = eq(input!, reshape(output!, keptShape));
      const share = div(reshape(g!, keptShape), sum(chosen, { dim: dims, keepdim: true }));
      return [mul(to(chosen, g!.dtype), share)];
    });
    return y;
  });
}

/**
 * Largest element over dimensions, in the dtype of x; NaN where any is. Equal elements share the
 * gradient.
 * @throws ArgumentError when a reduced dimension is empty.
 */
export const amax = defineExtremum("amax");

/**
 * Smallest element over dimensions, in the dtype of x; NaN where any is. Equal elements share the
 * gradient.
 * @throws ArgumentError when a reduced dimension is empty.
 */
export const amin = defineExtremum("amin");

function position(
  name: string,
  op: NativeOp,
  x: Tensor,
  given: number | ArgOptions | undefined,
  options: Omit<ArgOptions, "dim"> | undefined,
): Tensor {
  checkTensor(x, name);
  const all = optionsWithDim<number, ArgOptions>(name, given, options, REDUCE_OPTIONS);
  const { dim, keepdim = false } = all;
  const rank = x.shape.length;
  const flat = dim === undefined;
  const dims = flat ? normalizeDims(undefined, rank, name) : [normalizeDim(dim, rank, name)];
  const reduced = rank === 0 ? [] : dims;
  checkNotEmpty(name, x, reduced);
  const shape = reducedShape(x.shape, reduced, keepdim);
  return run(name, op, [x], "int64", shape, [flat ? -1 : dims[0]!]);
}

/**
 * Position of the largest element, int64: along `dim`, or in the flattened tensor. The first of
 * equal ones; a NaN counts as larger than all.
 * @throws ArgumentError when there is nothing to choose from.
 */
export function argmax(
  x: Tensor,
  dim?: number | ArgOptions,
  options?: Omit<ArgOptions, "dim">,
): Tensor {
  return position("argmax", "argmax", x, dim, options);
}

/**
 * Position of the smallest element, int64: along `dim`, or in the flattened tensor. The first of
 * equal ones; a NaN counts as smaller than all.
 * @throws ArgumentError when there is nothing to choose from.
 */
export function argmin(
  x: Tensor,
  dim?: number | ArgOptions,
  options?: Omit<ArgOptions, "dim">,
): Tensor {
  return position("argmin", "argmin", x, dim, options);
}

/**
 * `log(sum(exp(x)))` over dimensions, without overflow. dtype of x (16-bit floats are computed in
 * float32); integers give the default dtype. No elements give -Infinity. Autocast runs it in
 * float32.
 */
export const logsumexp: Reduce<ReduceOptions> = defineOp(
  "logsumexp",
  (x: Tensor, dim?: Dims | ReduceOptions, given?: ReduceOptions): Tensor => {
    checkTensor(x, "logsumexp");
    const options = optionsWithDim<Dims, ReduceOptions>("logsumexp", dim, given, REDUCE_OPTIONS);
    const { dims, mask, shape, keptShape } = reductionOf("logsumexp", x, options);
    const y = run("logsumexp", "logsumexp", [x], floatResult(x.dtype), shape, [mask]);
    const half = isHalfWidth(x.dtype);
    record("logsumexp", [x], [y], half ? [x] : [x, y], ([g], [input, output]) => [
      tidy(() => {
        const wide = widened(input!);
        const total = half
          ? logsumexp(wide, { dim: dims, keepdim: true })
          : reshape(output!, keptShape);
        // Where all are -Infinity the shares are 0, not NaN.
        const share = exp(sub(wide, where(isfinite(total), total, 0)));
        return mul(share, reshape(g!, keptShape));
      }),
    ]);
    return y;
  },
);
