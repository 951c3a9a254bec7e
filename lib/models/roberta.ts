// RoBERTa for sequence classification, with Hugging Face's module and weight names.

import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { Dropout, Linear, Module } from "../nn/index.js";
import { select, tanh } from "../ops/index.js";
import { loadBody, loadClassifier, type Architecture } from "./architecture.js";
import type { EncoderInputs } from "./bert.js";
import {
  completeBertConfig,
  readBertConfig,
  ROBERTA_FAMILY,
  writeBertConfig,
  type BertConfig,
} from "./bert-config.js";
import { BertEmbeddings, BertEncoder, positionsBeside } from "./bert-layers.js";
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

const { name: NAME } = ROBERTA_FAMILY;

/** The first positions belong to the padding. */
function longest({ maxPositionEmbeddings, padTokenId }: BertConfig): number {
  return maxPositionEmbeddings - padTokenId - 1;
}

/**
 * The body, as a classifier has it, without a pooler: token ids [B, L] to hidden states
 * [B, L, hiddenSize]. Weight names are Hugging Face's.
 */
export class RobertaModel extends Module {
  readonly config: BertConfig;
  readonly embeddings: BertEmbeddings;
  readonly encoder: BertEncoder;

  /**
   * New weights, drawn from the random generator; left out entries are those of the base model.
   * @throws ArgumentError for sizes that do not fit together.
   */
  constructor(config: Partial<BertConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeBertConfig(ROBERTA_FAMILY, config);
    const { padTokenId } = this.config;
    const positions = positionsBeside(padTokenId);
    this.embeddings = new BertEmbeddings(this.config, placement, positions, padTokenId);
    this.encoder = new BertEncoder(this.config, placement);
    initialize(this.namedParameters(), this.config);
  }

  /**
   * The body of a model in a directory with config.json and model.safetensors, or on the hub.
   * @throws CheckpointError where a file is missing or does not fit, HubError where the hub
   * refuses.
   */
  static fromPretrained(dirOrRepo: string, options: BodyOptions = {}): Promise<RobertaModel> {
    const create = (config: BertConfig, placement: Placement): RobertaModel =>
      new RobertaModel(config, placement);
    return loadBody(ROBERTA, create, dirOrRepo, options);
  }

  override forward(ids: Tensor, inputs: EncoderInputs = {}): Tensor {
    const { attentionMask = null, tokenTypeIds = null } = inputs;
    checkIds(NAME, ids, longest(this.config), {
      "attention mask": attentionMask,
      "token types": tokenTypeIds,
    });
    return tidy(() =>
      this.encoder.forward(
        this.embeddings.forward(ids, tokenTypeIds),
        attentionMaskOf(attentionMask),
      ),
    );
  }
}

class RobertaClassificationHead extends Module {
  readonly dense: Linear;
  readonly dropout: Dropout;
  readonly out_proj: Linear;

  constructor(config: BertConfig, placement: Placement) {
    super();
    const { hiddenSize, numLabels, classifierDropout, hiddenDropoutProb } = config;
    this.dense = new Linear(hiddenSize, hiddenSize, placement);
    this.dropout = new Dropout(classifierDropout ?? hiddenDropoutProb);
    this.out_proj = new Linear(hiddenSize, numLabels, placement);
  }

  override forward(hidden: Tensor): Tensor {
    const first = this.dropout.forward(select(hidden, 1, 0));
    const inner = this.dropout.forward(tanh(this.dense.forward(first)));
    return this.out_proj.forward(inner);
  }
}

/** RoBERTa with a classifier over the first token. Weight names are Hugging Face's. */
export class RobertaForSequenceClassification extends SequenceClassifier<BertConfig> {
  readonly config: BertConfig;
  readonly roberta: RobertaModel;
  readonly classifier: RobertaClassificationHead;

  /** New weights, drawn from the random generator; left out entries are those of the base model. */
  constructor(config: Partial<BertConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeBertConfig(ROBERTA_FAMILY, config);
    this.roberta = new RobertaModel(this.config, placement);
    this.classifier = new RobertaClassificationHead(this.config, placement);
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
  ): Promise<RobertaForSequenceClassification> {
    return loadClassifier(ROBERTA, dirOrRepo, options);
  }

  override get encoder(): EncoderFacts {
    const { numHiddenLayers, hiddenSize, vocabSize, padTokenId } = this.config;
    const sizes = { layers: numHiddenLayers, width: hiddenSize, vocabSize, padTokenId };
    return { name: "RoBERTa", ...sizes, maxLength: longest(this.config) };
  }

  protected override configJson(): Record<string, unknown> {
    return writeBertConfig(ROBERTA_FAMILY, this.config);
  }

  override forward(ids: Tensor, inputs: ClassificationInputs = {}): ClassificationOutput {
    const { labels, ...rest } = inputs;
    return tidy(() => {
      const logits = this.classifier.forward(this.roberta.forward(ids, rest));
      return { logits, loss: labels ? lossOf(NAME, logits, labels, this.config) : null };
    });
  }
}

/** How a RoBERTa is loaded. */
export const ROBERTA: Architecture<BertConfig, RobertaForSequenceClassification> = {
  modelType: "roberta",
  prefix: "roberta",
  readConfig: (json, file) => readBertConfig(ROBERTA_FAMILY, json, file),
  create: (config, placement) => new RobertaForSequenceClassification(config, placement),
  isHead: (key) => key.startsWith("classifier."),
};
