// DistilBERT for sequence classification, with Hugging Face's module and weight names, so that its
// checkpoints load and ours load there.

import { tidy } from "../core/scope.js";
import { noGrad } from "../core/context.js";
import type { Tensor } from "../core/tensor.js";
import { ShapeError } from "../errors.js";
import * as init from "../nn/init.js";
import { Dropout, Linear, Module } from "../nn/index.js";
import {
  bceWithLogits,
  crossEntropy,
  fill,
  mseLoss,
  ne,
  relu,
  reshape,
  select,
  to,
} from "../ops/index.js";
import { formatShape } from "../shape.js";
import {
  completeConfig,
  fromHuggingFace,
  toHuggingFace,
  type DistilBertConfig,
} from "./distilbert-config.js";
import { Embeddings, Transformer, type Placement } from "./distilbert-layers.js";
import {
  dtypeOf,
  loadInto,
  readPretrained,
  writePretrained,
  type PretrainedOptions,
} from "./pretrained.js";

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
    initialize(this, this.config);
  }

  /**
   * The body of a model in a directory with config.json and model.safetensors.
   * @throws CheckpointError where a file is missing or does not fit.
   */
  static async fromPretrained(
    directory: string,
    options: Pick<PretrainedOptions, "dtype" | "device"> = {},
  ): Promise<DistilBertModel> {
    const source = await readPretrained(directory);
    const { dtype = dtypeOf(source), device } = options;
    const config = fromHuggingFace(source.config, source.configFile);
    const model = new DistilBertModel(config, { dtype, device });
    await loadInto(model, source, {
      namesOf: (key) => [`distilbert.${key}`, key],
      isOptional: () => false,
    });
    return model;
  }

  /** `attentionMask` [B, L]: 0 or false where a token is padding. */
  override forward(ids: Tensor, attentionMask: Tensor | null = null): Tensor {
    checkIds(ids, attentionMask, this.config);
    return tidy(() => {
      const [batch, length] = ids.shape as [number, number];
      const seen =
        attentionMask === null
          ? null
          : reshape(attentionMask.dtype === "bool" ? attentionMask : ne(attentionMask, 0), [
              batch,
              1,
              1,
              length,
            ]);
      return this.transformer.forward(this.embeddings.forward(ids), seen);
    });
  }
}

function checkIds(ids: Tensor, attentionMask: Tensor | null, config: DistilBertConfig): void {
  if (ids.shape.length !== 2 || ids.shape[1] === 0) {
    throw new ShapeError(`DistilBert: expected ids [B, L], got ${formatShape(ids.shape)}`, {
      op: "DistilBert",
    });
  }
  if (ids.shape[1]! > config.maxPositionEmbeddings) {
    throw new ShapeError(
      `DistilBert: sequences of ${ids.shape[1]} tokens, the model has ` +
        `${config.maxPositionEmbeddings} positions; truncate them when tokenizing`,
      { op: "DistilBert" },
    );
  }
  if (attentionMask !== null && attentionMask.shape.join() !== ids.shape.join()) {
    throw new ShapeError(
      `DistilBert: attention mask ${formatShape(attentionMask.shape)} for ids ` +
        formatShape(ids.shape),
      { op: "DistilBert" },
    );
  }
}

/** What {@link DistilBertForSequenceClassification} takes beside the token ids. */
export interface ClassificationInputs {
  /** [B, L]: 0 or false where a token is padding. */
  attentionMask?: Tensor | null;
  /**
   * [B] of integers (cross-entropy), or floating [B] or [B, numLabels] (MSE for one label, BCE).
   */
  labels?: Tensor | null;
}

/** What {@link DistilBertForSequenceClassification} gives. */
export interface ClassificationOutput {
  /** [B, numLabels]. */
  logits: Tensor;
  /** Mean over the batch; null without labels. */
  loss: Tensor | null;
}

/** DistilBERT with a classifier over the first token. Weight names are Hugging Face's. */
export class DistilBertForSequenceClassification extends Module {
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
    for (const head of [this.pre_classifier, this.classifier]) initialize(head, this.config);
  }

  /**
   * A model from a directory with config.json and model.safetensors (or an index of several files).
   * Head weights that the files lack - they hold a model before fine-tuning - are drawn anew.
   * @throws CheckpointError where a file is missing or does not fit.
   */
  static async fromPretrained(
    directory: string,
    options: PretrainedOptions = {},
  ): Promise<DistilBertForSequenceClassification> {
    const source = await readPretrained(directory);
    const config = fromHuggingFace(source.config, source.configFile);
    if (options.numLabels !== undefined) config.numLabels = options.numLabels;
    const { dtype = dtypeOf(source), device, newHead = false } = options;
    const model = new DistilBertForSequenceClassification(config, { dtype, device });
    const isHead = (key: string): boolean => /^(pre_)?classifier\./.test(key);
    await loadInto(model, source, {
      // A checkpoint of the body alone has its names without the prefix.
      namesOf: (key) =>
        isHead(key) && newHead
          ? []
          : [key, ...(isHead(key) ? [] : [key.replace(/^distilbert\./, "")])],
      isOptional: isHead,
    });
    return model;
  }

  /** Writes config.json and model.safetensors. */
  async savePretrained(directory: string): Promise<void> {
    await writePretrained(directory, toHuggingFace(this.config), this);
  }

  override forward(ids: Tensor, inputs: ClassificationInputs = {}): ClassificationOutput {
    return tidy(() => {
      const hidden = this.distilbert.forward(ids, inputs.attentionMask ?? null);
      const pooled = relu(this.pre_classifier.forward(select(hidden, 1, 0)));
      const logits = this.classifier.forward(this.dropout.forward(pooled));
      const { labels } = inputs;
      return { logits, loss: labels ? lossOf(logits, labels, this.config.numLabels) : null };
    });
  }
}

function lossOf(logits: Tensor, labels: Tensor, numLabels: number): Tensor {
  const integers = !labels.dtype.includes("float");
  if (integers && numLabels > 1) return crossEntropy(logits, reshape(labels, [-1]));
  const wanted = to(labels, logits.dtype);
  if (numLabels === 1) return mseLoss(reshape(logits, [-1]), reshape(wanted, [-1]));
  if (labels.shape.join() !== logits.shape.join()) {
    throw new ShapeError(
      `DistilBert: floating labels ${formatShape(labels.shape)} for logits ` +
        `${formatShape(logits.shape)}; expected one per class, or integers [B]`,
      { op: "DistilBert" },
    );
  }
  return bceWithLogits(logits, wanted);
}

/** Draws weights as Hugging Face does: normal, biases 0, norms 1 and 0, no padding embedding. */
function initialize(model: Module, config: DistilBertConfig): void {
  noGrad(() => {
    for (const [name, parameter] of model.namedParameters()) {
      if (/LayerNorm|layer_norm/.test(name)) fill(parameter, name.endsWith("weight") ? 1 : 0);
      else if (name.endsWith("bias")) fill(parameter, 0);
      else init.normal(parameter, { mean: 0, std: config.initializerRange });
      if (name.endsWith("word_embeddings.weight") && config.padTokenId < config.vocabSize) {
        const row = select(parameter, 0, config.padTokenId);
        fill(row, 0);
        row.dispose();
      }
    }
  });
}
