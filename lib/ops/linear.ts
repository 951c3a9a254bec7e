// Fully connected layers as one product: bias, activation, multiplier and residual are applied to
// the sums before they are rounded, and backward does the same with the derivatives.

import { defineOp, describe } from "../core/dispatch.js";
import { matmulPrecisionCode } from "../core/context.js";
import { record, recording, recordNode, Unstored } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, promoteTypes, type DType } from "../dtype.js";
import { ArgumentError, describe as describeValue, DTypeError, ShapeError } from "../errors.js";
import { formatShape, sameShape, type Shape } from "../shape.js";
import { mul } from "./binary.js";
import { sumTo } from "./broadcast.js";
import { to } from "./cast.js";
import { checkOptions, checkTensor } from "./checks.js";
import { multiplyForInput, multiplyForWeight, multiplyFused } from "./fused-product.js";
import { ACTIVATION_CODES } from "./kinds.js";
import { checkBias, checkLike, residualDtypes } from "./linear-checks.js";
import { checkInner, checkOperands, multiply } from "./matmul.js";
import { reshape } from "./movement.js";
import { activationGradient, gelu, relu, silu } from "./pointwise.js";

/** What {@link linear} does with its sums. */
export interface FusedLinearOptions {
  /** Applied to `x weightᵀ + bias`; `gelu-tanh` is gelu with `{ approximate: "tanh" }`. */
  activation?: "relu" | "gelu" | "gelu-tanh" | "silu" | null | undefined;
  /** Of the result's shape and the operands' dtype: multiplies the activation's result. */
  multiplier?: Tensor | null | undefined;
  /**
   * Of the result's shape: added last. The result is of the dtype that adding it afterwards would
   * give, so that a float32 residual of 16-bit operands gives float32; autocast leaves it alone.
   * float64 goes with float64 only.
   */
  residual?: Tensor | null | undefined;
}

type Kind = keyof typeof ACTIVATION_CODES;

interface Activation {
  readonly kind: Kind;
  readonly apply: (x: Tensor) => Tensor;
}

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  relu: { kind: "relu", apply: relu },
  gelu: { kind: "gelu_erf", apply: (x) => gelu(x) },
  "gelu-tanh": { kind: "gelu_tanh", apply: (x) => gelu(x, { approximate: "tanh" }) },
  silu: { kind: "silu", apply: silu },
};

/** Options behind a class, which autocast does not look into. */
class Finish {
  constructor(
    readonly activation: Activation | null,
    readonly residual: Tensor | null,
  ) {}
}

/** A checked call: a matrix of rows, a matrix of weights, a vector. */
interface Call {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly precision: number;
  readonly shape: Shape;
}

/** Records the product, whose result a tensor may hold or not. */
function recordProduct(call: Call): Unstored | null {
  const { x, weight, bias, precision, shape } = call;
  const flat = { name: "linear", rhsTransposed: false, flat: true, precision };
  const node = recordNode(
    "linear",
    [x, weight, bias],
    [{ shape, dtype: x.dtype, device: x.device }],
    [x, weight],
    ([g], [a, w], needs, engine) => {
      const { dtype } = a!;
      const toInput = { ...flat, lhsTransposed: false, shape: a!.shape, dtype };
      const toWeight = { ...flat, lhsTransposed: true, shape: w!.shape, dtype };
      if (engine === null) {
        return [
          needs[0] ? multiply(toInput, g!, w!, null) : null,
          needs[1] ? multiply(toWeight, g!, a!, null) : null,
          needs[2] ? sumTo(g!, w!.shape.slice(0, 1)) : null,
        ];
      }
      const sums = needs[2] ? engine.columnSums(g!) : null;
      return [
        needs[0] ? multiplyForInput(engine, toInput, g!, w!) : null,
        needs[1] ? multiplyForWeight(engine, 1, toWeight, g!, a!) : null,
        needs[2] ? (sums === null ? sumTo(g!, w!.shape.slice(0, 1)) : to(sums, g!.dtype)) : null,
      ];
    },
  );
  if (node === null) return null;
  node.wantsColumnSums = node.next[2] !== null;
  return new Unstored(node);
}

/** Puts the product's node on the tensor that holds its result. */
function placeAt(tensor: Tensor, product: Unstored | null): void {
  if (product !== null) tensor.node = product.node;
}

/** The product with what follows it, recorded. */
function multiplyAndFinish(call: Call, multiplier: Tensor | null, finish: Finish): Tensor {
  const { x, weight, bias, precision, shape } = call;
  const { activation, residual } = finish;
  const dtype: DType = residual === null ? x.dtype : residual.dtype;
  const product = { name: "linear", lhsTransposed: false, rhsTransposed: true, precision };
  const isPlain = activation === null && multiplier === null && residual === null;
  const records = recording([x, weight, bias, multiplier, residual]);
  const inner = records && recording([x, weight, bias]);
  // The activation's input, where backward needs it: relu's derivative follows from its result.
  const fromResult = activation?.kind === "relu" && multiplier === null && residual === null;
  const keepsInput =
    (activation !== null && inner && !fromResult) || (records && multiplier?.requiresGrad === true);
  const wideMultiplier = multiplier === null ? null : to(multiplier, dtype);
  const { out, kept } = multiplyFused({ ...product, dtype, shape }, x, weight, bias, {
    activation: activation === null ? 0 : ACTIVATION_CODES[activation.kind]!,
    keepsInput,
    multiplier: wideMultiplier,
    residual,
  });
  if (wideMultiplier !== multiplier) wideMultiplier?.dispose();
  if (!records) return out;
  const node = recordProduct(call);
  if (isPlain) {
    placeAt(out, node);
    return out;
  }
  // Where the dtypes differ the kept input stands for a rounded one, and gradients are cast back.
  if (kept !== null) placeAt(kept, node);
  const before = fromResult ? out : kept;
  const saved = [before, multiplier !== null && inner ? multiplier : null];
  record(
    "linear",
    [node, multiplier, residual],
    [out],
    saved.filter((tensor) => tensor !== null),
    ([g], tensors, needs) => {
      let next = 0;
      const input = before === null ? null : tensors[next++]!;
      const factor = multiplier !== null && inner ? tensors[next]! : null;
      let gradProduct: Tensor | null = null;
      if (needs[0]) {
        gradProduct = factor === null ? g! : mul(g!, factor);
        if (activation !== null) {
          gradProduct = activationGradient("linear", activation.kind, gradProduct, input!);
        }
      }
      let gradMultiplier: Tensor | null = null;
      if (needs[1])
        gradMultiplier = mul(g!, activation === null ? input! : activation.apply(input!));
      return [gradProduct, gradMultiplier, needs[2] ? g! : null];
    },
  );
  if (activation !== null && multiplier === null && residual === null && out.node !== null) {
    out.node.activation = ACTIVATION_CODES[activation.kind]!;
  }
  kept?.dispose();
  return out;
}

const fusedLinear = defineOp(
  "linear",
  (
    x: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    multiplier: Tensor | null,
    finish: Finish,
  ): Tensor => {
    checkOperands("linear", x, weight);
    if (weight.shape.length > 2) {
      throw new ShapeError(
        `linear: expected weight [outFeatures, inFeatures], got ${formatShape(weight.shape)}`,
        { op: "linear" },
      );
    }
    const features = weight.shape[weight.shape.length - 1]!;
    checkInner("linear", x, weight, x.shape[x.shape.length - 1]!, features);
    checkBias(x, bias, weight.shape.slice(0, -1));
    const { activation, residual } = finish;
    const isFinished = activation !== null || multiplier !== null || residual !== null;
    if (isFinished && !isFloating(x.dtype)) {
      throw new DTypeError(
        `linear: expected operands of a floating-point dtype with activation, multiplier or ` +
          `residual, got ${describe(x)}`,
        { op: "linear" },
      );
    }
    const result = [...x.shape.slice(0, -1), ...weight.shape.slice(0, -1)];
    checkLike("multiplier", multiplier, [x.dtype], result);
    checkLike("residual", residual, residualDtypes(x.dtype), result);
    // A vector is a row, or a weight of one row.
    const made: Tensor[] = [];
    const shaped = (tensor: Tensor, shape: Shape): Tensor => {
      if (sameShape(tensor.shape, shape)) return tensor;
      const view = reshape(tensor, shape);
      made.push(view);
      return view;
    };
    const rows = shaped(x, x.shape.length === 1 ? [1, features] : x.shape);
    const matrix = shaped(weight, weight.shape.length === 1 ? [1, features] : weight.shape);
    const outFeatures = matrix.shape[0]!;
    const shape = [...rows.shape.slice(0, -1), outFeatures];
    const call = {
      x: rows,
      weight: matrix,
      bias: bias && shaped(bias, [outFeatures]),
      precision: matmulPrecisionCode(),
      shape,
    };
    const added = residual && shaped(residual, shape);
    const widened = added && to(added, promoteTypes(x.dtype, added.dtype));
    if (widened !== null && widened !== added) made.push(widened);
    const out = multiplyAndFinish(
      call,
      multiplier && shaped(multiplier, shape),
      new Finish(activation, widened),
    );
    const kept = sameShape(shape, result) ? out : reshape(out, result);
    if (kept !== out) out.dispose();
    for (const tensor of made) tensor.dispose();
    return kept;
  },
);

function activationOf(name: unknown): Activation | null {
  if (name === null || name === undefined) return null;
  const found = typeof name === "string" && Object.hasOwn(ACTIVATIONS, name);
  if (found) return ACTIVATIONS[name]!;
  throw new ArgumentError(
    `linear: activation — expected "relu", "gelu", "gelu-tanh" or "silu", got ` +
      describeValue(name),
    { op: "linear" },
  );
}

/**
 * `x` [..., inFeatures] times the transpose of `weight` [outFeatures, inFeatures], plus `bias`
 * [outFeatures], all of one dtype; a weight of one dimension, [inFeatures], gives [...]. Then, if
 * asked for, `activation(...) * multiplier + residual`:
 *
 * - a feed-forward layer is `linear(x, w1, b1, { activation: "gelu" })`,
 * - SwiGLU is `linear(x, gate, null, { activation: "silu", multiplier: linear(x, up) })`,
 * - a residual connection is `linear(h, w2, b2, { residual: x })`.
 *
 * All of it happens to the sums in float32 (float64 for float64), which are rounded once, at the
 * end: 16-bit results are more accurate than those of the operations one by one, and need no memory
 * in between. What backward keeps is the input of the activation, as the activation's own operation
 * would. Backward is fused as well: the derivative of an activation is applied by the product that
 * computes the gradient of its output, the gradient of the bias comes with it, and that of a weight
 * which has a `grad` already is added to it without being rounded in between.
 *
 * Autocast runs it in its dtype, with casts of weights cached for the region.
 * @throws ShapeError where features or shapes differ, DTypeError where dtypes differ, ArgumentError
 * for unknown options.
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: FusedLinearOptions = {},
): Tensor {
  checkTensor(x, "linear", "x");
  checkTensor(weight, "linear", "weight");
  if (bias !== null) checkTensor(bias, "linear", "bias");
  checkOptions("linear", options, ["activation", "multiplier", "residual"]);
  const { activation, multiplier = null, residual = null } = options;
  if (multiplier !== null) checkTensor(multiplier, "linear", "multiplier");
  if (residual !== null) checkTensor(residual, "linear", "residual");
  return fusedLinear(x, weight, bias, multiplier, new Finish(activationOf(activation), residual));
}
