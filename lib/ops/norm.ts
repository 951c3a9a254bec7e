// Layer and RMS normalization over the last dimensions.

import { context } from "../core/context.js";
import { defineOp, describe, runMany } from "../core/dispatch.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { finfo, isHalfWidth, type DType } from "../dtype.js";
import { ArgumentError, describe as describeValue, DTypeError, ShapeError } from "../errors.js";
import { formatShape, numelOf, sameShape, type Shape } from "../shape.js";
import { add, mul, sub } from "./binary.js";
import { sumTo } from "./broadcast.js";
import { to } from "./cast.js";
import { checkFloating, checkOptions, checkTensor } from "./checks.js";
import { rsqrt } from "./pointwise.js";
import { mean } from "./reduce.js";

/** Options of {@link layerNorm} and {@link rmsNorm}. */
export interface NormOptions {
  /** Added to the variance (mean square) before its root. Default: 1e-5; rmsNorm: eps of x's dtype. */
  eps?: number | undefined;
}

type Optional = Tensor | null | undefined;

/** The normalized shape, checked against that of x. */
function checkNorm(name: string, x: Tensor, normalizedShape: number | Shape): Shape {
  checkFloating(name, x);
  const over = typeof normalizedShape === "number" ? [normalizedShape] : normalizedShape;
  const given: unknown = over;
  if (!Array.isArray(given) || given.length === 0) {
    throw new ArgumentError(
      `${name}: normalizedShape — expected a length or a list of lengths, got ` +
        describeValue(normalizedShape),
      { op: name },
    );
  }
  const lead = x.shape.length - over.length;
  let fits = lead >= 0;
  for (let i = 0; i < over.length; i++) fits &&= x.shape[lead + i] === over[i];
  if (fits) return over;
  throw new ShapeError(
    `${name}: expected an input that ends in ${formatShape(over)}, got ${describe(x)}`,
    { op: name },
  );
}

/** A parameter, or null where there is none. */
function checkParameter(
  name: string,
  x: Tensor,
  over: Shape,
  role: string,
  parameter: Optional,
): Tensor | null {
  if (parameter === null || parameter === undefined) return null;
  checkTensor(parameter, name, role);
  if (!sameShape(parameter.shape, over)) {
    throw new ShapeError(
      `${name}: expected ${role} of shape ${formatShape(over)}, got ${describe(parameter)}`,
      { op: name },
    );
  }
  // float32 parameters beside 16-bit activations lose nothing: the arithmetic is float32.
  const wider = isHalfWidth(x.dtype) && parameter.dtype === "float32";
  if (parameter.dtype !== x.dtype && !wider) {
    throw new DTypeError(
      `${name}: dtypes differ, input ${describe(x)}, ${role} ${describe(parameter)}`,
      { op: name },
    );
  }
  return parameter;
}

function epsOf(name: string, options: NormOptions, fallback: number): number {
  checkOptions(name, options, ["eps"]);
  const eps = options.eps ?? fallback;
  if (typeof eps === "number" && eps >= 0) return eps;
  throw new ArgumentError(`${name}: eps — expected a number from 0 up, got ${describeValue(eps)}`, {
    op: name,
  });
}

const statisticsDType = (x: Tensor): DType => (x.dtype === "float64" ? "float64" : "float32");

interface Norm {
  readonly name: "layerNorm" | "rmsNorm";
  readonly op: "layer_norm" | "rms_norm";
  readonly gradOp: "layer_norm_grad" | "rms_norm_grad";
  readonly centered: boolean;
}

const LAYER: Norm = {
  name: "layerNorm",
  op: "layer_norm",
  gradOp: "layer_norm_grad",
  centered: true,
};
const RMS: Norm = { name: "rmsNorm", op: "rms_norm", gradOp: "rms_norm_grad", centered: false };

/** Gradients of input, weight and bias out of operations that can be differentiated again. */
function composedGrads(
  norm: Norm,
  over: Shape,
  eps: number,
  gradOutput: Tensor,
  input: Tensor,
  weight: Tensor | null,
): Tensor[] {
  const wide = (t: Tensor): Tensor => (isHalfWidth(t.dtype) ? to(t, "float32") : t);
  const [g, x] = [wide(gradOutput), wide(input)];
  const dims = over.map((_, i) => x.shape.length - over.length + i);
  const average = (t: Tensor): Tensor => mean(t, { dim: dims, keepdim: true });
  const centered = norm.centered ? sub(x, average(x)) : x;
  const rstd = rsqrt(add(average(mul(centered, centered)), eps));
  const normalized = mul(centered, rstd);
  const scaled = weight === null ? g : mul(g, wide(weight));
  const along = mul(normalized, average(mul(scaled, normalized)));
  const rest = norm.centered ? sub(scaled, average(scaled)) : scaled;
  return [mul(sub(rest, along), rstd), sumTo(mul(g, normalized), over), sumTo(g, over)];
}

function normalize(
  norm: Norm,
  x: Tensor,
  over: Shape,
  weight: Tensor | null,
  bias: Tensor | null,
  eps: number,
): Tensor {
  const { name, op, gradOp, centered } = norm;
  const length = numelOf(over);
  const statistics = {
    dtype: statisticsDType(x),
    shape: x.shape.slice(0, x.shape.length - over.length),
  };
  const hasWeight = weight !== null;
  const inputs = hasWeight ? [x, weight] : [x];
  const outputs: { dtype: DType; shape: Shape }[] = [x, statistics];
  const attrs = [length, eps, hasWeight ? 1 : 0];
  if (centered) {
    if (bias !== null) inputs.push(bias);
    outputs.push(statistics);
    attrs.push(bias === null ? 0 : 1);
  }
  const [y, ...saved] = runMany(name, op, inputs, outputs, attrs);
  const weightDType = weight?.dtype ?? x.dtype;
  const biasDType = bias?.dtype ?? x.dtype;
  const kept = hasWeight ? [x, ...saved, weight] : [x, ...saved];
  record(name, [x, weight, bias], [y!], kept, ([g], tensors, needs) => {
    const input = tensors[0]!;
    if (context.gradEnabled) {
      const scale = hasWeight ? tensors[tensors.length - 1]! : null;
      const grads = composedGrads(norm, over, eps, g!, input, scale);
      return grads.map((grad, i) => (needs[i] ? grad : null));
    }
    const wanted = needs.map((need) => (need ? 1 : 0));
    const shapes = [
      { dtype: input.dtype, shape: needs[0] ? input.shape : [0] },
      { dtype: weightDType, shape: needs[1] ? over : [0] },
    ];
    if (centered) shapes.push({ dtype: biasDType, shape: needs[2] ? over : [0] });
    const flags = [length, hasWeight ? 1 : 0, ...wanted.slice(0, centered ? 3 : 2)];
    const grads = runMany(name, gradOp, [g!, ...tensors], shapes, flags);
    return grads.map((grad, i) => (needs[i] ? grad : null));
  });
  for (const tensor of saved) tensor.dispose();
  return y!;
}

/**
 * `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimensions, `normalizedShape`
 * (a number means one dimension). `weight` and `bias` have that shape and the dtype of x, or
 * float32 where x has 16 bits. Shape and dtype of x; 16-bit floats are computed in float32 and
 * rounded once. Autocast runs it in float32.
 * @throws ShapeError where x does not end in `normalizedShape` or a parameter has another shape,
 * DTypeError where dtypes differ.
 */
export const layerNorm = defineOp(
  "layerNorm",
  (
    x: Tensor,
    normalizedShape: number | Shape,
    weight: Optional = null,
    bias: Optional = null,
    options: NormOptions = {},
  ): Tensor => {
    const over = checkNorm("layerNorm", x, normalizedShape);
    const scale = checkParameter("layerNorm", x, over, "weight", weight);
    const shift = checkParameter("layerNorm", x, over, "bias", bias);
    return normalize(LAYER, x, over, scale, shift, epsOf("layerNorm", options, 1e-5));
  },
);

/**
 * `x / sqrt(mean(x^2) + eps) * weight` over the last dimensions, `normalizedShape` (a number means
 * one dimension). `weight` has that shape and the dtype of x, or float32 where x has 16 bits. Shape
 * and dtype of x; 16-bit floats are computed in float32 and rounded once. Autocast runs it in
 * float32.
 * @throws ShapeError where x does not end in `normalizedShape` or `weight` has another shape,
 * DTypeError where dtypes differ.
 */
export const rmsNorm = defineOp(
  "rmsNorm",
  (
    x: Tensor,
    normalizedShape: number | Shape,
    weight: Optional = null,
    options: NormOptions = {},
  ): Tensor => {
    const over = checkNorm("rmsNorm", x, normalizedShape);
    const scale = checkParameter("rmsNorm", x, over, "weight", weight);
    const eps = epsOf("rmsNorm", options, finfo(x.dtype).eps);
    return normalize(RMS, x, over, scale, null, eps);
  },
);
