// Losses: classification by cross entropy, regression, binary classification.

import { context } from "../core/context.js";
import { defineOp, describe, run, runMany } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, isHalfWidth, type DType } from "../dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { numelOf, sameShape, type Shape } from "../shape.js";
import { add, div, eq, gt, maximum, mul, ne, sub, where } from "./binary.js";
import { to } from "./cast.js";
import { arange } from "./create.js";
import { gather } from "./indexing.js";
import { permute, reshape } from "./movement.js";
import { abs, exp, log, neg, sigmoid } from "./pointwise.js";
import { checkTensor } from "./promotion.js";
import { mean, sum } from "./reduce.js";
import { softmax } from "./softmax.js";

/** How the losses of the elements become the result. */
export type LossReduction = "mean" | "sum" | "none";

/** Options of the losses. */
export interface LossOptions {
  /** Default: `mean`. */
  reduction?: LossReduction | undefined;
}

/** Options of {@link nllLoss}. */
export interface NllLossOptions extends LossOptions {
  /** Targets of this value give no loss and do not count in the mean. Default: -100. */
  ignoreIndex?: number | undefined;
}

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends NllLossOptions {
  /** Share of the target spread evenly over all classes, from 0 to 1. Default: 0. */
  labelSmoothing?: number | undefined;
}

function checkReduction(name: string, options: LossOptions): LossReduction {
  const reduction: string = options.reduction ?? "mean";
  if (reduction === "mean" || reduction === "sum" || reduction === "none") return reduction;
  throw new ArgumentError(
    `${name}: reduction — expected "mean", "sum" or "none", got ${JSON.stringify(reduction)}`,
    { op: name },
  );
}

function checkIgnoreIndex(name: string, options: NllLossOptions): number {
  const { ignoreIndex = -100 } = options;
  if (Number.isSafeInteger(ignoreIndex)) return ignoreIndex;
  throw new ArgumentError(
    `${name}: ignoreIndex — expected a whole number, got ${String(ignoreIndex)}`,
    { op: name },
  );
}

function checkFloating(name: string, x: Tensor, role: string): void {
  checkTensor(x, name, role);
  if (isFloating(x.dtype)) return;
  throw new DTypeError(`${name}: expected ${role} of a floating-point dtype, got ${describe(x)}`, {
    op: name,
  });
}

/** Class scores as rows [N, C], and their targets as int64 [N]. */
interface Classified {
  readonly rows: Tensor;
  readonly target: Tensor;
  /** The shape of the losses: that of the target. */
  readonly shape: Shape;
}

/** Checks scores [C] with target [], or [N, C, ...] with target [N, ...], and lays them out. */
function classified(name: string, scores: Tensor, target: Tensor): Classified {
  checkFloating(name, scores, "input");
  checkTensor(target, name, "target");
  if (isFloating(target.dtype) || target.dtype === "bool") {
    throw new DTypeError(
      `${name}: expected class indices of an integer dtype, got target ${describe(target)} for ` +
        `input ${describe(scores)}`,
      { op: name },
    );
  }
  const rank = scores.shape.length;
  const expected = rank < 2 ? [] : [scores.shape[0]!, ...scores.shape.slice(2)];
  if (rank === 0 || !sameShape(target.shape, expected)) {
    throw new ShapeError(
      `${name}: expected input [C] with target [], or [N, C, ...] with target [N, ...], got input ` +
        `${describe(scores)}, target ${describe(target)}`,
      { op: name },
    );
  }
  const count = numelOf(expected);
  const classes = scores.shape[Math.min(rank - 1, 1)]!;
  let rows = scores;
  if (rank > 2) {
    const last = Array.from({ length: rank }, (_, d) => (d === 0 ? 0 : (d % (rank - 1)) + 1));
    rows = permute(
      scores,
      last.map((d, i) => (i === rank - 1 ? 1 : d)),
    );
  }
  if (rank !== 2) rows = reshape(rows, [count, classes]);
  let indices = to(target, "int64");
  if (rank !== 2) indices = reshape(indices, [count]);
  return { rows, target: indices, shape: expected };
}

/** The losses of rows, those of ignored ones being 0, as the result. */
function reduceRows(
  losses: Tensor,
  { target, shape }: Classified,
  ignoreIndex: number,
  reduction: LossReduction,
  dtype: DType,
): Tensor {
  if (reduction === "none") return to(reshape(losses, shape), dtype);
  const total = sum(losses);
  if (reduction === "sum") return to(total, dtype);
  return to(div(total, sum(ne(target, ignoreIndex))), dtype);
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
    const wide = isHalfWidth(x!.dtype) ? to(x!, "float32") : x!;
    const column = reshape(t!, [N, 1]);
    const isTarget = to(eq(column, arange(C)), dtype);
    const wanted = add(mul(isTarget, 1 - smoothing), smoothing / C);
    const factor = mul(reshape(g!, [N, 1]), to(ne(column, ignoreIndex), dtype));
    return [mul(sub(softmax(wide, { dim: 1 }), wanted), factor)];
  });
  logsumexp!.dispose();
  return losses!;
}

/**
 * Cross entropy between class scores `logits` [N, C, ...] (or [C]) and class indices `target`
 * [N, ...] (or []) of an integer dtype: `-log softmax(logits)[target]`, averaged over the targets that
 * are not `ignoreIndex` (NaN where all are), summed, or for each target. The result has the dtype of
 * the logits; 16-bit ones are computed in float32 and rounded at the end. Autocast runs it in float32.
 * @throws ArgumentError for a target that is neither a class nor `ignoreIndex`, ShapeError where the
 * shapes do not fit, DTypeError for targets that are not integers.
 */
export const crossEntropy = defineOp(
  "crossEntropy",
  (logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor => {
    const name = "crossEntropy";
    const reduction = checkReduction(name, options);
    const ignoreIndex = checkIgnoreIndex(name, options);
    const { labelSmoothing = 0 } = options;
    if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
      throw new ArgumentError(
        `${name}: labelSmoothing — expected a number from 0 to 1, got ${String(labelSmoothing)}`,
        { op: name },
      );
    }
    return tidy(() => {
      const laid = classified(name, logits, target);
      const losses = crossEntropyRows(laid.rows, laid.target, ignoreIndex, labelSmoothing);
      return reduceRows(losses, laid, ignoreIndex, reduction, logits.dtype);
    });
  },
);

/**
 * Negative log likelihood: `-logProbabilities[target]` for log probabilities [N, C, ...] (or [C]) and
 * class indices `target` [N, ...] (or []) of an integer dtype, averaged over the targets that are not
 * `ignoreIndex` (NaN where all are), summed, or for each target. dtype of the log probabilities.
 * Autocast runs it in float32.
 * @throws ArgumentError for a target that is neither a class nor `ignoreIndex`, ShapeError where the
 * shapes do not fit, DTypeError for targets that are not integers.
 */
export const nllLoss = defineOp(
  "nllLoss",
  (logProbabilities: Tensor, target: Tensor, options: NllLossOptions = {}): Tensor => {
    const name = "nllLoss";
    const reduction = checkReduction(name, options);
    const ignoreIndex = checkIgnoreIndex(name, options);
    return tidy(() => {
      const laid = classified(name, logProbabilities, target);
      const counts = ne(laid.target, ignoreIndex);
      const index = reshape(where(counts, laid.target, 0), [laid.target.shape[0]!, 1]);
      const chosen = reshape(gather(laid.rows, 1, index), laid.target.shape);
      const wide = isHalfWidth(chosen.dtype) ? to(chosen, "float32") : chosen;
      const losses = where(counts, neg(wide), 0);
      return reduceRows(losses, laid, ignoreIndex, reduction, logProbabilities.dtype);
    });
  },
);

function reduceElements(losses: Tensor, reduction: LossReduction, dtype: DType): Tensor {
  if (reduction === "none") return to(losses, dtype);
  return to(reduction === "sum" ? sum(losses) : mean(losses), dtype);
}

/** A loss of an input and a target of one shape and dtype; 16-bit floats are computed in float32. */
function defineElementLoss(
  name: "mseLoss" | "l1Loss" | "bceWithLogits",
  lossOf: (input: Tensor, target: Tensor) => Tensor,
): (input: Tensor, target: Tensor, options?: LossOptions) => Tensor {
  return defineOp(name, (input: Tensor, target: Tensor, options: LossOptions = {}): Tensor => {
    checkFloating(name, input, "input");
    checkFloating(name, target, "target");
    const reduction = checkReduction(name, options);
    // Broadcasting a [N] against a [N, 1] is a mistake that would train, badly.
    if (!sameShape(input.shape, target.shape)) {
      throw new ShapeError(
        `${name}: expected input and target of one shape, got input ${describe(input)}, target ` +
          describe(target),
        { op: name },
      );
    }
    if (input.dtype !== target.dtype) {
      throw new DTypeError(
        `${name}: expected input and target of one dtype, got input ${describe(input)}, target ` +
          describe(target),
        { op: name },
      );
    }
    return tidy(() => {
      const half = isHalfWidth(input.dtype);
      const [x, t] = half ? [to(input, "float32"), to(target, "float32")] : [input, target];
      return reduceElements(lossOf(x, t), reduction, input.dtype);
    });
  });
}

/**
 * Squared differences of `input` and `target`, of one shape and dtype: their mean, sum, or each.
 * Autocast runs it in float32.
 * @throws ShapeError or DTypeError where the two differ.
 */
export const mseLoss = defineElementLoss("mseLoss", (input, target) => {
  const difference = sub(input, target);
  return mul(difference, difference);
});

/**
 * Absolute differences of `input` and `target`, of one shape and dtype: their mean, sum, or each.
 * Autocast runs it in float32.
 * @throws ShapeError or DTypeError where the two differ.
 */
export const l1Loss = defineElementLoss("l1Loss", (input, target) => abs(sub(input, target)));

/** `log(1 + exp(-|x|))` without losing what is small beside 1. */
function softplusTail(x: Tensor): Tensor {
  const u = exp(neg(abs(x)));
  const rounded = add(u, 1);
  // Where 1 + u was rounded, log(1 + u) is off by the same share as (1 + u) - 1 is.
  const kept = sub(rounded, 1);
  const exact = mul(log(rounded), div(u, where(gt(kept, 0), kept, 1)));
  return where(gt(kept, 0), exact, u);
}

/**
 * Binary cross entropy of scores `input` before the sigmoid and probabilities `target`, of one shape
 * and dtype: `-target log sigmoid(input) - (1 - target) log(1 - sigmoid(input))` without overflow;
 * its mean, sum, or each. Autocast runs it in float32.
 * @throws ShapeError or DTypeError where the two differ.
 */
export const bceWithLogits = defineElementLoss("bceWithLogits", (input, target) => {
  const recorded = context.gradEnabled;
  context.gradEnabled = false;
  let losses: Tensor;
  try {
    losses = add(sub(maximum(input, 0), mul(input, target)), softplusTail(input));
  } finally {
    context.gradEnabled = recorded;
  }
  record("bceWithLogits", [input, target], [losses], [input, target], ([g], [x, t], needs) => [
    needs[0] ? mul(sub(sigmoid(x!), t!), g!) : null,
    needs[1] ? mul(neg(x!), g!) : null,
  ]);
  return losses;
});
