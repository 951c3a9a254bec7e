// The base of all models that sort token sequences into classes: what they take and give, the loss,
// and how they are saved.

import type { Tensor } from "../core/tensor.js";
import { ShapeError } from "../errors.js";
import { Module } from "../nn/index.js";
import { bceWithLogits, crossEntropy, mseLoss, reshape, to } from "../ops/index.js";
import { formatShape } from "../shape.js";
import type { ClassifierConfig } from "./classifier-config.js";
import type { EncoderFacts } from "./encoder.js";
import type { LoadReport } from "./pretrained.js";
import { writePretrained, type SaveOptions } from "./save-pretrained.js";

/** What a classifier takes beside the token ids. */
export interface ClassificationInputs {
  /** [B, L]: 0 or false where a token is padding. */
  attentionMask?: Tensor | null;
  /** [B, L] of integers: the part of the text that a token belongs to; of models that know it. */
  tokenTypeIds?: Tensor | null;
  /**
   * [B] of integers (cross-entropy), or floating [B] or [B, numLabels] (MSE for one label, BCE);
   * `config.problemType` decides where it is set.
   */
  labels?: Tensor | null;
}

/** What a classifier gives. */
export interface ClassificationOutput {
  /** [B, numLabels]. */
  logits: Tensor;
  /** Mean over the batch; null without labels. */
  loss: Tensor | null;
}

/** A model that sorts token sequences into classes. */
export abstract class SequenceClassifier<
  C extends ClassifierConfig = ClassifierConfig,
> extends Module {
  abstract readonly config: C;
  /** Where the weights came from and what was missing there; null for a new model. */
  loadReport: LoadReport | null = null;

  /** Sizes, whatever the kind of the model. */
  abstract get encoder(): EncoderFacts;

  /** The config.json that Hugging Face's libraries read. */
  protected abstract configJson(): Record<string, unknown>;

  /** Token ids [B, L] to logits and, with labels, the loss. */
  abstract override forward(ids: Tensor, inputs?: ClassificationInputs): ClassificationOutput;

  /**
   * Writes a directory that Hugging Face's libraries load as it is: config.json, model.safetensors
   * (or several such files and their index), and where `tokenizer` is given its files.
   * @returns the names of the files.
   * @throws CheckpointError where it cannot be written.
   */
  savePretrained(directory: string, options: SaveOptions = {}): Promise<string[]> {
    return writePretrained(directory, this.configJson(), this, options);
  }

  /** The same as {@link savePretrained}. */
  saveAs(directory: string, options: SaveOptions = {}): Promise<string[]> {
    return this.savePretrained(directory, options);
  }
}

/** The loss that Hugging Face's classifiers have, by `problemType` or what the labels suggest. */
export function lossOf(
  op: string,
  logits: Tensor,
  labels: Tensor,
  { numLabels, problemType }: ClassifierConfig,
): Tensor {
  const integers = !labels.dtype.includes("float");
  const several = integers ? "single_label_classification" : "multi_label_classification";
  const problem = problemType ?? (numLabels === 1 ? "regression" : several);
  if (problem === "single_label_classification") return crossEntropy(logits, reshape(labels, [-1]));
  const wanted = to(labels, logits.dtype);
  if (problem === "regression" && numLabels === 1) {
    return mseLoss(reshape(logits, [-1]), reshape(wanted, [-1]));
  }
  if (labels.shape.join() !== logits.shape.join()) {
    throw new ShapeError(
      `${op}: floating labels ${formatShape(labels.shape)} for logits ` +
        `${formatShape(logits.shape)}; expected one per class, or integers [B]`,
      { op },
    );
  }
  return problem === "regression" ? mseLoss(logits, wanted) : bceWithLogits(logits, wanted);
}
