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
export { amax, amin, argmax, argmin, logsumexp, mean, sum, variance } from "./reduce.js";
export type { ArgOptions, ReduceOptions, SumOptions, VarianceOptions } from "./reduce.js";
export { logSoftmax, softmax } from "./softmax.js";
export type { SoftmaxOptions } from "./softmax.js";
export { cumsum, multinomial, sort, topk } from "./sort.js";
export type {
  CumsumOptions,
  MultinomialOptions,
  Ordered,
  SortOptions,
  TopkOptions,
} from "./sort.js";
export { layerNorm, rmsNorm } from "./norm.js";
export type { NormOptions } from "./norm.js";
export { crossEntropy, nllLoss } from "./cross-entropy.js";
export type { CrossEntropyOptions, NllLossOptions } from "./cross-entropy.js";
export { bceWithLogits, l1Loss, mseLoss } from "./loss.js";
export type { BceWithLogitsOptions, LossOptions, LossReduction } from "./loss.js";
export { linear, type FusedLinearOptions } from "./linear.js";
export { matmul } from "./matmul.js";
export { expand, flatten, permute, reshape, squeeze, transpose, unsqueeze } from "./movement.js";
export { chunk, narrow, select, slice, split } from "./slicing.js";
export type { SliceOptions } from "./slicing.js";
export { cat, stack } from "./concat.js";
export { embedding, gather, indexSelect, scatterAdd } from "./indexing.js";
export type { EmbeddingOptions } from "./indexing.js";
export { dropout } from "./dropout.js";
export type { DropoutOptions } from "./dropout.js";
export { scaledDotProductAttention } from "./attention.js";
export type { AttentionOptions } from "./attention.js";
export { conv2d } from "./conv.js";
export type { Conv2dOptions, Pair } from "./conv.js";
