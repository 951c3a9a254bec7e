// Softmax and its logarithm along one dimension.

import { context } from "../core/context.js";
import { defineOp, describe, run } from "../core/dispatch.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { checkDType, isFloating, type DType } from "../dtype.js";
import { DTypeError } from "../errors.js";
import { normalizeDim } from "../shape.js";
import { mul, sub } from "./binary.js";
import { checkTensor, optionsWithDim } from "./checks.js";
import { exp } from "./pointwise.js";
import { sum } from "./reduce.js";

/** Options of {@link softmax} and {@link logSoftmax}. */
export interface SoftmaxOptions {
  /** Its elements add up to 1; where it does not stand in front. Default: the last one. */
  dim?: number | undefined;
  /** dtype of the result. Default: that of x. */
  dtype?: DType | undefined;
}

/** A dimension, options, or both. */
type Softmax = (
  x: Tensor,
  dim?: number | SoftmaxOptions,
  options?: Omit<SoftmaxOptions, "dim">,
) => Tensor;

const OPTIONS = ["dim", "dtype"];

function defineSoftmax(name: "softmax" | "logSoftmax", isLog: boolean): Softmax {
  const log = isLog ? 1 : 0;
  return defineOp(name, (x, given, others): Tensor => {
    checkTensor(x, name);
    const options = optionsWithDim<number, SoftmaxOptions>(name, given, others, OPTIONS);
    const dtype = options.dtype === undefined ? x.dtype : checkDType(options.dtype, name);
    if (!isFloating(dtype)) {
      throw new DTypeError(`${name}: expected a floating-point dtype, got ${describe(x)}`, {
        op: name,
      });
    }
    const dim = normalizeDim(options.dim ?? -1, x.shape.length, name);
    const y = run(name, "softmax", [x], dtype, x.shape, [dim, log]);
    const from = x.dtype;
    record(name, [x], [y], [y], ([g], [saved]) => {
      if (!context.gradEnabled) {
        return [run(name, "softmax_grad", [g!, saved!], from, saved!.shape, [dim, log])];
      }
      const over = { dim, keepdim: true };
      if (isLog) return [sub(g!, mul(exp(saved!), sum(g!, over)))];
      return [mul(saved!, sub(g!, sum(mul(g!, saved!), over)))];
    });
    return y;
  });
}

/**
 * `exp(x) / sum(exp(x))` along `dim`, without overflow. Shape of x, its dtype or `dtype`; 16-bit
 * floats are computed in float32 and rounded once. Autocast runs it in float32 unless `dtype` is
 * given. All -Infinity gives NaN.
 * @throws DTypeError for integers and bool, unless `dtype` is floating point.
 */
export const softmax = defineSoftmax("softmax", false);

/**
 * `log(softmax(x))` along `dim`, computed as a whole and so without its loss of digits. Shape of x,
 * its dtype or `dtype`. Autocast runs it in float32 unless `dtype` is given.
 * @throws DTypeError for integers and bool, unless `dtype` is floating point.
 */
export const logSoftmax = defineSoftmax("logSoftmax", true);
