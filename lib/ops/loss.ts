// Losses of regression and of binary classification, element by element.

import { context } from "../core/context.js";
import { defineOp, describe } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isHalfWidth, promoteTypes, type DType } from "../dtype.js";
import { ArgumentError, describe as describeValue, ShapeError } from "../errors.js";
import { broadcastShapes, sameShape } from "../shape.js";
import { add, div, gt, maximum, mul, sub, where } from "./binary.js";
import { to } from "./cast.js";
import { checkFloating, checkOptions } from "./checks.js";
import { abs, exp, log, neg, sigmoid } from "./pointwise.js";
import { mean, sum } from "./reduce.js";

/** How the losses of the elements become the result. */
export type LossReduction = "mean" | "sum" | "none";

/** Options of the losses. */
export interface LossOptions {
  /** Default: `mean`. */
  reduction?: LossReduction | undefined;
}

/** Options of {@link bceWithLogits}. */
export interface BceWithLogitsOptions extends LossOptions {
  /** Factors of the losses; broadcasts to the input. */
  weight?: Tensor | null | undefined;
  /** Factors of the losses of what is true, usually one for each class; broadcasts to the input. */
  posWeight?: Tensor | null | undefined;
}

/** The reduction that options name. Throws ArgumentError for an unknown one. */
export function checkReduction(name: string, options: LossOptions): LossReduction {
  const reduction: unknown = options.reduction ?? "mean";
  if (reduction === "mean" || reduction === "sum" || reduction === "none") return reduction;
  throw new ArgumentError(
    `${name}: reduction — expected "mean", "sum" or "none", got ${describeValue(reduction)}`,
    { op: name },
  );
}

function reduceElements(losses: Tensor, reduction: LossReduction, dtype: DType): Tensor {
  if (reduction === "none") return to(losses, dtype);
  return to(reduction === "sum" ? sum(losses) : mean(losses), dtype);
}

/** Runs a loss of an input and a target of one shape; 16-bit floats are computed in float32. */
function elementLoss(
  name: string,
  input: Tensor,
  target: Tensor,
  options: LossOptions,
  lossOf: (input: Tensor, target: Tensor) => Tensor,
  names: readonly string[] = ["reduction"],
): Tensor {
  checkFloating(name, input, "input");
  checkFloating(name, target, "target");
  checkOptions(name, options, names);
  const reduction = checkReduction(name, options);
  // Broadcasting a [N] against a [N, 1] is a mistake that would train, badly.
  if (!sameShape(input.shape, target.shape)) {
    throw new ShapeError(
      `${name}: expected input and target of one shape, got input ${describe(input)}, target ` +
        describe(target),
      { op: name },
    );
  }
  const dtype = promoteTypes(input.dtype, target.dtype);
  const computed = isHalfWidth(dtype) ? "float32" : dtype;
  return tidy(() =>
    reduceElements(lossOf(to(input, computed), to(target, computed)), reduction, dtype),
  );
}

/**
 * Squared differences of `input` and `target`, of one shape: their mean, sum, or each. The dtypes
 * promote; 16-bit floats are computed in float32 and rounded at the end. Autocast runs it in
 * float32.
 * @throws ShapeError where shapes differ, DTypeError for what is not floating point.
 */
export const mseLoss = defineOp(
  "mseLoss",
  (input: Tensor, target: Tensor, options: LossOptions = {}): Tensor =>
    elementLoss("mseLoss", input, target, options, (x, t) => {
      const difference = sub(x, t);
      return mul(difference, difference);
    }),
);

/**
 * Absolute differences of `input` and `target`, of one shape: their mean, sum, or each. The dtypes
 * promote; 16-bit floats are computed in float32 and rounded at the end. Autocast runs it in
 * float32.
 * @throws ShapeError where shapes differ, DTypeError for what is not floating point.
 */
export const l1Loss = defineOp(
  "l1Loss",
  (input: Tensor, target: Tensor, options: LossOptions = {}): Tensor =>
    elementLoss("l1Loss", input, target, options, (x, t) => abs(sub(x, t))),
);

/** `log(1 + exp(-|x|))` without losing what is small beside 1. */
function softplusTail(x: Tensor): Tensor {
  const u = exp(neg(abs(x)));
  const rounded = add(u, 1);
  // Where 1 + u was rounded, log(1 + u) is off by the same share as (1 + u) - 1 is.
  const kept = sub(rounded, 1);
  const exact = mul(log(rounded), div(u, where(gt(kept, 0), kept, 1)));
  return where(gt(kept, 0), exact, u);
}

/** `log(1 + exp(x))`, whose derivative is the sigmoid. */
function softplus(x: Tensor): Tensor {
  const y = softplusValue(x);
  record("bceWithLogits", [x], [y], [x], ([g], [saved]) => [mul(g!, sigmoid(saved!))]);
  return y;
}

const softplusValue = (x: Tensor): Tensor => withoutGrad(() => add(maximum(x, 0), softplusTail(x)));

function withoutGrad(fn: () => Tensor): Tensor {
  const { gradEnabled } = context;
  context.gradEnabled = false;
  try {
    return fn();
  } finally {
    context.gradEnabled = gradEnabled;
  }
}

/** Binary cross entropy of elements, with the difference to the target as its derivative. */
function plainBce(input: Tensor, target: Tensor): Tensor {
  const losses = withoutGrad(() =>
    add(sub(maximum(input, 0), mul(input, target)), softplusTail(input)),
  );
  recordBce(input, target, losses);
  return losses;
}

// Apart from the functions above, which refer to the tensors.
function recordBce(input: Tensor, target: Tensor, losses: Tensor): void {
  record("bceWithLogits", [input, target], [losses], [input, target], ([g], [x, t], needs) => [
    needs[0] ? mul(sub(sigmoid(x!), t!), g!) : null,
    needs[1] ? mul(neg(x!), g!) : null,
  ]);
}

function checkFactor(role: string, input: Tensor, factor: Tensor): void {
  const name = "bceWithLogits";
  checkFloating(name, factor, role);
  if (sameShape(broadcastShapes(input.shape, factor.shape, name), input.shape)) return;
  throw new ShapeError(
    `${name}: expected ${role} to broadcast to the input, got input ${describe(input)}, ${role} ` +
      describe(factor),
    { op: name },
  );
}

/**
 * Binary cross entropy of scores `input` before the sigmoid and probabilities `target`, of one
 * shape: `-posWeight target log sigmoid(input) - (1 - target) log(1 - sigmoid(input))` without
 * overflow; its mean, sum, or each. The dtypes promote; 16-bit floats are computed in float32 and
 * rounded at the end. Autocast runs it in float32.
 * @throws ShapeError where shapes do not fit, DTypeError for what is not floating point.
 */
export const bceWithLogits = defineOp(
  "bceWithLogits",
  (input: Tensor, target: Tensor, options: BceWithLogitsOptions = {}): Tensor => {
    const lossOf = (x: Tensor, t: Tensor): Tensor => {
      const { weight, posWeight } = options;
      if (weight) checkFactor("weight", x, weight);
      if (posWeight) checkFactor("posWeight", x, posWeight);
      let losses: Tensor;
      if (posWeight) {
        const factor = add(mul(sub(to(posWeight, x.dtype), 1), t), 1);
        losses = add(mul(sub(1, t), x), mul(factor, softplus(neg(x))));
      } else {
        losses = plainBce(x, t);
      }
      return weight ? mul(losses, to(weight, x.dtype)) : losses;
    };
    const names = ["reduction", "weight", "posWeight"];
    return elementLoss("bceWithLogits", input, target, options, lossOf, names);
  },
);
