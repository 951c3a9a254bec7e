// Modules under torch's names: the namespace `nn`.

export { Module } from "./module.js";
export type { ListOptions, ModuleToOptions } from "./module.js";
export { Parameter } from "./parameter.js";
export type { ParameterOptions } from "./parameter.js";
export type { LoadResult, StateDict } from "./state.js";
export * as init from "./init.js";
export { Linear } from "./linear.js";
export type { LinearOptions } from "./linear.js";
export { Embedding } from "./embedding.js";
export type { EmbeddingOptions } from "./embedding.js";
export { LayerNorm, RMSNorm } from "./norm.js";
export type { LayerNormOptions, RMSNormOptions } from "./norm.js";
export { Dropout } from "./dropout.js";
export {
  Flatten,
  GELU,
  Identity,
  LogSoftmax,
  ReLU,
  Sigmoid,
  SiLU,
  Softmax,
  Tanh,
} from "./activation.js";
export { ModuleDict, ModuleList, Sequential } from "./container.js";
export { BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss } from "./loss.js";
export { Conv2d } from "./conv.js";
export type { Conv2dOptions } from "./conv.js";
export { BatchNorm1d, BatchNorm2d } from "./batch-norm.js";
export type { BatchNormOptions } from "./batch-norm.js";
export { MultiheadAttention } from "./attention.js";
export type { AttentionInputs, MultiheadAttentionOptions } from "./attention.js";
export { TransformerEncoderLayer } from "./transformer.js";
export type { EncoderInputs, TransformerEncoderLayerOptions } from "./transformer.js";
