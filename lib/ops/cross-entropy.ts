// Losses of classification: cross entropy and negative log likelihood.

import { context } from "../core/context.js";
import { defineOp, describe, run, runMany } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, isHalfWidth, type DType } from "../dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { numelOf, sameShape, type Shape } from "../shape.js";
import { add, div, eq, mul, ne, sub, where } from "./binary.js";
import { to } from "./cast.js";
import { checkFloating, checkOptions, checkTensor } from "./checks.js";
import { arange } from "./create.js";
import { gather, indexSelect } from "./indexing.js";
import { checkReduction, type LossOptions, type LossReduction } from "./loss.js";
import { permute, reshape } from "./movement.js";
import { neg } from "./pointwise.js";
import { sum } from "./reduce.js";
import { logSoftmax, softmax } from "./softmax.js";

/** Options of {@link nllLoss}. */
export interface NllLossOptions extends LossOptions {
  /** Factors [C] of the losses by class; a mean is divided by the sum of those that were used. */
  weight?: Tensor | null | undefined;
  /** Targets of this value give no loss and do not count in the mean. Default: -100. */
  ignoreIndex?: number | undefined;
}

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends NllLossOptions {
  /** Share of the target spread evenly over all classes, from 0 to 1. Default: 0. */
  labelSmoothing?: number | undefined;
}

const NLL_OPTIONS = ["weight", "ignoreIndex", "reduction"];

function checkIgnoreIndex(name: string, options: NllLossOptions): number {
  const { ignoreIndex = -100 } = options;
  if (Number.isSafeInteger(ignoreIndex)) return ignoreIndex;
  throw new ArgumentError(
    `${name}: ignoreIndex — expected a whole number, got ${String(ignoreIndex)}`,
    { op: name },
  );
}

function checkSmoothing(name: string, options: CrossEntropyOptions): number {
  const { labelSmoothing = 0 } = options;
  if (labelSmoothing >= 0 && labelSmoothing <= 1) return labelSmoothing;
  throw new ArgumentError(
    `${name}: labelSmoothing — expected a number from 0 to 1, got ${String(labelSmoothing)}`,
    { op: name },
  );
}

function checkWeight(name: string, scores: Tensor, classes: number, weight: Tensor): void {
  checkFloating(name, weight, "weight");
  if (weight.shape.length === 1 && weight.shape[0] === classes) return;
  throw new ShapeError(
    `${name}: expected a weight for each of ${classes} classes, got weight ${describe(weight)} for ` +
      `input ${describe(scores)}`,
    { op: name },
  );
}

/** Scores [N, C, ...] (or [C]) as rows [N * ..., C]. */
function rowsOf(scores: Tensor): Tensor {
  const rank = scores.shape.length;
  if (rank === 2) return scores;
  const classes = scores.shape[Math.min(rank - 1, 1)]!;
  let last = scores;
  if (rank > 2) {
    const order = [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
    last = permute(scores, order);
  }
  return reshape(last, [classes === 0 ? 0 : scores.numel / classes, classes]);
}

/** Class scores as rows [N, C], and their targets as int64 [N]. */
interface Classified {
  readonly rows: Tensor;
  readonly target: Tensor;
  /** The shape of the losses: that of the target. */
  readonly shape: Shape;
}

function lossShape(scores: Shape): number[] {
  return scores.length < 2 ? [] : [scores[0]!, ...scores.slice(2)];
}

/** Checks scores [C] with target [], or [N, C, ...] with target [N, ...], and lays them out. */
function classified(
  name: string,
  scores: Tensor,
  target: Tensor,
  options: NllLossOptions,
): Classified {
  if (isFloating(target.dtype) || target.dtype === "bool") {
    throw new DTypeError(
      `${name}: expected class indices of an integer dtype, got target ${describe(target)} for ` +
        `input ${describe(scores)}`,
      { op: name },
    );
  }
  const rank = scores.shape.length;
  const shape = lossShape(scores.shape);
  if (rank === 0 || !sameShape(target.shape, shape)) {
    throw new ShapeError(
      `${name}: expected input [C] with target [], or [N, C, ...] with target [N, ...], got input ` +
        `${describe(scores)}, target ${describe(target)}`,
      { op: name },
    );
  }
  if (options.weight) {
    checkWeight(name, scores, scores.shape[Math.min(rank - 1, 1)]!, options.weight);
  }
  const indices = to(target, "int64");
  const flat = rank === 2 ? indices : reshape(indices, [numelOf(shape)]);
  return { rows: rowsOf(scores), target: flat, shape };
}

const widened = (x: Tensor): Tensor => (isHalfWidth(x.dtype) ? to(x, "float32") : x);

/** The losses of rows, those of ignored ones being 0, as the result; `total` divides a mean. */
function reduceRows(
  losses: Tensor,
  shape: Shape,
  reduction: LossReduction,
  dtype: DType,
  total: () => Tensor | number,
): Tensor {
  if (reduction === "none") return to(reshape(losses, shape), dtype);
  const summed = sum(losses);
  return to(reduction === "sum" ? summed : div(summed, total()), dtype);
}

/** Cross entropy of rows: float32, or float64, one loss per row and 0 for ignored ones. */
function crossEntropyRows(
  logits: Tensor,
  target: Tensor,
  ignoreIndex: number,
  smoothing: number,
): Tensor {
  const [N, C] = [logits.shape[0]!, logits.shape[1]!];
  const dtype: DType = logits.dtype === "float64" ? "float64" : "float32";
  const attrs = [ignoreIndex, smoothing];
  const each = { dtype, shape: [N] };
  const name = "crossEntropy";
  const [losses, logsumexp] = runMany(name, "cross_entropy", [logits, target], [each, each], attrs);
  const kept = [logits, target, logsumexp!];
  record(name, [logits], [losses!], kept, ([g], [x, t, total]) => {
    if (!context.gradEnabled) {
      return [run(name, "cross_entropy_grad", [g!, x!, t!, total!], x!.dtype, x!.shape, attrs)];
    }
    const column = reshape(t!, [N, 1]);
    const isTarget = to(eq(column, arange(C)), dtype);
    const wanted = add(mul(isTarget, 1 - smoothing), smoothing / C);
    const factor = mul(reshape(g!, [N, 1]), to(ne(column, ignoreIndex), dtype));
    return [mul(sub(softmax(widened(x!), { dim: 1 }), wanted), factor)];
  });
  logsumexp!.dispose();
  return losses!;
}

/** Losses of rows of log probabilities, and the weight of each row; both 0 for ignored ones. */
function weightedRows(
  laid: Classified,
  weight: Tensor | null,
  ignoreIndex: number,
): { losses: Tensor; weights: Tensor } {
  const { rows, target } = laid;
  const counts = ne(target, ignoreIndex);
  const index = where(counts, target, 0);
  const chosen = reshape(gather(rows, 1, reshape(index, [target.shape[0]!, 1])), target.shape);
  const wide = neg(widened(chosen));
  if (weight === null) return { losses: where(counts, wide, 0), weights: counts };
  const weights = where(counts, indexSelect(to(weight, wide.dtype), 0, index), 0);
  return { losses: where(counts, mul(wide, weights), 0), weights };
}

/** Cross entropy with class weights: out of other operations, one loss for each row. */
function weightedCrossEntropy(
  laid: Classified,
  weight: Tensor,
  ignoreIndex: number,
  smoothing: number,
): { losses: Tensor; weights: Tensor } {
  const rows = logSoftmax(widened(laid.rows), { dim: 1 });
  const { losses, weights } = weightedRows({ ...laid, rows }, weight, ignoreIndex);
  if (smoothing === 0) return { losses, weights };
  const spread = neg(sum(mul(rows, to(weight, rows.dtype)), { dim: 1 }));
  const counted = where(ne(laid.target, ignoreIndex), spread, 0);
  const share = smoothing / rows.shape[1]!;
  return { losses: add(mul(losses, 1 - smoothing), mul(counted, share)), weights };
}

/** Cross entropy with a probability for each class: `-sum(target log softmax(logits))`. */
function softCrossEntropy(
  logits: Tensor,
  target: Tensor,
  options: CrossEntropyOptions,
  reduction: LossReduction,
): Tensor {
  const name = "crossEntropy";
  if (logits.shape.length === 0 || !sameShape(logits.shape, target.shape)) {
    throw new ShapeError(
      `${name}: expected probabilities of the shape of the input, got input ${describe(logits)}, ` +
        `target ${describe(target)}`,
      { op: name },
    );
  }
  const smoothing = checkSmoothing(name, options);
  const rows = logSoftmax(widened(rowsOf(logits)), { dim: 1 });
  const classes = rows.shape[1]!;
  let wanted = to(rowsOf(target), rows.dtype);
  if (smoothing > 0) wanted = add(mul(wanted, 1 - smoothing), smoothing / classes);
  let each = mul(rows, wanted);
  if (options.weight) {
    checkWeight(name, logits, classes, options.weight);
    each = mul(each, to(options.weight, rows.dtype));
  }
  const losses = neg(sum(each, { dim: 1 }));
  const shape = lossShape(logits.shape);
  return reduceRows(losses, shape, reduction, logits.dtype, () => rows.shape[0]!);
}

/**
 * Cross entropy between class scores `logits` [N, C, ...] (or [C]) and `target`: class indices
 * [N, ...] (or []) of an integer dtype, or probabilities of the shape of the logits. That is
 * `-log softmax(logits)[target]`, averaged over the targets that are not `ignoreIndex` (NaN where
 * all are), summed, or for each target. The result has the dtype of the logits; 16-bit ones are
 * computed in float32 and rounded at the end. Autocast runs it in float32.
 * @throws ArgumentError for a target that is neither a class nor `ignoreIndex`, ShapeError where
 * the shapes do not fit, DTypeError for targets of bool.
 */
export const crossEntropy = defineOp(
  "crossEntropy",
  (logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor => {
    const name = "crossEntropy";
    checkFloating(name, logits, "input");
    checkTensor(target, name, "target");
    checkOptions(name, options, [...NLL_OPTIONS, "labelSmoothing"]);
    const reduction = checkReduction(name, options);
    const ignoreIndex = checkIgnoreIndex(name, options);
    const smoothing = checkSmoothing(name, options);
    return tidy(() => {
      if (isFloating(target.dtype)) return softCrossEntropy(logits, target, options, reduction);
      const laid = classified(name, logits, target, options);
      if (options.weight) {
        const { weight } = options;
        const { losses, weights } = weightedCrossEntropy(laid, weight, ignoreIndex, smoothing);
        return reduceRows(losses, laid.shape, reduction, logits.dtype, () => sum(weights));
      }
      const losses = crossEntropyRows(laid.rows, laid.target, ignoreIndex, smoothing);
      const count = (): Tensor => sum(ne(laid.target, ignoreIndex));
      return reduceRows(losses, laid.shape, reduction, logits.dtype, count);
    });
  },
);

/**
 * Negative log likelihood: `-logProbabilities[target]` for log probabilities [N, C, ...] (or [C])
 * and class indices `target` [N, ...] (or []) of an integer dtype, averaged over the targets that
 * are not `ignoreIndex` (NaN where all are), summed, or for each target. dtype of the log
 * probabilities. Autocast runs it in float32.
 * @throws ArgumentError for a target that is neither a class nor `ignoreIndex`, ShapeError where
 * the shapes do not fit, DTypeError for targets that are not integers.
 */
export const nllLoss = defineOp(
  "nllLoss",
  (logProbabilities: Tensor, target: Tensor, options: NllLossOptions = {}): Tensor => {
    const name = "nllLoss";
    checkFloating(name, logProbabilities, "input");
    checkTensor(target, name, "target");
    checkOptions(name, options, NLL_OPTIONS);
    const reduction = checkReduction(name, options);
    const ignoreIndex = checkIgnoreIndex(name, options);
    return tidy(() => {
      const laid = classified(name, logProbabilities, target, options);
      const { losses, weights } = weightedRows(laid, options.weight ?? null, ignoreIndex);
      return reduceRows(losses, laid.shape, reduction, logProbabilities.dtype, () => sum(weights));
    });
  },
);
