// Every operation, under its public name.

import "./methods.js";

export {
  arange,
  empty,
  eye,
  fromBytes,
  fromTypedArray,
  full,
  ones,
  rand,
  randint,
  randn,
  tensor,
  zeros,
} from "./create.js";
export type { CreateOptions, NestedArray } from "./create.js";
export { bytes, data, dataSync, item, toArray } from "./access.js";
export type { NestedNumbers } from "./access.js";
export { clone, contiguous, copyFrom, fill, to } from "./cast.js";
export type { ToOptions } from "./cast.js";
export {
  add,
  div,
  eq,
  ge,
  gt,
  le,
  lt,
  maskedFill,
  maximum,
  minimum,
  mul,
  ne,
  pow,
  sub,
  where,
} from "./binary.js";
export type { Operand } from "./binary.js";
export {
  abs,
  clamp,
  cos,
  erf,
  exp,
  gelu,
  isfinite,
  isnan,
  log,
  neg,
  reciprocal,
  relu,
  rsqrt,
  sigmoid,
  silu,
  sin,
  sqrt,
  tanh,
} from "./pointwise.js";
export type { ClampOptions, GeluOptions } from "./pointwise.js";
export { amax, amin, argmax, logsumexp, mean, sum, variance } from "./reduce.js";
export { logSoftmax, softmax } from "./softmax.js";
export { cumsum, multinomial, sort, topk } from "./sort.js";
export { layerNorm, rmsNorm } from "./norm.js";
export { bceWithLogits, crossEntropy, l1Loss, mseLoss, nllLoss } from "./loss.js";
export { linear, matmul } from "./matmul.js";
export {
  chunk,
  expand,
  flatten,
  narrow,
  permute,
  reshape,
  select,
  slice,
  split,
  squeeze,
  transpose,
  unsqueeze,
} from "./movement.js";
export { cat, stack } from "./concat.js";
export { embedding, gather, indexSelect, scatterAdd } from "./indexing.js";
export { dropout } from "./dropout.js";
export { scaledDotProductAttention } from "./attention.js";
export { conv2d } from "./conv.js";
