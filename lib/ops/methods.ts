// Makes every operation a method of Tensor. The types are those of the functions, without the
// tensor.

import type { DimOptions } from "../core/options.js";
import { Tensor } from "../core/tensor.js";
import * as access from "./access.js";
import * as attention from "./attention.js";
import * as binary from "./binary.js";
import * as cast from "./cast.js";
import * as concat from "./concat.js";
import * as conv from "./conv.js";
import * as crossEntropy from "./cross-entropy.js";
import * as dropout from "./dropout.js";
import * as indexing from "./indexing.js";
import * as linear from "./linear.js";
import * as loss from "./loss.js";
import * as matmul from "./matmul.js";
import * as movement from "./movement.js";
import * as norm from "./norm.js";
import * as pointwise from "./pointwise.js";
import * as reduce from "./reduce.js";
import * as slicing from "./slicing.js";
import * as softmax from "./softmax.js";
import * as sort from "./sort.js";

const METHODS = {
  ...pick(access, ["item", "bytes", "data", "dataSync", "toArray"]),
  ...pick(cast, ["to", "clone", "contiguous", "copyFrom", "fill"]),
  ...pick(binary, ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]),
  ...pick(binary, ["eq", "ne", "lt", "le", "gt", "ge", "where", "maskedFill"]),
  ...pick(pointwise, ["neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "tanh"]),
  ...pick(pointwise, ["sigmoid", "relu", "gelu", "silu", "erf", "sin", "cos", "clamp"]),
  ...pick(pointwise, ["isnan", "isfinite"]),
  ...pick(linear, ["linear"]),
  ...pick(matmul, ["matmul"]),
  ...pick(reduce, ["sum", "mean", "variance", "amax", "amin", "argmax", "argmin", "logsumexp"]),
  ...pick(softmax, ["softmax", "logSoftmax"]),
  ...pick(sort, ["cumsum", "topk", "sort", "multinomial"]),
  ...pick(movement, ["reshape", "flatten", "transpose", "permute", "expand", "squeeze"]),
  ...pick(movement, ["unsqueeze"]),
  ...pick(slicing, ["narrow", "slice", "select", "split", "chunk"]),
  ...pick(concat, ["cat", "stack"]),
  ...pick(indexing, ["gather", "indexSelect", "scatterAdd", "embedding"]),
  ...pick(norm, ["layerNorm", "rmsNorm"]),
  ...pick(dropout, ["dropout"]),
  ...pick(conv, ["conv2d"]),
  ...pick(attention, ["scaledDotProductAttention"]),
  ...pick(crossEntropy, ["crossEntropy", "nllLoss"]),
  ...pick(loss, ["mseLoss", "l1Loss", "bceWithLogits"]),
};

function pick<M extends object, K extends keyof M>(module: M, names: readonly K[]): Pick<M, K> {
  return Object.fromEntries(names.map((name) => [name, module[name]])) as Pick<M, K>;
}

type Functions = typeof METHODS;

// `cat` and `stack` take a list: as methods they join the tensor with others.
type Method<F> = F extends (...args: infer P) => infer R ? (...rest: WithoutFirst<P>) => R : never;
type WithoutFirst<P> = P extends [x: unknown, ...rest: infer A] ? A : never;

type TensorMethods = {
  [K in Exclude<keyof Functions, "cat" | "stack" | "where">]: Method<Functions[K]>;
} & {
  /** This tensor where `condition` holds, else `other`. */
  where(condition: Tensor, other: binary.Operand): Tensor;
  /** This tensor followed by others along a dimension. */
  cat(others: readonly Tensor[], dim?: number | DimOptions): Tensor;
  /** This tensor and others along a new dimension. */
  stack(others: readonly Tensor[], dim?: number | DimOptions): Tensor;
  /** Writes zeros. Not recorded. */
  zero(): Tensor;
};

declare module "../core/tensor.js" {
  // eslint-disable-next-line @typescript-eslint/no-empty-object-type
  interface Tensor extends TensorMethods {}
}

for (const [name, implementation] of Object.entries(METHODS)) {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]): unknown {
      return (implementation as (...args: unknown[]) => unknown)(this, ...rest);
    },
    writable: true,
    configurable: true,
  });
}

Object.assign(Tensor.prototype, {
  where(this: Tensor, condition: Tensor, other: binary.Operand): Tensor {
    return binary.where(condition, this, other);
  },
  cat(this: Tensor, others: readonly Tensor[], dim?: number | DimOptions): Tensor {
    return concat.cat([this, ...others], dim);
  },
  stack(this: Tensor, others: readonly Tensor[], dim?: number | DimOptions): Tensor {
    return concat.stack([this, ...others], dim);
  },
  zero(this: Tensor): Tensor {
    return cast.fill(this, 0);
  },
});
