// The native ops in the order of native/core/op_list.h, which documents what each takes. Pure, so that
// what needs only the names needs no addon; lib/native.ts compares the two lists at load.

export const NATIVE_OPS = [
  "unary",
  "unary_grad",
  "binary",
  "compare",
  "classify",
  "where",
  "clamp",
  "cast",
  "copy_into",
  "fill",
  "accumulate",
  "arange",
  "random_uniform",
  "random_normal",
  "random_int",
  "dropout",
  "sum",
  "variance",
  "amax",
  "amin",
  "argmax",
  "argmin",
  "logsumexp",
  "softmax",
  "softmax_grad",
  "layer_norm",
  "layer_norm_grad",
  "rms_norm",
  "rms_norm_grad",
  "cross_entropy",
  "cross_entropy_grad",
  "cumsum",
  "sort",
  "topk",
  "multinomial",
  "matmul",
  "unfold",
  "fold",
  "attention",
  "attention_grad",
  "cat",
  "index_select",
  "index_add",
  "gather",
  "scatter_add",
  "embedding",
  "embedding_grad",
  "adam_step",
  "sgd_step",
  "unscale_grads",
  "grad_norm",
  "clip_grads",
  "clamp_grads",
  "scaler_update",
] as const;

/** Name of a native op. */
export type NativeOp = (typeof NATIVE_OPS)[number];

/** Code of each native op. */
export const OP = Object.fromEntries(NATIVE_OPS.map((name, code) => [name, code])) as Record<
  NativeOp,
  number
>;
