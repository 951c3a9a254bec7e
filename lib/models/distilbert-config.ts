// The configuration of a DistilBERT: the keys of Hugging Face's config.json that change the model.

import {
  checkHeads,
  completeWith,
  readConfig,
  writeConfig,
  type ClassifierConfig,
} from "./classifier-config.js";
import { checkKey, failConfig, type NumberRule } from "./config-numbers.js";

/** What a DistilBERT for sequence classification is made of. */
export interface DistilBertConfig extends ClassifierConfig {
  /** Number of token ids. */
  vocabSize: number;
  /** Longest sequence. */
  maxPositionEmbeddings: number;
  /** Width. */
  dim: number;
  nLayers: number;
  /** Attention heads; divides `dim`. */
  nHeads: number;
  /** Width of the feed-forward layers. */
  hiddenDim: number;
  dropout: number;
  /** Dropout of attention weights. */
  attentionDropout: number;
  /** Dropout before the classifier. */
  seqClassifDropout: number;
  /** Standard deviation of new weights. */
  initializerRange: number;
  layerNormEps: number;
  padTokenId: number;
}

/** DistilBERT base uncased: 66,955,010 parameters with two labels. */
export const DISTILBERT_BASE: Readonly<DistilBertConfig> = {
  vocabSize: 30522,
  maxPositionEmbeddings: 512,
  dim: 768,
  nLayers: 6,
  nHeads: 12,
  hiddenDim: 3072,
  dropout: 0.1,
  attentionDropout: 0.1,
  seqClassifDropout: 0.2,
  initializerRange: 0.02,
  layerNormEps: 1e-12,
  padTokenId: 0,
  numLabels: 2,
  labelNames: null,
  problemType: null,
};

// Hugging Face's model has its layer norms' eps in the code.
const WRITTEN = {
  vocabSize: { key: "vocab_size", kind: "size" },
  maxPositionEmbeddings: { key: "max_position_embeddings", kind: "size" },
  dim: { key: "dim", kind: "size" },
  nLayers: { key: "n_layers", kind: "size" },
  nHeads: { key: "n_heads", kind: "size" },
  hiddenDim: { key: "hidden_dim", kind: "size" },
  padTokenId: { key: "pad_token_id", kind: "id" },
  dropout: { key: "dropout", kind: "probability" },
  attentionDropout: { key: "attention_dropout", kind: "probability" },
  seqClassifDropout: { key: "seq_classif_dropout", kind: "probability" },
  initializerRange: { key: "initializer_range", kind: "spread" },
} as const satisfies Record<string, NumberRule>;

/**
 * Fills what is left out with the base model's values.
 * @throws ArgumentError for sizes that are not whole positive numbers or do not fit together, and
 * for probabilities and spreads out of range.
 */
export function completeConfig(config: Partial<DistilBertConfig>): DistilBertConfig {
  const complete = completeWith("DistilBert", DISTILBERT_BASE, config, {
    ...WRITTEN,
    layerNormEps: { key: "layer_norm_eps", kind: "spread" },
  });
  checkHeads("DistilBert", ["nHeads", complete.nHeads], ["dim", complete.dim]);
  return complete;
}

/**
 * The configuration in a parsed config.json.
 * @throws CheckpointError where it is of another model or asks for what this one does not do.
 */
export function fromHuggingFace(json: Record<string, unknown>, file: string): DistilBertConfig {
  checkKey(json, "model_type", ["distilbert"], file);
  checkKey(json, "activation", ["gelu"], file);
  if (json.sinusoidal_pos_embds === true) {
    failConfig(file, "sinusoidal position embeddings are not supported, only learned ones");
  }
  return readConfig(json, file, WRITTEN, completeConfig);
}

/** The config.json that Hugging Face's libraries read. */
export function toHuggingFace(config: DistilBertConfig): Record<string, unknown> {
  return {
    architectures: ["DistilBertForSequenceClassification"],
    model_type: "distilbert",
    activation: "gelu",
    sinusoidal_pos_embds: false,
    tie_weights_: true,
    ...writeConfig(config, WRITTEN),
  };
}
