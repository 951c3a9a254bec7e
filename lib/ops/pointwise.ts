// Element-wise functions of one tensor, forward and backward side by side. Backward runs fused
// where nobody differentiates it again, and is made of recorded operations where somebody does.

import { context } from "../core/context.js";
import { defineOp, describe, run } from "../core/dispatch.js";
import { isOptions } from "../core/options.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import type { DType } from "../dtype.js";
import { ArgumentError, describe as describeValue, DTypeError } from "../errors.js";
import { add, ge, gt, le, mul, sub } from "./binary.js";
import { to } from "./cast.js";
import { checkOptions, checkTensor } from "./checks.js";
import { ACTIVATION_CODES, UNARY, UNARY_GRAD } from "./kinds.js";
import { floatResult, resultType } from "./promotion.js";

type UnaryKind = keyof typeof UNARY;
type UnaryGradKind = keyof typeof UNARY_GRAD;

/** Gradient of the input from that of the output and the saved tensor (input or output). */
type Derivative = (gradOutput: Tensor, saved: Tensor) => Tensor;

interface UnaryRow {
  readonly kind: UnaryKind;
  /** Integers stay integers (neg, abs, relu, sign); otherwise they become float32. */
  readonly keepsIntegers?: boolean;
  readonly saves: "input" | "output";
  readonly derivative: Derivative;
  /** The fused form of the derivative. */
  readonly fused?: UnaryGradKind;
}

function evaluate(name: string, kind: UnaryKind, x: Tensor, dtype: DType): Tensor {
  return run(name, "unary", [x], dtype, x.shape, [UNARY[kind]]);
}

function gradientOf(name: string, row: UnaryRow, gradOutput: Tensor, saved: Tensor): Tensor {
  if (row.fused === undefined || context.gradEnabled) return row.derivative(gradOutput, saved);
  const inputs = [gradOutput, saved];
  return run(name, "unary_grad", inputs, saved.dtype, saved.shape, [UNARY_GRAD[row.fused]]);
}

const rows = new Map<UnaryKind, UnaryRow>();

/**
 * The gradient of an activation's input from that of its output and what its op saves, on behalf of
 * the operation `name`.
 */
export function activationGradient(
  name: string,
  kind: UnaryKind,
  gradOutput: Tensor,
  saved: Tensor,
): Tensor {
  return gradientOf(name, rows.get(kind)!, gradOutput, saved);
}

function defineUnary(name: string, row: UnaryRow): (x: Tensor) => Tensor {
  rows.set(row.kind, row);
  const activation = ACTIVATION_CODES[row.kind] ?? 0;
  return defineOp(name, (x: Tensor): Tensor => {
    checkTensor(x, name);
    if (x.dtype === "bool" && row.keepsIntegers === true) {
      throw new DTypeError(`${name}: expected a number dtype, got ${describe(x)}`, { op: name });
    }
    const dtype = row.keepsIntegers === true ? x.dtype : floatResult(x.dtype);
    const y = evaluate(name, row.kind, x, dtype);
    record(name, [x], [y], [row.saves === "input" ? x : y], ([gradOutput], [saved]) => [
      gradientOf(name, row, gradOutput!, saved!),
    ]);
    if (activation > 0 && y.node !== null) y.node.activation = activation;
    return y;
  });
}

/** `-x`. Shape and dtype of x; bool throws DTypeError. */
export const neg = defineUnary("neg", {
  kind: "neg",
  keepsIntegers: true,
  saves: "input",
  derivative: (g) => neg(g),
});

const sign = defineUnary("sign", {
  kind: "sign",
  keepsIntegers: true,
  saves: "input",
  derivative: (g) => mul(g, 0),
});

/** Absolute value. Shape and dtype of x; the gradient at 0 is 0. */
export const abs = defineUnary("abs", {
  kind: "abs",
  keepsIntegers: true,
  saves: "input",
  derivative: (g, x) => mul(g, sign(x)),
});

/** `e^x`. Integers give float32; autocast runs it in float32. */
export const exp = defineUnary("exp", {
  kind: "exp",
  saves: "output",
  derivative: (g, y) => mul(g, y),
});

/** Natural logarithm. Integers give float32; autocast runs it in float32. */
export const log = defineUnary("log", {
  kind: "log",
  saves: "input",
  derivative: (g, x) => mul(g, reciprocal(x)),
});

/** Square root. Integers give float32. */
export const sqrt = defineUnary("sqrt", {
  kind: "sqrt",
  saves: "output",
  derivative: (g, y) => mul(g, reciprocal(mul(y, 2))),
});

/** `1 / sqrt(x)`. Integers give float32; autocast runs it in float32. */
export const rsqrt = defineUnary("rsqrt", {
  kind: "rsqrt",
  saves: "output",
  derivative: (g, y) => mul(mul(g, -0.5), mul(y, mul(y, y))),
});

/** `1 / x`. Integers give float32; autocast runs it in float32. */
export const reciprocal: (x: Tensor) => Tensor = defineUnary("reciprocal", {
  kind: "reciprocal",
  saves: "output",
  derivative: (g, y) => mul(neg(g), mul(y, y)),
});

/** Hyperbolic tangent. Integers give float32. */
export const tanh: (x: Tensor) => Tensor = defineUnary("tanh", {
  kind: "tanh",
  saves: "output",
  derivative: (g, y) => mul(g, sub(1, mul(y, y))),
  fused: "tanh",
});

/** `1 / (1 + e^-x)`. Integers give float32. */
export const sigmoid: (x: Tensor) => Tensor = defineUnary("sigmoid", {
  kind: "sigmoid",
  saves: "output",
  derivative: (g, y) => mul(g, mul(y, sub(1, y))),
  fused: "sigmoid",
});

/** `max(x, 0)`. Shape and dtype of x; the gradient at 0 is 0. */
export const relu = defineUnary("relu", {
  kind: "relu",
  keepsIntegers: true,
  saves: "output",
  derivative: (g, y) => mul(g, to(gt(y, 0), g.dtype)),
  fused: "relu",
});

/** `x sigmoid(x)`. Integers give float32. */
export const silu = defineUnary("silu", {
  kind: "silu",
  saves: "input",
  derivative: (g, x) => {
    const s = sigmoid(x);
    return mul(g, mul(s, add(1, mul(x, sub(1, s)))));
  },
  fused: "silu",
});

/** Error function. Integers give float32. */
export const erf: (x: Tensor) => Tensor = defineUnary("erf", {
  kind: "erf",
  saves: "input",
  derivative: (g, x) => mul(g, mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))),
});

/** Sine of radians. Integers give float32. */
export const sin: (x: Tensor) => Tensor = defineUnary("sin", {
  kind: "sin",
  saves: "input",
  derivative: (g, x) => mul(g, cos(x)),
});

/** Cosine of radians. Integers give float32. */
export const cos: (x: Tensor) => Tensor = defineUnary("cos", {
  kind: "cos",
  saves: "input",
  derivative: (g, x) => mul(neg(g), sin(x)),
});

const geluErf = defineUnary("gelu", {
  kind: "gelu_erf",
  saves: "input",
  derivative: (g, x) => {
    const cdf = mul(add(erf(mul(x, Math.SQRT1_2)), 1), 0.5);
    const density = mul(exp(mul(mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return mul(g, add(cdf, mul(x, density)));
  },
  fused: "gelu_erf",
});

const geluTanh = defineUnary("gelu", {
  kind: "gelu_tanh",
  saves: "input",
  derivative: (g, x) => {
    const slope = Math.sqrt(2 / Math.PI);
    const squared = mul(x, x);
    const t = tanh(mul(mul(x, slope), add(mul(squared, 0.044715), 1)));
    const inner = mul(add(mul(squared, 3 * 0.044715), 1), slope);
    const left = mul(add(t, 1), 0.5);
    return mul(g, add(left, mul(mul(x, 0.5), mul(sub(1, mul(t, t)), inner))));
  },
  fused: "gelu_tanh",
});

/** Options of {@link gelu}. */
export interface GeluOptions {
  /** `none` (default) uses erf, `tanh` the approximation of Hendrycks and Gimpel. */
  approximate?: "none" | "tanh";
}

/**
 * Gaussian error linear unit, `x Φ(x)`. Integers give float32.
 * @throws ArgumentError for an unknown `approximate`.
 */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkOptions("gelu", options, ["approximate"]);
  const approximate: string = options.approximate ?? "none";
  if (approximate === "none") return geluErf(x);
  if (approximate === "tanh") return geluTanh(x);
  throw new ArgumentError(
    `gelu: approximate — expected "none" or "tanh", got ${describeValue(approximate)}`,
    { op: "gelu" },
  );
}

/** Bounds of {@link clamp}; at least one. */
export interface ClampOptions {
  min?: number | undefined;
  max?: number | undefined;
}

/** The bounds as options, or minimum and maximum. */
type Bounds = [options: ClampOptions] | [min: number | null | undefined, max?: number | null];

function boundsOf(bounds: Bounds): ClampOptions {
  const [first, last] = bounds;
  if (isOptions(first)) {
    checkOptions("clamp", first, ["min", "max"]);
    return { min: first.min ?? undefined, max: first.max ?? undefined };
  }
  return { min: first ?? undefined, max: last ?? undefined };
}

/**
 * Limits every element to `[min, max]`, given as `{ min, max }` or in this order; where `min > max`
 * the result is `max`. Integers stay integers when the bounds are whole; bool becomes int64. The
 * gradient passes where `min <= x <= max`.
 * @throws ArgumentError when neither bound is given or one is NaN.
 */
export const clamp = defineOp("clamp", (x: Tensor, ...bounds: Bounds): Tensor => {
  checkTensor(x, "clamp");
  const { min, max } = boundsOf(bounds);
  const isBound = (bound: unknown): boolean => typeof bound === "number" && !Number.isNaN(bound);
  if (![min ?? max, max ?? min].every(isBound)) {
    throw new ArgumentError(
      `clamp: expected min, max or both as numbers, got min ${describeValue(min)}, ` +
        `max ${describeValue(max)}`,
      { op: "clamp" },
    );
  }
  const input = to(x, resultType(x, ...[min, max].filter((bound) => bound !== undefined)));
  const attrs = [min === undefined ? 0 : 1, min ?? 0, max === undefined ? 0 : 1, max ?? 0];
  const y = run("clamp", "clamp", [input], input.dtype, input.shape, attrs);
  record("clamp", [input], [y], [input], ([g], [saved]) => {
    let gradInput = g!;
    if (min !== undefined) gradInput = mul(gradInput, to(ge(saved!, min), g!.dtype));
    if (max !== undefined) gradInput = mul(gradInput, to(le(saved!, max), g!.dtype));
    return [gradInput];
  });
  return y;
});

function classify(name: string, code: number, x: Tensor): Tensor {
  checkTensor(x, name);
  return run(name, "classify", [x], "bool", x.shape, [code]);
}

/** Whether each element is NaN, as bool. */
export function isnan(x: Tensor): Tensor {
  return classify("isnan", 0, x);
}

/** Whether each element is neither infinite nor NaN, as bool. */
export function isfinite(x: Tensor): Tensor {
  return classify("isfinite", 1, x);
}
