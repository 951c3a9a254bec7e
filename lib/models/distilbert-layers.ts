// The layers of DistilBERT, with Hugging Face's module names. Architecture:
// transformers/models/distilbert, post-norm.

import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { Dropout, Embedding, LayerNorm, Linear, Module, ModuleList } from "../nn/index.js";
import { forwardFinished } from "../nn/linear.js";
import { add, arange } from "../ops/index.js";
import type { DistilBertConfig } from "./distilbert-config.js";
import { attend, droppedAndAdded, type Placement } from "./encoder.js";

/** Words plus positions, normalized: ids [B, L] to [B, L, dim]. */
export class Embeddings extends Module {
  readonly word_embeddings: Embedding;
  readonly position_embeddings: Embedding;
  readonly LayerNorm: LayerNorm;
  readonly dropout: Dropout;

  constructor(config: DistilBertConfig, placement: Placement) {
    super();
    this.word_embeddings = new Embedding(config.vocabSize, config.dim, {
      paddingIdx: config.padTokenId < config.vocabSize ? config.padTokenId : undefined,
      ...placement,
    });
    this.position_embeddings = new Embedding(config.maxPositionEmbeddings, config.dim, placement);
    this.LayerNorm = new LayerNorm([config.dim], { eps: config.layerNormEps, ...placement });
    this.dropout = new Dropout(config.dropout);
  }

  override forward(ids: Tensor): Tensor {
    const positions = arange(0, ids.shape[1]!, 1, { dtype: "int64", device: ids.device });
    const words = this.word_embeddings.forward(ids);
    const sum = add(words, this.position_embeddings.forward(positions));
    return this.dropout.forward(this.LayerNorm.forward(sum));
  }
}

class MultiHeadSelfAttention extends Module {
  readonly q_lin: Linear;
  readonly k_lin: Linear;
  readonly v_lin: Linear;
  readonly out_lin: Linear;

  constructor(
    private readonly config: DistilBertConfig,
    placement: Placement,
  ) {
    super();
    const { dim } = config;
    this.q_lin = new Linear(dim, dim, placement);
    this.k_lin = new Linear(dim, dim, placement);
    this.v_lin = new Linear(dim, dim, placement);
    this.out_lin = new Linear(dim, dim, placement);
  }

  /** The attention of `x` to itself, added to it. */
  override forward(x: Tensor, mask: Tensor | null): Tensor {
    const { nHeads, attentionDropout } = this.config;
    const projected = [
      this.q_lin.forward(x),
      this.k_lin.forward(x),
      this.v_lin.forward(x),
    ] as const;
    const dropout = this.training ? attentionDropout : 0;
    const attended = attend(projected, nHeads, mask, dropout);
    return forwardFinished(this.out_lin, attended, { residual: x });
  }
}

class FeedForward extends Module {
  readonly lin1: Linear;
  readonly lin2: Linear;
  readonly dropout: Dropout;

  constructor(config: DistilBertConfig, placement: Placement) {
    super();
    this.lin1 = new Linear(config.dim, config.hiddenDim, placement);
    this.lin2 = new Linear(config.hiddenDim, config.dim, placement);
    this.dropout = new Dropout(config.dropout);
  }

  /** The layers' result, added to what they were given. */
  override forward(x: Tensor): Tensor {
    const hidden = forwardFinished(this.lin1, x, { activation: "gelu" });
    return droppedAndAdded(this.lin2, this.dropout, hidden, x);
  }
}

class TransformerBlock extends Module {
  readonly attention: MultiHeadSelfAttention;
  readonly sa_layer_norm: LayerNorm;
  readonly ffn: FeedForward;
  readonly output_layer_norm: LayerNorm;

  constructor(config: DistilBertConfig, placement: Placement) {
    super();
    const norm = { eps: config.layerNormEps, ...placement };
    this.attention = new MultiHeadSelfAttention(config, placement);
    this.sa_layer_norm = new LayerNorm([config.dim], norm);
    this.ffn = new FeedForward(config, placement);
    this.output_layer_norm = new LayerNorm([config.dim], norm);
  }

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    // What backward does not need is let go of with the block, not with the step.
    return tidy(() => {
      const attended = this.sa_layer_norm.forward(this.attention.forward(x, mask));
      return this.output_layer_norm.forward(this.ffn.forward(attended));
    });
  }
}

/** The blocks, one after the other, on [B, L, dim]. */
export class Transformer extends Module {
  readonly layer: ModuleList<TransformerBlock>;

  constructor(config: DistilBertConfig, placement: Placement) {
    super();
    const blocks = Array.from(
      { length: config.nLayers },
      () => new TransformerBlock(config, placement),
    );
    this.layer = new ModuleList(blocks);
  }

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    let hidden = x;
    for (const block of this.layer) {
      const next = block.forward(hidden, mask);
      if (hidden !== x) hidden.dispose();
      hidden = next;
    }
    return hidden;
  }
}
