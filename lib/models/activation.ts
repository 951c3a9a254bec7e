// The activations that a config.json may name.

import type { Tensor } from "../core/tensor.js";
import { gelu, relu, silu } from "../ops/index.js";

const geluTanh = (x: Tensor): Tensor => gelu(x, { approximate: "tanh" });

/** By Hugging Face's names. */
export const ACTIVATIONS = {
  gelu: (x: Tensor): Tensor => gelu(x),
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  relu,
  silu,
  swish: silu,
} as const satisfies Record<string, (x: Tensor) => Tensor>;

/** The name of an activation. */
export type Activation = keyof typeof ACTIVATIONS;
