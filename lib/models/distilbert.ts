// DistilBERT for sequence classification, with Hugging Face's module and weight names, so that its
// checkpoints load and ours load there.

import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { Dropout, Linear, Module } from "../nn/index.js";
import { relu, select } from "../ops/index.js";
import { loadBody, loadClassifier, type Architecture } from "./architecture.js";
import {
  lossOf,
  SequenceClassifier,
  type ClassificationInputs,
  type ClassificationOutput,
} from "./classifier.js";
import {
  completeConfig,
  fromHuggingFace,
  toHuggingFace,
  type DistilBertConfig,
} from "./distilbert-config.js";
import { Embeddings, Transformer } from "./distilbert-layers.js";
import {
  attentionMaskOf,
  checkIds,
  initialize,
  refuseInput,
  type EncoderFacts,
  type Placement,
} from "./encoder.js";
import type { BodyOptions, PretrainedOptions } from "./pretrained.js";

const NAME = "DistilBert";

/** The body: token ids [B, L] to hidden states [B, L, dim]. Weight names are Hugging Face's. */
export class DistilBertModel extends Module {
  readonly config: DistilBertConfig;
  readonly embeddings: Embeddings;
  readonly transformer: Transformer;

  /**
   * New weights, drawn from the random generator; left out entries are those of the base model.
   * @throws ArgumentError for sizes that do not fit together.
   */
  constructor(config: Partial<DistilBertConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeConfig(config);
    this.embeddings = new Embeddings(this.config, placement);
    this.transformer = new Transformer(this.config, placement);
    initialize(this.namedParameters(), this.config);
  }

  /**
   * The body of a model in a directory with config.json and model.safetensors, or on the hub.
   * @throws CheckpointError where a file is missing or does not fit, HubError where the hub
   * refuses.
   */
  static fromPretrained(dirOrRepo: string, options: BodyOptions = {}): Promise<DistilBertModel> {
    const create = (config: DistilBertConfig, placement: Placement): DistilBertModel =>
      new DistilBertModel(config, placement);
    return loadBody(DISTILBERT, create, dirOrRepo, options);
  }

  /** `attentionMask` [B, L]: 0 or false where a token is padding. */
  override forward(ids: Tensor, attentionMask: Tensor | null = null): Tensor {
    checkIds(NAME, ids, this.config.maxPositionEmbeddings, { "attention mask": attentionMask });
    return tidy(() =>
      this.transformer.forward(this.embeddings.forward(ids), attentionMaskOf(attentionMask)),
    );
  }
}

/** DistilBERT with a classifier over the first token. Weight names are Hugging Face's. */
export class DistilBertForSequenceClassification extends SequenceClassifier<DistilBertConfig> {
  readonly config: DistilBertConfig;
  readonly distilbert: DistilBertModel;
  readonly pre_classifier: Linear;
  readonly classifier: Linear;
  readonly dropout: Dropout;

  /** New weights, drawn from the random generator; left out entries are those of the base model. */
  constructor(config: Partial<DistilBertConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeConfig(config);
    const { dim, numLabels, seqClassifDropout } = this.config;
    this.distilbert = new DistilBertModel(this.config, placement);
    this.pre_classifier = new Linear(dim, dim, placement);
    this.classifier = new Linear(dim, numLabels, placement);
    this.dropout = new Dropout(seqClassifDropout);
    for (const head of [this.pre_classifier, this.classifier]) {
      initialize(head.namedParameters(), this.config);
    }
  }

  /**
   * A model from a directory with config.json and model.safetensors (or an index of several files),
   * or from the hub. Head weights that the files lack - they hold a model before fine-tuning - are
   * drawn anew; `loadReport` lists them.
   * @throws CheckpointError where a file is missing or does not fit, HubError where the hub
   * refuses.
   */
  static fromPretrained(
    dirOrRepo: string,
    options: PretrainedOptions = {},
  ): Promise<DistilBertForSequenceClassification> {
    return loadClassifier(DISTILBERT, dirOrRepo, options);
  }

  override get encoder(): EncoderFacts {
    const { nLayers, dim, vocabSize, maxPositionEmbeddings, padTokenId } = this.config;
    const sizes = { layers: nLayers, width: dim, vocabSize, padTokenId };
    return { name: "DistilBERT", ...sizes, maxLength: maxPositionEmbeddings };
  }

  protected override configJson(): Record<string, unknown> {
    return toHuggingFace(this.config);
  }

  /** @throws ArgumentError for token types, which DistilBERT does not know. */
  override forward(ids: Tensor, inputs: ClassificationInputs = {}): ClassificationOutput {
    refuseInput(NAME, "tokenTypeIds", inputs.tokenTypeIds);
    return tidy(() => {
      const hidden = this.distilbert.forward(ids, inputs.attentionMask ?? null);
      const pooled = relu(this.pre_classifier.forward(select(hidden, 1, 0)));
      const logits = this.classifier.forward(this.dropout.forward(pooled));
      const { labels } = inputs;
      return { logits, loss: labels ? lossOf(NAME, logits, labels, this.config) : null };
    });
  }
}

/** How a DistilBERT is loaded. */
export const DISTILBERT: Architecture<DistilBertConfig, DistilBertForSequenceClassification> = {
  modelType: "distilbert",
  prefix: "distilbert",
  readConfig: fromHuggingFace,
  create: (config, placement) => new DistilBertForSequenceClassification(config, placement),
  isHead: (key) => /^(pre_)?classifier\./.test(key),
};
