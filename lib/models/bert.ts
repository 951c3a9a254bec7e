// BERT for sequence classification, with Hugging Face's module and weight names.

import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { Dropout, Linear, Module } from "../nn/index.js";
import { loadBody, loadClassifier, type Architecture } from "./architecture.js";
import {
  BERT_FAMILY,
  completeBertConfig,
  readBertConfig,
  writeBertConfig,
  type BertConfig,
} from "./bert-config.js";
import { BertEmbeddings, BertEncoder, BertPooler, countedPositions } from "./bert-layers.js";
import {
  lossOf,
  SequenceClassifier,
  type ClassificationInputs,
  type ClassificationOutput,
} from "./classifier.js";
import {
  attentionMaskOf,
  checkIds,
  initialize,
  type EncoderFacts,
  type Placement,
} from "./encoder.js";
import type { BodyOptions, PretrainedOptions } from "./pretrained.js";

const { name: NAME } = BERT_FAMILY;

/** What an encoder takes beside the token ids. */
export interface EncoderInputs {
  /** [B, L]: 0 or false where a token is padding. */
  attentionMask?: Tensor | null;
  /** [B, L] of integers; without them all are 0. */
  tokenTypeIds?: Tensor | null;
}

/** What an encoder gives. */
export interface EncoderOutput {
  /** [B, L, hiddenSize]. */
  lastHiddenState: Tensor;
  /** [B, hiddenSize]: of the first token. */
  poolerOutput: Tensor;
}

/** The body: ids [B, L] to hidden states and a pooled one. Weight names are Hugging Face's. */
export class BertModel extends Module {
  readonly config: BertConfig;
  readonly embeddings: BertEmbeddings;
  // Named as its weights are.
  readonly encoder: BertEncoder;
  readonly pooler: BertPooler;

  /**
   * New weights, drawn from the random generator; left out entries are those of the base model.
   * @throws ArgumentError for sizes that do not fit together.
   */
  constructor(config: Partial<BertConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeBertConfig(BERT_FAMILY, config);
    this.embeddings = new BertEmbeddings(this.config, placement, countedPositions, null);
    this.encoder = new BertEncoder(this.config, placement);
    this.pooler = new BertPooler(this.config, placement);
    initialize(this.namedParameters(), this.config);
  }

  /**
   * The body of a model in a directory with config.json and model.safetensors, or on the hub.
   * @throws CheckpointError where a file is missing or does not fit, HubError where the hub
   * refuses.
   */
  static fromPretrained(dirOrRepo: string, options: BodyOptions = {}): Promise<BertModel> {
    const create = (config: BertConfig, placement: Placement): BertModel =>
      new BertModel(config, placement);
    return loadBody(BERT, create, dirOrRepo, options);
  }

  override forward(ids: Tensor, inputs: EncoderInputs = {}): EncoderOutput {
    const { attentionMask = null, tokenTypeIds = null } = inputs;
    checkIds(NAME, ids, this.config.maxPositionEmbeddings, {
      "attention mask": attentionMask,
      "token types": tokenTypeIds,
    });
    return tidy(() => {
      const embedded = this.embeddings.forward(ids, tokenTypeIds);
      const lastHiddenState = this.encoder.forward(embedded, attentionMaskOf(attentionMask));
      return { lastHiddenState, poolerOutput: this.pooler.forward(lastHiddenState) };
    });
  }
}

/** BERT with a classifier over the pooled first token. Weight names are Hugging Face's. */
export class BertForSequenceClassification extends SequenceClassifier<BertConfig> {
  readonly config: BertConfig;
  readonly bert: BertModel;
  readonly dropout: Dropout;
  readonly classifier: Linear;

  /** New weights, drawn from the random generator; left out entries are those of the base model. */
  constructor(config: Partial<BertConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeBertConfig(BERT_FAMILY, config);
    const { hiddenSize, numLabels, classifierDropout, hiddenDropoutProb } = this.config;
    this.bert = new BertModel(this.config, placement);
    this.dropout = new Dropout(classifierDropout ?? hiddenDropoutProb);
    this.classifier = new Linear(hiddenSize, numLabels, placement);
    initialize(this.classifier.namedParameters(), this.config);
  }

  /**
   * A model from a directory with config.json and model.safetensors (or an index of several files),
   * or from the hub. Head weights that the files lack are drawn anew; `loadReport` lists them.
   * @throws CheckpointError where a file is missing or does not fit, HubError where the hub
   * refuses.
   */
  static fromPretrained(
    dirOrRepo: string,
    options: PretrainedOptions = {},
  ): Promise<BertForSequenceClassification> {
    return loadClassifier(BERT, dirOrRepo, options);
  }

  override get encoder(): EncoderFacts {
    const { numHiddenLayers, hiddenSize, vocabSize, padTokenId } = this.config;
    const sizes = { layers: numHiddenLayers, width: hiddenSize, vocabSize, padTokenId };
    return { name: "BERT", ...sizes, maxLength: this.config.maxPositionEmbeddings };
  }

  protected override configJson(): Record<string, unknown> {
    return writeBertConfig(BERT_FAMILY, this.config);
  }

  override forward(ids: Tensor, inputs: ClassificationInputs = {}): ClassificationOutput {
    const { labels, ...rest } = inputs;
    return tidy(() => {
      const { poolerOutput } = this.bert.forward(ids, rest);
      const logits = this.classifier.forward(this.dropout.forward(poolerOutput));
      return { logits, loss: labels ? lossOf(NAME, logits, labels, this.config) : null };
    });
  }
}

/** How a BERT is loaded. */
export const BERT: Architecture<BertConfig, BertForSequenceClassification> = {
  modelType: "bert",
  prefix: "bert",
  readConfig: (json, file) => readBertConfig(BERT_FAMILY, json, file),
  create: (config, placement) => new BertForSequenceClassification(config, placement),
  isHead: (key) => key.startsWith("classifier."),
};
