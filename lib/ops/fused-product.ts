// Products that do more on the way of their sums to memory (GemmEpilogue, core/gemm_desc.h), and
// what the backward of one can do for its neighbours in the graph. Nothing here is recorded.

import { run, runInPlace, runMany } from "../core/dispatch.js";
import { FusedGrad, type FusingEngine } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, type DType } from "../dtype.js";
import { sameShape, type Shape } from "../shape.js";

/** How flat operands are multiplied: leading dimensions are rows of one matrix. */
export interface FlatProduct {
  readonly name: string;
  readonly lhsTransposed: boolean;
  readonly rhsTransposed: boolean;
  readonly precision: number;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What follows the product; the tensors are as its output. */
export interface Epilogue {
  /** A code of GemmActivation. */
  readonly activation?: number;
  /** Multiplies by the derivative of the activation at this tensor, instead of applying it. */
  readonly derivativeAt?: Tensor | null;
  /** Whether the input of the activation is kept. */
  readonly keepsInput?: boolean;
  readonly multiplier?: Tensor | null;
  readonly residual?: Tensor | null;
  /** Whether to add up the columns of the output. */
  readonly columnSums?: boolean;
}

/** The output, and what the epilogue was told to give besides. */
export interface FusedOutputs {
  readonly out: Tensor;
  readonly kept: Tensor | null;
  readonly columnSums: Tensor | null;
}

const FLAGS = { derivative: 1, keeps: 2, multiplier: 4, residual: 8, sums: 16, destination: 32 };

function attributes(product: FlatProduct, hasBias: boolean, more: readonly number[]): number[] {
  const { precision, lhsTransposed, rhsTransposed } = product;
  return [precision, hasBias ? 1 : 0, lhsTransposed ? 1 : 0, rhsTransposed ? 1 : 0, 1, ...more];
}

/** Multiplies, and finishes the sums as the epilogue says before they are rounded. */
export function multiplyFused(
  product: FlatProduct,
  lhs: Tensor,
  rhs: Tensor,
  bias: Tensor | null,
  epilogue: Epilogue,
): FusedOutputs {
  const { name, dtype, shape } = product;
  const { activation = 0, derivativeAt, keepsInput, multiplier, residual, columnSums } = epilogue;
  const inputs = [lhs, rhs];
  const outputs = [{ dtype, shape }];
  let flags = 0;
  const takes = (tensor: Tensor | null | undefined, flag: number): void => {
    if (!tensor) return;
    inputs.push(tensor);
    flags += flag;
  };
  takes(bias, 0);
  takes(derivativeAt, FLAGS.derivative);
  takes(multiplier, FLAGS.multiplier);
  takes(residual, FLAGS.residual);
  if (keepsInput === true) {
    outputs.push({ dtype, shape });
    flags += FLAGS.keeps;
  }
  if (columnSums === true) {
    const sums = dtype === "float64" ? dtype : "float32";
    outputs.push({ dtype: sums, shape: shape.slice(-1) });
    flags += FLAGS.sums;
  }
  if (flags === 0 && activation === 0) {
    const attrs = attributes(product, bias !== null, []);
    const out = run(name, "matmul", inputs, dtype, shape, attrs);
    return { out, kept: null, columnSums: null };
  }
  const attrs = attributes(product, bias !== null, [activation, flags]);
  const made = runMany(name, "matmul", inputs, outputs, attrs);
  return {
    out: made[0]!,
    kept: keepsInput === true ? made[1]! : null,
    columnSums: columnSums === true ? made[made.length - 1]! : null,
  };
}

/**
 * The gradient of the node's first input, `lhs` x `rhs`. Where an activation made that input, it is
 * brought past it; where a product with a bias is next, it comes with the sums that the bias wants.
 */
export function multiplyForInput(
  engine: FusingEngine,
  product: FlatProduct,
  lhs: Tensor,
  rhs: Tensor,
): FusedGrad {
  const next = engine.node.next[0]!;
  const input = next.outputs[engine.node.nextIndex[0]!]!;
  const passes =
    next.activation > 0 &&
    next.next[0] !== null &&
    !engine.isTarget(next) &&
    input.dtype === product.dtype &&
    sameShape(input.shape, product.shape);
  const receiver = passes ? next.next[0]! : next;
  const columnSums = receiver.wantsColumnSums && sameShape(input.shape, product.shape);
  const activation = passes ? next.activation : 0;
  const derivativeAt = passes ? next.savedTensor(0) : null;
  const fused = multiplyFused(product, lhs, rhs, null, { activation, derivativeAt, columnSums });
  return new FusedGrad(fused.out, passes, fused.columnSums);
}

/**
 * The gradient of the node's input `index`, a weight: where that is a leaf, or the cast of one, it
 * is added to the `grad` the leaf has without being rounded in between, and null is returned; or it
 * is made in the leaf's own float32.
 */
export function multiplyForWeight(
  engine: FusingEngine,
  index: number,
  product: FlatProduct,
  lhs: Tensor,
  rhs: Tensor,
): Tensor | FusedGrad | null {
  const next = engine.node.next[index]!;
  const passes = next.isCast && !engine.isTarget(next) && next.next[0]?.leaf != null;
  const leaf = passes ? next.next[0]!.leaf! : next.leaf;
  const plain = (): Tensor => multiplyFused(product, lhs, rhs, null, {}).out;
  if (leaf === null || !sameShape(leaf.shape, product.shape)) return plain();
  // The sums can be stored as what they were multiplied in, or as float32.
  const stores = leaf.dtype === product.dtype || leaf.dtype === "float32";
  if (!stores || (product.dtype === "float64") !== (leaf.dtype === "float64")) return plain();
  if (!isFloating(product.dtype)) return plain();
  const { grad } = leaf;
  if (engine.accumulates && grad !== null && !grad.isDisposed) {
    const isOwn = [lhs, rhs].every(({ handle }) => handle.storage !== grad.handle.storage);
    if (grad.isContiguous && grad.dtype === leaf.dtype && grad.device === lhs.device && isOwn) {
      const attrs = attributes(product, false, [0, FLAGS.destination]);
      runInPlace(product.name, "matmul", [lhs, rhs, grad], [grad], attrs);
      return null;
    }
  }
  if (!passes) return plain();
  const wide = { ...product, dtype: leaf.dtype };
  return new FusedGrad(multiplyFused(wide, lhs, rhs, null, {}).out, true);
}
