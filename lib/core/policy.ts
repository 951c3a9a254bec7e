// Which operations autocast runs in 16 bits and which in float32: pure data, the one place where it
// is decided. The rows are those of torch's CUDA lists (aten/src/ATen/autocast_mode.h), on every
// device.

/**
 * What autocast does to an operation's tensors that are floating point but not float64:
 * `low` casts them to the region's dtype, `float32` to float32, `float32-output` to float32 unless
 * the caller named a dtype, `promote` to the widest among them (at least the region's dtype),
 * `none` leaves them alone.
 */
export type CastPolicy = "low" | "float32" | "float32-output" | "promote" | "none";

const POLICIES: Readonly<Record<string, CastPolicy>> = {
  matmul: "low",
  linear: "low",
  conv2d: "low",
  scaledDotProductAttention: "low",

  exp: "float32",
  log: "float32",
  reciprocal: "float32",
  rsqrt: "float32",
  pow: "float32",
  layerNorm: "float32",
  rmsNorm: "float32",
  logsumexp: "float32",
  nllLoss: "float32",
  mseLoss: "float32",
  l1Loss: "float32",
  bceWithLogits: "float32",
  // In torch log_softmax and nll_loss, both float32.
  crossEntropy: "float32",

  softmax: "float32-output",
  logSoftmax: "float32-output",
  cumsum: "float32-output",
  sum: "float32-output",

  scatterAdd: "promote",
};

/** The policy of an operation, the user's changes first; operations without a row are left alone. */
export function policyOf(
  name: string,
  changes: Readonly<Record<string, CastPolicy>> | null = null,
): CastPolicy {
  return changes?.[name] ?? POLICIES[name] ?? "none";
}

/** Names of the operations that have a row. */
export function policyNames(): string[] {
  return Object.keys(POLICIES);
}
