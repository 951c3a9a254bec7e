// From a row of logits to classes with their scores. Pure.

import type { ClassifierConfig } from "../models/index.js";

/** How logits become scores. */
export type ScoreFunction = "softmax" | "sigmoid" | "none";

/** One class and how well it fits. */
export interface Classification {
  /** The name of the class, or `LABEL_2` where config.json has none. */
  readonly label: string;
  /** A probability from 0 to 1; the logit itself where no function is applied. */
  readonly score: number;
}

/** What Hugging Face's pipeline applies to the logits of such a model. */
export function scoreFunctionOf({ numLabels, problemType }: ClassifierConfig): ScoreFunction {
  if (problemType === "regression") return "none";
  return problemType === "multi_label_classification" || numLabels === 1 ? "sigmoid" : "softmax";
}

/** Names of the classes, by id. */
export function labelsOf({ labelNames, numLabels }: ClassifierConfig): readonly string[] {
  return labelNames ?? Array.from({ length: numLabels }, (_, id) => `LABEL_${id}`);
}

/** Scores of one row of logits, by id; computed in float64. */
export function scoresOf(logits: Float32Array | Float64Array, apply: ScoreFunction): number[] {
  const row = Array.from(logits);
  if (apply === "none") return row;
  if (apply === "sigmoid") return row.map((x) => 1 / (1 + Math.exp(-x)));
  const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const exponentials = row.map((x) => Math.exp(x - most));
  const sum = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((x) => x / sum);
}

/** The `count` classes of the highest scores, the highest first; of equal ones the lower id. */
export function best(
  scores: readonly number[],
  labels: readonly string[],
  count: number,
): Classification[] {
  return scores
    .map((score, id) => ({ score, id }))
    .sort((a, b) => b.score - a.score || a.id - b.id)
    .slice(0, count)
    .map(({ score, id }) => ({ label: labels[id]!, score }));
}
