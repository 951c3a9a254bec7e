// The public names of the library; docs: the modules they come from.

import "./ops/methods.js";

export * from "./errors.js";
export { finfo, promoteTypes, DTYPES } from "./dtype.js";
export type { Device, DType, FloatDType, FloatInfo, TypedArray } from "./dtype.js";
export type { Shape } from "./shape.js";
export { getNumThreads, setNumThreads } from "./native.js";

export { Tensor } from "./core/tensor.js";
export type { BackwardOptions } from "./core/tensor.js";
export { grad } from "./core/tape.js";
export type { GradOptions } from "./core/tape.js";
export { tidy } from "./core/scope.js";
export {
  enableGrad,
  getFloat32MatmulPrecision,
  getRandomState,
  isGradEnabled,
  manualSeed,
  noGrad,
  setFloat32MatmulPrecision,
  setRandomState,
  withFloat32MatmulPrecision,
} from "./core/context.js";
export type { MatmulPrecision } from "./core/context.js";
export { policyOf } from "./core/policy.js";
export type { CastPolicy } from "./core/policy.js";
export { cuda, memory } from "./core/memory.js";
export type { DeviceProperties, MemoryStatistics } from "./core/memory.js";

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
} from "./ops/create.js";
export type { CreateOptions, NestedArray } from "./ops/create.js";
export { bytes, data, dataSync, item, toArray } from "./ops/access.js";
export type { NestedNumbers } from "./ops/access.js";
export { clone, contiguous, copyFrom, fill, to } from "./ops/cast.js";
export type { ToOptions } from "./ops/cast.js";
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
} from "./ops/binary.js";
export type { Operand } from "./ops/binary.js";
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
} from "./ops/pointwise.js";
export type { ClampOptions, GeluOptions } from "./ops/pointwise.js";
export { amax, amin, argmax, logsumexp, mean, sum, variance } from "./ops/reduce.js";
export { logSoftmax, softmax } from "./ops/softmax.js";
export { cumsum, multinomial, sort, topk } from "./ops/sort.js";
export { layerNorm, rmsNorm } from "./ops/norm.js";
export { bceWithLogits, crossEntropy, l1Loss, mseLoss, nllLoss } from "./ops/loss.js";
export { linear, matmul } from "./ops/matmul.js";
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
} from "./ops/movement.js";
export { cat, stack } from "./ops/concat.js";
export { embedding, gather, indexSelect, scatterAdd } from "./ops/indexing.js";
export { dropout } from "./ops/dropout.js";
export { scaledDotProductAttention } from "./ops/attention.js";
export { conv2d } from "./ops/conv.js";
