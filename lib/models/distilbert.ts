// DistilBERT for sequence classification, with Hugging Face's module and weight names, so that its
// checkpoints load and ours load there. Architecture: transformers/models/distilbert, post-norm.

import { tidy } from "../core/scope.js";
import { noGrad } from "../core/context.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, type Device, type DType } from "../dtype.js";
import { CheckpointError, DTypeError, ShapeError } from "../errors.js";
import * as init from "../nn/init.js";
import { Dropout, Embedding, LayerNorm, Linear, Module, ModuleList } from "../nn/index.js";
import {
  add,
  arange,
  bceWithLogits,
  crossEntropy,
  fill,
  gelu,
  mseLoss,
  ne,
  relu,
  reshape,
  scaledDotProductAttention,
  select,
  to,
  transpose,
} from "../ops/index.js";
import { formatShape } from "../shape.js";
import {
  completeConfig,
  fromHuggingFace,
  toHuggingFace,
  type DistilBertConfig,
} from "./distilbert-config.js";
import { readPretrained, writePretrained, type PretrainedOptions } from "./pretrained.js";

interface Placement {
  dtype?: DType;
  device?: Device;
}

class Embeddings extends Module {
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

  override forward(x: Tensor, mask: Tensor | null): Tensor {
    const { dim, nHeads, attentionDropout } = this.config;
    const [batch, length] = x.shape as [number, number];
    const heads = (projected: Tensor): Tensor =>
      transpose(reshape(projected, [batch, length, nHeads, dim / nHeads]), 1, 2);
    const attended = scaledDotProductAttention(
      heads(this.q_lin.forward(x)),
      heads(this.k_lin.forward(x)),
      heads(this.v_lin.forward(x)),
      { mask, dropout: this.training ? attentionDropout : 0 },
    );
    return this.out_lin.forward(reshape(transpose(attended, 1, 2), [batch, length, dim]));
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

  override forward(x: Tensor): Tensor {
    return this.dropout.forward(this.lin2.forward(gelu(this.lin1.forward(x))));
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
      const attended = this.sa_layer_norm.forward(add(this.attention.forward(x, mask), x));
      return this.output_layer_norm.forward(add(this.ffn.forward(attended), attended));
    });
  }
}

class Transformer extends Module {
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

/** The body: token ids [B, L] to hidden states [B, L, dim]. */
export class DistilBertModel extends Module {
  readonly embeddings: Embeddings;
  readonly transformer: Transformer;

  constructor(
    readonly config: DistilBertConfig,
    placement: Placement = {},
  ) {
    super();
    this.embeddings = new Embeddings(config, placement);
    this.transformer = new Transformer(config, placement);
  }

  /** `attentionMask` [B, L]: 0 or false where a token is padding. */
  override forward(ids: Tensor, attentionMask: Tensor | null = null): Tensor {
    checkIds(ids, attentionMask, this.config);
    return tidy(() => {
      const [batch, length] = ids.shape as [number, number];
      const seen =
        attentionMask === null
          ? null
          : reshape(
              attentionMask.dtype === "bool" ? attentionMask : ne(attentionMask, 0),
              [batch, 1, 1, length],
            );
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
  /** [B] of integers (cross-entropy), or floating [B] or [B, numLabels] (MSE for one label, BCE). */
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
    initialize(this, this.config);
  }

  /**
   * A model from a directory with config.json and model.safetensors. Head weights that the file
   * lacks (it holds a model before fine-tuning) are drawn anew.
   * @throws CheckpointError where a file is missing or does not fit.
   */
  static async fromPretrained(
    directory: string,
    options: PretrainedOptions = {},
  ): Promise<DistilBertForSequenceClassification> {
    const { configFile, config: json, weightsFile, weights } = await readPretrained(directory);
    const config = fromHuggingFace(json, configFile);
    if (options.numLabels !== undefined) config.numLabels = options.numLabels;
    const first = Object.values(weights).find((weight) => isFloating(weight.dtype));
    const dtype = options.dtype ?? first?.dtype ?? "float32";
    const model = new DistilBertForSequenceClassification(config, { dtype, device: options.device });
    loadWeights(model, weights, weightsFile);
    return model;
  }

  /** Writes config.json and model.safetensors. */
  async savePretrained(directory: string): Promise<void> {
    await writePretrained(directory, toHuggingFace(this.config), this.stateDict());
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
  if (!labels.dtype.includes("float")) {
    if (numLabels === 1) return mseLoss(reshape(logits, [-1]), to(reshape(labels, [-1]), logits.dtype));
    return crossEntropy(logits, reshape(labels, [-1]));
  }
  if (numLabels === 1) return mseLoss(reshape(logits, [-1]), reshape(labels, [-1]));
  if (labels.shape.join() !== logits.shape.join()) {
    throw new DTypeError(
      `DistilBert: floating labels ${formatShape(labels.shape)} for logits ` +
        `${formatShape(logits.shape)}; expected one per class, or integers [B]`,
      { op: "DistilBert" },
    );
  }
  return bceWithLogits(logits, labels);
}

/** Draws weights as Hugging Face does: normal, biases 0, norms 1 and 0, no padding embedding. */
function initialize(model: Module, config: DistilBertConfig): void {
  noGrad(() => {
    for (const [name, parameter] of model.namedParameters()) {
      if (/LayerNorm|layer_norm/.test(name)) fill(parameter, name.endsWith("weight") ? 1 : 0);
      else if (name.endsWith("bias")) fill(parameter, 0);
      else init.normal(parameter, { mean: 0, std: config.initializerRange });
      if (name.endsWith("word_embeddings.weight") && config.padTokenId < config.vocabSize) {
        fill(select(parameter, 0, config.padTokenId), 0);
      }
    }
  });
}


// A model before fine-tuning has no classifier, may call its body without the prefix, and holds the
// head of its own task, which is of no use here.
function loadWeights(
  model: DistilBertForSequenceClassification,
  weights: Readonly<Record<string, Tensor>>,
  file: string,
): void {
  const expected = model.stateDict();
  const state: Record<string, Tensor> = {};
  for (const name of Object.keys(expected)) {
    const weight = weights[name] ?? weights[name.replace(/^distilbert\./, "")];
    if (weight !== undefined) state[name] = weight;
    else if (/^(pre_)?classifier\./.test(name)) state[name] = expected[name]!;
    else throw new CheckpointError(`${file}: lacks the tensor ${name}`, { op: "fromPretrained" });
  }
  model.loadStateDict(state);
  for (const weight of Object.values(weights)) weight.dispose();
}
