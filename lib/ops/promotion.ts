// The dtype in which operands meet: torch's rules for tensors, 0-d tensors and plain numbers.

import { context } from "../core/context.js";
import type { Tensor } from "../core/tensor.js";
import { dtypeCategory, isFloating, promoteTypes, type DType } from "../dtype.js";

/** A tensor, or a number that takes the tensor's dtype where its category allows. */
export type Operand = Tensor | number;

// torch's `combine_categories`: the lower-priority operand counts only where its category is
// higher.
function combine(higher: DType | null, lower: DType | null): DType | null {
  if (higher === null) return lower;
  if (lower === null) return higher;
  if (isFloating(higher)) return higher;
  if (dtypeCategory(lower) > dtypeCategory(higher)) return promoteTypes(higher, lower);
  return higher;
}

/**
 * The dtype of an operation on mixed operands, as torch's `result_type`: tensors with dimensions
 * first, then 0-d tensors, then numbers, where a later group counts only if its category (bool,
 * integer, floating) is higher. Whole numbers count as int64, others as the default dtype.
 */
export function resultType(...operands: readonly Operand[]): DType {
  let dimensioned: DType | null = null;
  let zeroDim: DType | null = null;
  let wrapped: DType | null = null;
  for (const operand of operands) {
    if (typeof operand === "number") {
      const dtype: DType = Number.isInteger(operand) ? "int64" : context.defaultDtype;
      wrapped = wrapped === null ? dtype : promoteTypes(wrapped, dtype);
    } else if (operand.shape.length > 0) {
      dimensioned = dimensioned === null ? operand.dtype : promoteTypes(dimensioned, operand.dtype);
    } else {
      zeroDim = zeroDim === null ? operand.dtype : promoteTypes(zeroDim, operand.dtype);
    }
  }
  return combine(combine(dimensioned, zeroDim), wrapped)!;
}

/** The dtype of a floating-point function of `dtype`: integers and bool give the default. */
export function floatResult(dtype: DType): DType {
  return isFloating(dtype) ? dtype : context.defaultDtype;
}
