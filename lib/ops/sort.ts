// Functions along one dimension that depend on order: running sums, sorting, the largest elements,
// and drawing by weight.

import { drawRandom } from "../core/context.js";
import { defineOp, describe, run, runMany } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import { gradOps, record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { checkDType, isFloating, type DType } from "../dtype.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { normalizeDim, type Shape } from "../shape.js";
import { checkFloating, checkOptions, checkTensor, optionsWithDim } from "./checks.js";
import { scatterAdd } from "./indexing.js";
import { reshape } from "./movement.js";

/** Options of {@link cumsum}. */
export interface CumsumOptions {
  /** The dimension, when it is not given before the options. */
  dim?: number | undefined;
  /** dtype of the result. Default: that of x, or int64 for integers and bool. */
  dtype?: DType | undefined;
}

function cumulate(x: Tensor, dim: number, dtype: DType, reverse: boolean): Tensor {
  const y = run("cumsum", "cumsum", [x], dtype, x.shape, [dim, reverse ? 1 : 0]);
  const from = x.dtype;
  record("cumsum", [x], [y], [], ([g]) => [cumulate(g!, dim, from, !reverse)]);
  return y;
}

/**
 * Running sums along `dim`, given before the options or among them. Shape of x; floats keep their
 * dtype (16-bit ones are summed in float32), integers and bool give int64, unless `dtype` is given.
 * Autocast runs it in float32 unless `dtype` is given.
 */
export const cumsum = defineOp(
  "cumsum",
  (x: Tensor, dim: number | CumsumOptions, options?: Omit<CumsumOptions, "dim">): Tensor => {
    checkTensor(x, "cumsum");
    const names = ["dim", "dtype"];
    const given = optionsWithDim<number, CumsumOptions>("cumsum", dim, options, names);
    if (given.dim === undefined) {
      throw new ArgumentError("cumsum: expected a dimension, got none", { op: "cumsum" });
    }
    const along = normalizeDim(given.dim, x.shape.length, "cumsum");
    const natural = isFloating(x.dtype) ? x.dtype : "int64";
    const dtype = given.dtype === undefined ? natural : checkDType(given.dtype, "cumsum");
    if (x.shape.length > 0) return cumulate(x, along, dtype, false);
    return tidy(() => reshape(cumulate(reshape(x, [1]), 0, dtype, false), []));
  },
);

/** Elements, and where along the dimension they were (int64). */
export interface Ordered {
  readonly values: Tensor;
  readonly indices: Tensor;
}

/** Runs `sort` or `topk`, whose values take their gradients back to where they came from. */
function order(
  name: "sort" | "topk",
  x: Tensor,
  dim: number,
  shape: Shape,
  attrs: readonly number[],
): Ordered {
  const outputs = [
    { dtype: x.dtype, shape },
    { dtype: "int64" as const, shape },
  ];
  const [values, indices] = runMany(name, name, [x], outputs, attrs);
  const from = x.shape;
  record(name, [x], [values!], [indices!], ([g], [at]) => {
    const zeros = gradOps.full(from, 0, g!.dtype, g!.device);
    return [scatterAdd(zeros, dim, at!, g!)];
  });
  return { values: values!, indices: indices! };
}

function withoutDims({ values, indices }: Ordered): Ordered {
  return { values: reshape(values, []), indices: reshape(indices, []) };
}

/** Options of {@link sort}. */
export interface SortOptions {
  /** Default: the last one. */
  dim?: number | undefined;
  /** Largest first. Default: false. */
  descending?: boolean | undefined;
}

/**
 * The elements in order along `dim`, and their places before: `{ values, indices }`, of the shape
 * of x. Equal elements keep their order; NaN counts as larger than all. The gradient flows through
 * values.
 */
export const sort = defineOp(
  "sort",
  (x: Tensor, dim?: number | SortOptions, given?: Omit<SortOptions, "dim">): Ordered => {
    checkTensor(x, "sort");
    const names = ["dim", "descending"];
    const options = optionsWithDim<number, SortOptions>("sort", dim, given, names);
    const along = normalizeDim(options.dim ?? -1, x.shape.length, "sort");
    const flag = options.descending === true ? 1 : 0;
    if (x.shape.length > 0) return order("sort", x, along, x.shape, [along, flag]);
    return tidy(() => withoutDims(order("sort", reshape(x, [1]), 0, [1], [0, flag])));
  },
);

/** Options of {@link topk}. */
export interface TopkOptions {
  /** Default: the last one. */
  dim?: number | undefined;
  /** The largest rather than the smallest. Default: true. */
  largest?: boolean | undefined;
}

type Topk = (
  x: Tensor,
  k: number,
  dim?: number | TopkOptions,
  options?: Omit<TopkOptions, "dim">,
) => Ordered;

/**
 * The `k` largest (smallest) elements along `dim`, in order, and their places: `{ values, indices
 * }`, of the shape of x with k along `dim`. NaN counts as larger than all. The gradient flows
 * through values.
 * @throws ArgumentError where there are no `k` elements.
 */
export const topk: Topk = defineOp("topk", (x, k, dim, given): Ordered => {
  checkTensor(x, "topk");
  const names = ["dim", "largest"];
  const options = optionsWithDim<number, TopkOptions>("topk", dim, given, names);
  const along = normalizeDim(options.dim ?? -1, x.shape.length, "topk");
  const extent = x.shape[along] ?? 1;
  if (!Number.isInteger(k) || k < 0 || k > extent) {
    throw new ArgumentError(
      `topk: expected k from 0 to ${extent}, got ${String(k)} for ${describe(x)} along ` +
        `dimension ${along}`,
      { op: "topk" },
    );
  }
  const flag = options.largest === false ? 0 : 1;
  if (x.shape.length > 0) return order("topk", x, along, x.shape.with(along, k), [k, along, flag]);
  return tidy(() => {
    const ordered = order("topk", reshape(x, [1]), 0, [k], [k, 0, flag]);
    return k === 1 ? withoutDims(ordered) : ordered;
  });
});

/** Options of {@link multinomial}. */
export interface MultinomialOptions {
  /** Whether a place may be drawn more than once. Default: false. */
  replacement?: boolean | undefined;
}

/**
 * Draws `samples` places in proportion to `weights` [n], or [rows, n] for each row: int64
 * [samples], or [rows, samples]. The weights need not add up to 1. Not differentiable.
 * @throws ArgumentError for weights that are negative, not finite or all 0, and for more samples
 * without replacement than there are weights other than 0; DTypeError for weights that are not
 * floating point; ShapeError for other ranks.
 */
export function multinomial(
  weights: Tensor,
  samples: number,
  options: MultinomialOptions = {},
): Tensor {
  const name = "multinomial";
  checkFloating(name, weights, "weights");
  checkOptions(name, options, ["replacement"]);
  const { shape } = weights;
  if (shape.length !== 1 && shape.length !== 2) {
    throw new ShapeError(`${name}: expected weights [n] or [rows, n], got ${describe(weights)}`, {
      op: name,
    });
  }
  const choices = shape[shape.length - 1]!;
  const rows = shape.length === 2 ? shape[0]! : 1;
  const replacement = options.replacement ?? false;
  const most = replacement ? Infinity : choices;
  if (!Number.isSafeInteger(samples) || samples < 1 || samples > most || choices === 0) {
    throw new ArgumentError(
      `${name}: expected a number of samples from 1 to ${most}, got ${String(samples)} for weights ` +
        describe(weights),
      { op: name },
    );
  }
  const matrix = shape.length === 2 ? weights : reshape(weights, [1, choices]);
  const [seed, offset] = drawRandom(rows * Math.max(choices, samples) * 2);
  const attrs = [seed, offset, replacement ? 1 : 0];
  const drawn = run(name, "multinomial", [matrix], "int64", [rows, samples], attrs);
  if (matrix === weights) return drawn;
  matrix.dispose();
  const result = reshape(drawn, [samples]);
  drawn.dispose();
  return result;
}
