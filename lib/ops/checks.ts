// Checks of arguments that operations have in common.

import { describe } from "../core/dispatch.js";
import { Tensor } from "../core/tensor.js";
import { isFloating } from "../dtype.js";
import { ArgumentError, describe as describeValue, DTypeError } from "../errors.js";

export { checkOptions, dimOf, optionsWithDim } from "../core/options.js";

/** Throws DTypeError unless `x` is a tensor; catches numbers and arrays passed by mistake. */
export function checkTensor(x: unknown, op: string, role = "input"): asserts x is Tensor {
  if (x instanceof Tensor) return;
  throw new DTypeError(`${op}: expected ${role} to be a Tensor, got ${describeValue(x)}`, { op });
}

/** Throws ArgumentError unless `value` is a number; NaN and infinities are numbers. */
export function checkNumber(value: unknown, op: string, role: string): void {
  if (typeof value === "number") return;
  throw new ArgumentError(`${op}: ${role} — expected a number, got ${describeValue(value)}`, {
    op,
  });
}

/** Throws DTypeError unless `x` is a floating-point tensor. */
export function checkFloating(op: string, x: unknown, role = "input"): asserts x is Tensor {
  checkTensor(x, op, role);
  if (isFloating(x.dtype)) return;
  throw new DTypeError(`${op}: expected ${role} of a floating-point dtype, got ${describe(x)}`, {
    op,
  });
}
