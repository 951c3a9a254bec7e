// The layers of a decoder of the LLaMA family, with Hugging Face's module names. Architecture:
// transformers/models/llama, pre-norm. Every projection is a child that may be replaced by a module
// with the same forward(x).

import { tidy } from "../../core/scope.js";
import type { Tensor } from "../../core/tensor.js";
import { Embedding, Linear, Module, ModuleList, RMSNorm } from "../../nn/index.js";
import { forwardFinished } from "../../nn/linear.js";
import { expand, reshape, scaledDotProductAttention, transpose } from "../../ops/index.js";
import type { Placement } from "../encoder.js";
import type { LlamaConfig } from "./config.js";
import { rotate, type Rotation } from "./rope.js";

/** What all layers of one pass share. */
export interface Pass {
  readonly rotation: Rotation;
  /** bool [B or 1, 1, L, L], true where a key is seen; null: all up to the token itself. */
  readonly mask: Tensor | null;
}

/** Keys or values [B, KV, L, D], each head as often as queries share it: [B, H, L, D]. */
function shared(x: Tensor, heads: number): Tensor {
  const [batch, own, length, width] = x.shape as [number, number, number, number];
  if (own === heads) return x;
  const grouped = reshape(x, [batch, own, 1, length, width]);
  const wide = expand(grouped, [batch, own, heads / own, length, width]);
  return reshape(wide, [batch, heads, length, width]);
}

class Attention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;

  constructor(
    private readonly config: LlamaConfig,
    placement: Placement,
  ) {
    super();
    const { hiddenSize, numAttentionHeads, numKeyValueHeads, headDim, qkvBias } = config;
    const [width, ownWidth] = [numAttentionHeads * headDim, numKeyValueHeads * headDim];
    const options = { ...placement, bias: qkvBias };
    this.q_proj = new Linear(hiddenSize, width, options);
    this.k_proj = new Linear(hiddenSize, ownWidth, options);
    this.v_proj = new Linear(hiddenSize, ownWidth, options);
    this.o_proj = new Linear(width, hiddenSize, { ...placement, bias: config.outputBias });
  }

  /** The attention of `x` [B, L, hidden] to itself, added to `residual`. */
  override forward(x: Tensor, residual: Tensor, { rotation, mask }: Pass): Tensor {
    const { numAttentionHeads, numKeyValueHeads, headDim } = this.config;
    const [batch, length] = x.shape as [number, number];
    const split = (projected: Tensor, heads: number): Tensor =>
      transpose(reshape(projected, [batch, length, heads, headDim]), 1, 2);
    const q = rotate(split(this.q_proj.forward(x), numAttentionHeads), rotation);
    const k = rotate(split(this.k_proj.forward(x), numKeyValueHeads), rotation);
    const v = split(this.v_proj.forward(x), numKeyValueHeads);
    const attended = scaledDotProductAttention(
      q,
      shared(k, numAttentionHeads),
      shared(v, numAttentionHeads),
      mask === null ? { causal: true } : { mask },
    );
    const joined = reshape(transpose(attended, 1, 2), [batch, length, numAttentionHeads * headDim]);
    return forwardFinished(this.o_proj, joined, { residual });
  }
}

class FeedForward extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;

  constructor({ hiddenSize, intermediateSize, mlpBias }: LlamaConfig, placement: Placement) {
    super();
    const options = { ...placement, bias: mlpBias };
    this.gate_proj = new Linear(hiddenSize, intermediateSize, options);
    this.up_proj = new Linear(hiddenSize, intermediateSize, options);
    this.down_proj = new Linear(intermediateSize, hiddenSize, options);
  }

  /** SwiGLU of `x`, added to `residual`. */
  override forward(x: Tensor, residual: Tensor): Tensor {
    const up = this.up_proj.forward(x);
    const gated = forwardFinished(this.gate_proj, x, { activation: "silu", multiplier: up });
    return forwardFinished(this.down_proj, gated, { residual });
  }
}

class DecoderLayer extends Module {
  readonly self_attn: Attention;
  readonly mlp: FeedForward;
  readonly input_layernorm: RMSNorm;
  readonly post_attention_layernorm: RMSNorm;

  constructor(config: LlamaConfig, placement: Placement) {
    super();
    const norm = { eps: config.rmsNormEps, ...placement };
    this.self_attn = new Attention(config, placement);
    this.mlp = new FeedForward(config, placement);
    this.input_layernorm = new RMSNorm(config.hiddenSize, norm);
    this.post_attention_layernorm = new RMSNorm(config.hiddenSize, norm);
  }

  override forward(x: Tensor, pass: Pass): Tensor {
    // What backward does not need is let go of with the layer, not with the step.
    return tidy(() => {
      const attended = this.self_attn.forward(this.input_layernorm.forward(x), x, pass);
      return this.mlp.forward(this.post_attention_layernorm.forward(attended), attended);
    });
  }
}

/** Embedding, layers and last norm: ids [B, L] to hidden states [B, L, hidden]. */
export class Decoder extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: ModuleList<DecoderLayer>;
  readonly norm: RMSNorm;

  constructor(config: LlamaConfig, placement: Placement) {
    super();
    this.embed_tokens = new Embedding(config.vocabSize, config.hiddenSize, placement);
    this.layers = new ModuleList(
      Array.from({ length: config.numHiddenLayers }, () => new DecoderLayer(config, placement)),
    );
    this.norm = new RMSNorm(config.hiddenSize, { eps: config.rmsNormEps, ...placement });
  }

  override forward(ids: Tensor, pass: Pass): Tensor {
    let hidden = this.embed_tokens.forward(ids);
    for (const layer of this.layers) {
      const next = layer.forward(hidden, pass);
      hidden.dispose();
      hidden = next;
    }
    return this.norm.forward(hidden);
  }
}
