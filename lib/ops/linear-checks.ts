// Checks of the tensors that linear takes beside its operands.

import { describe } from "../core/dispatch.js";
import type { Tensor } from "../core/tensor.js";
import type { DType } from "../dtype.js";
import { DTypeError, ShapeError } from "../errors.js";
import { formatShape, sameShape, type Shape } from "../shape.js";

/** The dtypes with which adding to a result of `dtype` gives one that a product can have. */
export function residualDtypes(dtype: DType): DType[] {
  if (dtype === "float64") return ["float64"];
  return [
    dtype,
    ...(["float32", "float16", "bfloat16"] as const).filter((other) => other !== dtype),
  ];
}

/** Throws unless `tensor` is as the result of the product. */
export function checkLike(
  role: string,
  tensor: Tensor | null,
  dtypes: readonly DType[],
  shape: Shape,
): void {
  if (tensor === null) return;
  if (!dtypes.includes(tensor.dtype)) {
    throw new DTypeError(
      `linear: expected ${role} of dtype ${dtypes.join(" or ")}, got ${describe(tensor)}`,
      { op: "linear" },
    );
  }
  if (!sameShape(tensor.shape, shape)) {
    throw new ShapeError(
      `linear: expected ${role} of the result's shape ${formatShape(shape)}, got ` +
        formatShape(tensor.shape),
      { op: "linear" },
    );
  }
}

/** Throws unless `bias` is a vector of this shape and the operands' dtype. */
export function checkBias(x: Tensor, bias: Tensor | null, shape: Shape): void {
  if (bias === null) return;
  if (bias.shape.length !== shape.length || bias.shape[0] !== shape[0]) {
    throw new ShapeError(
      `linear: expected a bias of shape ${formatShape(shape)}, got ${formatShape(bias.shape)}`,
      { op: "linear" },
    );
  }
  if (bias.dtype !== x.dtype) {
    throw new DTypeError(`linear: expected one dtype, x ${describe(x)}, bias ${describe(bias)}`, {
      op: "linear",
    });
  }
}
