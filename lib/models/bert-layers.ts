// The layers of BERT and RoBERTa, with Hugging Face's module names. Architecture:
// transformers/models/bert and roberta, post-norm; they differ in the positions alone.

import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { Dropout, Embedding, LayerNorm, Linear, Module, ModuleList } from "../nn/index.js";
import { forwardFinished } from "../nn/linear.js";
import { add, arange, cumsum, mul, ne, select, tanh, to } from "../ops/index.js";
import { ACTIVATIONS } from "./activation.js";
import type { BertConfig } from "./bert-config.js";
import { attend, droppedAndAdded, type Placement } from "./encoder.js";

/** Positions of token ids [B, L]: [L] or [B, L] of int64. */
export type Positions = (ids: Tensor) => Tensor;

/** 0, 1, 2, … */
export const countedPositions: Positions = (ids) =>
  arange(0, ids.shape[1]!, 1, { dtype: "int64", device: ids.device });

/** Tokens are counted from `padTokenId + 1` on, padding stays at `padTokenId`. */
export function positionsBeside(padTokenId: number): Positions {
  return (ids) => {
    const real = to(ne(ids, padTokenId), "int64");
    return add(mul(cumsum(real, { dim: 1 }), real), padTokenId);
  };
}

/** Words, positions and token types, normalized: ids [B, L] to [B, L, hiddenSize]. */
export class BertEmbeddings extends Module {
  readonly word_embeddings: Embedding;
  readonly position_embeddings: Embedding;
  readonly token_type_embeddings: Embedding;
  readonly LayerNorm: LayerNorm;
  readonly dropout: Dropout;

  constructor(
    config: BertConfig,
    placement: Placement,
    private readonly positions: Positions,
    positionPadding: number | null,
  ) {
    super();
    const { vocabSize, hiddenSize, padTokenId, maxPositionEmbeddings, typeVocabSize } = config;
    this.word_embeddings = new Embedding(vocabSize, hiddenSize, {
      paddingIdx: padTokenId < vocabSize ? padTokenId : undefined,
      ...placement,
    });
    this.position_embeddings = new Embedding(maxPositionEmbeddings, hiddenSize, {
      paddingIdx: positionPadding,
      ...placement,
    });
    this.token_type_embeddings = new Embedding(typeVocabSize, hiddenSize, placement);
    this.LayerNorm = new LayerNorm([hiddenSize], { eps: config.layerNormEps, ...placement });
    this.dropout = new Dropout(config.hiddenDropoutProb);
  }

  override forward(ids: Tensor, tokenTypeIds: Tensor | null): Tensor {
    const words = this.word_embeddings.forward(ids);
    const types = this.token_type_embeddings;
    // Without types all tokens are of the first.
    const typed = tokenTypeIds === null ? select(types.weight, 0, 0) : types.forward(tokenTypeIds);
    const sum = add(add(words, typed), this.position_embeddings.forward(this.positions(ids)));
    return this.dropout.forward(this.LayerNorm.forward(sum));
  }
}

class BertSelfAttention extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;

  constructor(
    private readonly config: BertConfig,
    placement: Placement,
  ) {
    super();
    const { hiddenSize } = config;
    this.query = new Linear(hiddenSize, hiddenSize, placement);
    this.key = new Linear(hiddenSize, hiddenSize, placement);
    this.value = new Linear(hiddenSize, hiddenSize, placement);
  }

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    const { numAttentionHeads, attentionProbsDropoutProb } = this.config;
    const projected = [this.query.forward(x), this.key.forward(x), this.value.forward(x)] as const;
    const dropout = this.training ? attentionProbsDropoutProb : 0;
    return attend(projected, numAttentionHeads, mask, dropout);
  }
}

/** A projection to the width, dropout, and the norm of its sum with what went in. */
class BertOutput extends Module {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  readonly dropout: Dropout;

  constructor(inFeatures: number, config: BertConfig, placement: Placement) {
    super();
    const { hiddenSize, layerNormEps, hiddenDropoutProb } = config;
    this.dense = new Linear(inFeatures, hiddenSize, placement);
    this.LayerNorm = new LayerNorm([hiddenSize], { eps: layerNormEps, ...placement });
    this.dropout = new Dropout(hiddenDropoutProb);
  }

  override forward(x: Tensor, residual: Tensor): Tensor {
    return this.LayerNorm.forward(droppedAndAdded(this.dense, this.dropout, x, residual));
  }
}

class BertAttention extends Module {
  readonly self: BertSelfAttention;
  readonly output: BertOutput;

  constructor(config: BertConfig, placement: Placement) {
    super();
    this.self = new BertSelfAttention(config, placement);
    this.output = new BertOutput(config.hiddenSize, config, placement);
  }

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    return this.output.forward(this.self.forward(x, mask), x);
  }
}

class BertIntermediate extends Module {
  readonly dense: Linear;

  constructor(
    private readonly config: BertConfig,
    placement: Placement,
  ) {
    super();
    this.dense = new Linear(config.hiddenSize, config.intermediateSize, placement);
  }

  override forward(x: Tensor): Tensor {
    const { hiddenAct } = this.config;
    if (hiddenAct === "gelu" || hiddenAct === "relu") {
      return forwardFinished(this.dense, x, { activation: hiddenAct });
    }
    return ACTIVATIONS[hiddenAct](this.dense.forward(x));
  }
}

class BertLayer extends Module {
  readonly attention: BertAttention;
  readonly intermediate: BertIntermediate;
  readonly output: BertOutput;

  constructor(config: BertConfig, placement: Placement) {
    super();
    this.attention = new BertAttention(config, placement);
    this.intermediate = new BertIntermediate(config, placement);
    this.output = new BertOutput(config.intermediateSize, config, placement);
  }

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    // What backward does not need is let go of with the layer, not with the step.
    return tidy(() => {
      const attended = this.attention.forward(x, mask);
      return this.output.forward(this.intermediate.forward(attended), attended);
    });
  }
}

/** The layers, one after the other, on [B, L, hiddenSize]. */
export class BertEncoder extends Module {
  readonly layer: ModuleList<BertLayer>;

  constructor(config: BertConfig, placement: Placement) {
    super();
    const count = { length: config.numHiddenLayers };
    this.layer = new ModuleList(Array.from(count, () => new BertLayer(config, placement)));
  }

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    let hidden = x;
    for (const layer of this.layer) {
      const next = layer.forward(hidden, mask);
      if (hidden !== x) hidden.dispose();
      hidden = next;
    }
    return hidden;
  }
}

/** The first token's state through a layer of its own: [B, L, hiddenSize] to [B, hiddenSize]. */
export class BertPooler extends Module {
  readonly dense: Linear;

  constructor({ hiddenSize }: BertConfig, placement: Placement) {
    super();
    this.dense = new Linear(hiddenSize, hiddenSize, placement);
  }

  override forward(hidden: Tensor): Tensor {
    return tanh(this.dense.forward(select(hidden, 1, 0)));
  }
}
