// The configuration of a DistilBERT: the keys of Hugging Face's config.json that change the model.

import { checkOptions } from "../core/options.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";

/** What a DistilBERT for sequence classification is made of. */
export interface DistilBertConfig {
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
  numLabels: number;
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
};

const KEYS: Readonly<Partial<Record<keyof DistilBertConfig, string>>> = {
  vocabSize: "vocab_size",
  maxPositionEmbeddings: "max_position_embeddings",
  dim: "dim",
  nLayers: "n_layers",
  nHeads: "n_heads",
  hiddenDim: "hidden_dim",
  dropout: "dropout",
  attentionDropout: "attention_dropout",
  seqClassifDropout: "seq_classif_dropout",
  initializerRange: "initializer_range",
  padTokenId: "pad_token_id",
};

const SIZES: readonly (keyof DistilBertConfig)[] = [
  "vocabSize",
  "maxPositionEmbeddings",
  "dim",
  "nLayers",
  "nHeads",
  "hiddenDim",
  "numLabels",
];
const DROPOUTS = ["dropout", "attentionDropout", "seqClassifDropout"] as const;

/**
 * Fills what is left out with the base model's values.
 * @throws ArgumentError for sizes that are not whole positive numbers or do not fit together, and
 * for probabilities and spreads out of range.
 */
export function completeConfig(config: Partial<DistilBertConfig>): DistilBertConfig {
  checkOptions("DistilBert", config, Object.keys(DISTILBERT_BASE));
  const given = Object.entries(config).filter(
    ([, value]: [string, unknown]) => value !== undefined,
  );
  const complete = { ...DISTILBERT_BASE, ...Object.fromEntries(given) };
  const check = (
    keys: readonly (keyof DistilBertConfig)[],
    fits: (value: number) => boolean,
    what: string,
  ): void => {
    for (const key of keys) {
      if (typeof complete[key] === "number" && fits(complete[key])) continue;
      throw new ArgumentError(
        `DistilBert: expected ${key} to be ${what}, got ${describe(complete[key])}`,
        { op: "DistilBert" },
      );
    }
  };
  const { isSafeInteger } = Number;
  check(SIZES, (value) => isSafeInteger(value) && value > 0, "a whole number above 0");
  check(["padTokenId"], (value) => isSafeInteger(value) && value >= 0, "a whole number from 0 up");
  check(DROPOUTS, (value) => value >= 0 && value <= 1, "from 0 to 1");
  const spreads = ["initializerRange", "layerNormEps"] as const;
  check(spreads, (value) => Number.isFinite(value) && value >= 0, "a number from 0 up");
  if (complete.dim % complete.nHeads !== 0) {
    throw new ArgumentError(
      `DistilBert: nHeads must divide dim, got nHeads ${complete.nHeads} and dim ${complete.dim}`,
      { op: "DistilBert" },
    );
  }
  return complete;
}

/**
 * The configuration in a parsed config.json.
 * @throws CheckpointError where it is of another model or asks for what this one does not do.
 */
export function fromHuggingFace(json: Record<string, unknown>, file: string): DistilBertConfig {
  const fail = (message: string): never => {
    throw new CheckpointError(`${file}: ${message}`, { op: "fromPretrained" });
  };
  if (json.model_type !== undefined && json.model_type !== "distilbert") {
    fail(`expected model_type "distilbert", got ${JSON.stringify(json.model_type)}`);
  }
  if (json.activation !== undefined && json.activation !== "gelu") {
    fail(`expected activation "gelu", got ${JSON.stringify(json.activation)}`);
  }
  if (json.sinusoidal_pos_embds === true) {
    fail("sinusoidal position embeddings are not supported, only learned ones");
  }
  const config: Partial<DistilBertConfig> = {};
  for (const [key, name] of Object.entries(KEYS) as [keyof DistilBertConfig, string][]) {
    const value = json[name];
    if (value === undefined) continue;
    if (typeof value !== "number") {
      fail(`expected ${name} to be a number, got ${JSON.stringify(value)}`);
    }
    config[key] = value as number;
  }
  const labels = json.id2label;
  if (typeof json.num_labels === "number") config.numLabels = json.num_labels;
  else if (labels !== null && typeof labels === "object") {
    config.numLabels = Object.keys(labels).length;
  }
  try {
    return completeConfig(config);
  } catch (cause) {
    throw new CheckpointError(`${file}: ${(cause as Error).message}`, {
      op: "fromPretrained",
      cause,
    });
  }
}

/** The config.json that Hugging Face's libraries read. */
export function toHuggingFace(config: DistilBertConfig): Record<string, unknown> {
  const json: Record<string, unknown> = {
    architectures: ["DistilBertForSequenceClassification"],
    model_type: "distilbert",
    activation: "gelu",
    sinusoidal_pos_embds: false,
    tie_weights_: true,
  };
  for (const [key, name] of Object.entries(KEYS) as [keyof DistilBertConfig, string][]) {
    json[name] = config[key];
  }
  const ids = Array.from({ length: config.numLabels }, (_, i) => i);
  json.id2label = Object.fromEntries(ids.map((id) => [String(id), `LABEL_${id}`]));
  json.label2id = Object.fromEntries(ids.map((id) => [`LABEL_${id}`, id]));
  return json;
}
