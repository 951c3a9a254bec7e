// Matrix products. One primitive, differentiable in terms of itself, is behind all of them.

import { context, matmulPrecisionCode } from "../core/context.js";
import { defineOp, describe, run } from "../core/dispatch.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import type { DType } from "../dtype.js";
import { DTypeError, ShapeError } from "../errors.js";
import { broadcastShapes, formatShape, type Shape } from "../shape.js";
import { sumTo } from "./broadcast.js";
import { checkTensor } from "./checks.js";
import { reshape } from "./movement.js";

/** A product whose operands are checked. */
export interface Product {
  readonly name: string;
  /** Whether an operand's last two dimensions are swapped in memory. */
  readonly lhsTransposed: boolean;
  readonly rhsTransposed: boolean;
  /** Whether leading dimensions are rows of one matrix instead of batches. */
  readonly flat: boolean;
  /** The float32 precision of the forward, which its backward keeps. */
  readonly precision: number;
  readonly shape: Shape;
  /** dtype of the result, where it is not that of `lhs`. */
  readonly dtype?: DType | undefined;
}

/** The last two extents, in the order of the product. */
function matrixOf(x: Tensor, transposed: boolean): [rows: number, cols: number] {
  const { shape } = x;
  const last = shape[shape.length - 1]!;
  const before = shape[shape.length - 2]!;
  return transposed ? [last, before] : [before, last];
}

/** Shape of a batched product: broadcast leading dimensions, then M and N. */
function batchedShape(name: string, lhs: Tensor, rhs: Tensor, tl: boolean, tr: boolean): Shape {
  const lead = broadcastShapes(lhs.shape.slice(0, -2), rhs.shape.slice(0, -2), name);
  return [...lead, matrixOf(lhs, tl)[0], matrixOf(rhs, tr)[1]];
}

/** Multiplies and records. */
export function multiply(product: Product, lhs: Tensor, rhs: Tensor, bias: Tensor | null): Tensor {
  const { name, lhsTransposed: tl, rhsTransposed: tr, flat, precision, shape } = product;
  const attrs = [precision, bias === null ? 0 : 1, tl ? 1 : 0, tr ? 1 : 0, flat ? 1 : 0];
  const inputs = bias === null ? [lhs, rhs] : [lhs, rhs, bias];
  const out = run(name, "matmul", inputs, product.dtype ?? lhs.dtype, shape, attrs);
  if (!context.gradEnabled) return out;
  const lhsShape = lhs.shape;
  const rhsShape = rhs.shape;
  record(name, [lhs, rhs, bias], [out], [lhs, rhs], ([g], [a, b], needs) => {
    const next = (x: Tensor, y: Tensor, tx: boolean, ty: boolean, like: Shape): Tensor => {
      const to = flat ? like : batchedShape(name, x, y, tx, ty);
      const options = { name, lhsTransposed: tx, rhsTransposed: ty, flat, precision, shape: to };
      return sumTo(multiply(options, x, y, null), like);
    };
    let gradLhs: Tensor | null = null;
    let gradRhs: Tensor | null = null;
    if (needs[0]) {
      gradLhs = tl ? next(b!, g!, tr, true, lhsShape) : next(g!, b!, false, !tr, lhsShape);
    }
    if (needs[1]) {
      gradRhs = tr ? next(g!, a!, true, tl, rhsShape) : next(a!, g!, !tl, false, rhsShape);
    }
    return [gradLhs, gradRhs, needs[2] ? sumTo(g!, [g!.shape[g!.shape.length - 1]!]) : null];
  });
  return out;
}

/** How {@link batchedProduct} multiplies. */
export interface BatchedProductOptions {
  /** Swaps the last two dimensions of the left operand. */
  readonly lhsTransposed?: boolean;
  /** Swaps the last two dimensions of the right operand. */
  readonly rhsTransposed?: boolean;
  /** dtype of the result, to which the accumulated sums are rounded. Default: that of `lhs`. */
  readonly dtype?: DType;
}

/** Products of checked matrices [..., M, K] and [..., K, N] on behalf of the operation `name`. */
export function batchedProduct(
  name: string,
  lhs: Tensor,
  rhs: Tensor,
  options: BatchedProductOptions = {},
): Tensor {
  const { lhsTransposed = false, rhsTransposed = false, dtype } = options;
  const shape = batchedShape(name, lhs, rhs, lhsTransposed, rhsTransposed);
  const precision = matmulPrecisionCode();
  const product = { name, lhsTransposed, rhsTransposed, flat: false, precision, shape, dtype };
  return multiply(product, lhs, rhs, null);
}

/** Throws unless both have a dimension, and one dtype that has products. */
export function checkOperands(name: string, lhs: Tensor, rhs: Tensor): void {
  if (lhs.shape.length === 0 || rhs.shape.length === 0) {
    throw new ShapeError(
      `${name}: expected operands of at least one dimension, got lhs ${formatShape(lhs.shape)}, ` +
        `rhs ${formatShape(rhs.shape)}`,
      { op: name },
    );
  }
  if (lhs.dtype === rhs.dtype && lhs.dtype !== "bool") return;
  const expected = lhs.dtype === "bool" ? "number dtypes" : "one dtype";
  throw new DTypeError(
    `${name}: expected ${expected}, lhs ${describe(lhs)}, rhs ${describe(rhs)}`,
    {
      op: name,
    },
  );
}

/** Throws ShapeError where K differs. */
export function checkInner(
  name: string,
  lhs: Tensor,
  rhs: Tensor,
  left: number,
  right: number,
): void {
  if (left === right) return;
  throw new ShapeError(
    `${name}: shape mismatch, lhs ${formatShape(lhs.shape)}, rhs ${formatShape(rhs.shape)}: ` +
      `K is ${left} and ${right}`,
    { op: name },
  );
}

/**
 * Matrix product of `lhs` [..., M, K] and `rhs` [..., K, N], of one dtype; leading dimensions
 * broadcast. A vector is a row on the left and a column on the right, and its dimension of length 1
 * does not appear in the result. 16-bit floats accumulate in float32 and round once; float32
 * follows `setFloat32MatmulPrecision`; integers wrap. Autocast runs it in its dtype.
 * @throws ShapeError where K differs or leading dimensions do not broadcast, DTypeError where the
 * dtypes differ.
 */
export const matmul = defineOp("matmul", (lhs: Tensor, rhs: Tensor): Tensor => {
  checkTensor(lhs, "matmul", "lhs");
  checkTensor(rhs, "matmul", "rhs");
  checkOperands("matmul", lhs, rhs);
  const rightInner = rhs.shape[Math.max(rhs.shape.length - 2, 0)]!;
  checkInner("matmul", lhs, rhs, lhs.shape[lhs.shape.length - 1]!, rightInner);
  const row = lhs.shape.length === 1 ? reshape(lhs, [1, lhs.shape[0]!]) : lhs;
  const col = rhs.shape.length === 1 ? reshape(rhs, [rhs.shape[0]!, 1]) : rhs;
  const flat = col.shape.length === 2;
  const shape = flat
    ? [...row.shape.slice(0, -1), col.shape[1]!]
    : batchedShape("matmul", row, col, false, false);
  const product = {
    name: "matmul",
    lhsTransposed: false,
    rhsTransposed: false,
    flat,
    precision: matmulPrecisionCode(),
    shape,
  };
  const out = multiply(product, row, col, null);
  if (row === lhs && col === rhs) return out;
  const kept = shape.slice(0, -2);
  if (row === lhs) kept.push(shape[shape.length - 2]!);
  if (col === rhs) kept.push(shape[shape.length - 1]!);
  const result = reshape(out, kept);
  for (const made of [row === lhs ? null : row, col === rhs ? null : col, out]) made?.dispose();
  return result;
});
