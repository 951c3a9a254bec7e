// The configuration of BERT and RoBERTa, which have the same keys in Hugging Face's config.json.

import type { Activation } from "./activation.js";
import { ACTIVATIONS } from "./activation.js";
import { ArgumentError, describe } from "../errors.js";
import {
  checkHeads,
  completeWith,
  readConfig,
  writeConfig,
  type ClassifierConfig,
} from "./classifier-config.js";
import { checkKey, type NumberRule } from "./config-numbers.js";

/** What a BERT or RoBERTa for sequence classification is made of. */
export interface BertConfig extends ClassifierConfig {
  /** Number of token ids. */
  vocabSize: number;
  /** Positions that are learned; RoBERTa's first are at `padTokenId + 1`. */
  maxPositionEmbeddings: number;
  /** Number of token types. */
  typeVocabSize: number;
  /** Width. */
  hiddenSize: number;
  numHiddenLayers: number;
  /** Attention heads; divides `hiddenSize`. */
  numAttentionHeads: number;
  /** Width of the feed-forward layers. */
  intermediateSize: number;
  hiddenAct: Activation;
  hiddenDropoutProb: number;
  attentionProbsDropoutProb: number;
  /** Dropout in the head; null: `hiddenDropoutProb`. */
  classifierDropout: number | null;
  /** Standard deviation of new weights. */
  initializerRange: number;
  layerNormEps: number;
  padTokenId: number;
}

/** BERT base uncased: 109,483,778 parameters with two labels. */
export const BERT_BASE: Readonly<BertConfig> = {
  vocabSize: 30522,
  maxPositionEmbeddings: 512,
  typeVocabSize: 2,
  hiddenSize: 768,
  numHiddenLayers: 12,
  numAttentionHeads: 12,
  intermediateSize: 3072,
  hiddenAct: "gelu",
  hiddenDropoutProb: 0.1,
  attentionProbsDropoutProb: 0.1,
  classifierDropout: null,
  initializerRange: 0.02,
  layerNormEps: 1e-12,
  padTokenId: 0,
  numLabels: 2,
  labelNames: null,
  problemType: null,
};

/** RoBERTa base: 124,647,170 parameters with two labels. */
export const ROBERTA_BASE: Readonly<BertConfig> = {
  ...BERT_BASE,
  vocabSize: 50265,
  maxPositionEmbeddings: 514,
  typeVocabSize: 1,
  layerNormEps: 1e-5,
  padTokenId: 1,
};

const RULES = {
  vocabSize: { key: "vocab_size", kind: "size" },
  maxPositionEmbeddings: { key: "max_position_embeddings", kind: "size" },
  typeVocabSize: { key: "type_vocab_size", kind: "size" },
  hiddenSize: { key: "hidden_size", kind: "size" },
  numHiddenLayers: { key: "num_hidden_layers", kind: "size" },
  numAttentionHeads: { key: "num_attention_heads", kind: "size" },
  intermediateSize: { key: "intermediate_size", kind: "size" },
  padTokenId: { key: "pad_token_id", kind: "id" },
  hiddenDropoutProb: { key: "hidden_dropout_prob", kind: "probability" },
  attentionProbsDropoutProb: { key: "attention_probs_dropout_prob", kind: "probability" },
  classifierDropout: { key: "classifier_dropout", kind: "probability", nullable: true },
  initializerRange: { key: "initializer_range", kind: "spread" },
  layerNormEps: { key: "layer_norm_eps", kind: "spread" },
} as const satisfies Record<string, NumberRule>;

/** What tells the two families apart. */
export interface BertFamily {
  /** What errors call the model. */
  readonly name: string;
  readonly modelType: string;
  readonly className: string;
  readonly base: Readonly<BertConfig>;
}

export const BERT_FAMILY: BertFamily = {
  name: "Bert",
  modelType: "bert",
  className: "BertForSequenceClassification",
  base: BERT_BASE,
};

export const ROBERTA_FAMILY: BertFamily = {
  name: "Roberta",
  modelType: "roberta",
  className: "RobertaForSequenceClassification",
  base: ROBERTA_BASE,
};

/**
 * Fills what is left out with the base model's values.
 * @throws ArgumentError for what is out of range or does not fit together.
 */
export function completeBertConfig(family: BertFamily, config: Partial<BertConfig>): BertConfig {
  const { name, base } = family;
  const complete = completeWith(name, base, config, RULES);
  const { numAttentionHeads, hiddenSize, hiddenAct } = complete;
  checkHeads(name, ["numAttentionHeads", numAttentionHeads], ["hiddenSize", hiddenSize]);
  if (!Object.hasOwn(ACTIVATIONS, hiddenAct)) {
    throw new ArgumentError(
      `${name}: expected hiddenAct to be one of ${Object.keys(ACTIVATIONS).join(", ")}, got ` +
        describe(hiddenAct),
      { op: name },
    );
  }
  return complete;
}

/**
 * The configuration in a parsed config.json.
 * @throws CheckpointError where it is of another model or asks for what this one does not do.
 */
export function readBertConfig(
  family: BertFamily,
  json: Record<string, unknown>,
  file: string,
): BertConfig {
  checkKey(json, "model_type", [family.modelType], file);
  checkKey(json, "hidden_act", Object.keys(ACTIVATIONS), file);
  checkKey(json, "position_embedding_type", ["absolute", null], file);
  checkKey(json, "is_decoder", [false, null], file);
  const activation =
    json.hidden_act === undefined ? {} : { hiddenAct: json.hidden_act as Activation };
  return readConfig<BertConfig>(json, file, RULES, (config) =>
    completeBertConfig(family, { ...config, ...activation }),
  );
}

/** The config.json that Hugging Face's libraries read. */
export function writeBertConfig(family: BertFamily, config: BertConfig): Record<string, unknown> {
  return {
    architectures: [family.className],
    model_type: family.modelType,
    hidden_act: config.hiddenAct,
    position_embedding_type: "absolute",
    ...writeConfig(config, RULES),
  };
}
