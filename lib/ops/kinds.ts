// Codes of the element-wise functions, taken from the addon's own lists at load.

import { NativeError } from "../errors.js";
import { vocabulary } from "../native.js";

function codes<K extends string>(built: readonly string[], names: readonly K[]): Record<K, number> {
  const entries = names.map((name) => {
    const code = built.indexOf(name);
    if (code < 0) throw new NativeError(`mixprec: the native addon lacks ${name}; rebuild it`);
    return [name, code] as const;
  });
  return Object.fromEntries(entries) as Record<K, number>;
}

/** Codes of `unary`. */
export const UNARY = codes(vocabulary.unary, [
  "neg",
  "abs",
  "exp",
  "log",
  "sqrt",
  "rsqrt",
  "reciprocal",
  "tanh",
  "sigmoid",
  "relu",
  "gelu_erf",
  "gelu_tanh",
  "silu",
  "erf",
  "sin",
  "cos",
  "sign",
]);

/** Codes of the functions that a product can apply to its sums: GemmActivation in core/gemm_desc.h. */
export const ACTIVATION_CODES: Partial<Record<keyof typeof UNARY, number>> = {
  relu: 1,
  gelu_erf: 2,
  gelu_tanh: 3,
  silu: 4,
};

/** Codes of `unary_grad`. */
export const UNARY_GRAD = codes(vocabulary.unaryGrad, [
  "gelu_erf",
  "gelu_tanh",
  "silu",
  "tanh",
  "sigmoid",
  "relu",
]);

/** Codes of `binary`. */
export const BINARY = codes(vocabulary.binary, [
  "add",
  "sub",
  "mul",
  "div",
  "maximum",
  "minimum",
  "pow",
]);

/** Codes of `compare`. */
export const COMPARE = codes(vocabulary.compare, ["eq", "ne", "lt", "le", "gt", "ge"]);
