// What a run leaves behind: the rows of the table and of results.json.

import type { Classification } from "./metrics.js";

/** One pass over the training set. */
export interface EpochResult {
  /** Mean over the steps. */
  readonly loss: number;
  /** Share of right answers, of the logits that training computed. */
  readonly trainAccuracy: number;
  readonly validationAccuracy: number;
  /** Mean F1 of the classes. */
  readonly validationF1: number;
  /** Training alone, without the validation. */
  readonly seconds: number;
  readonly samplesPerSecond: number;
}

/** How the validation texts were answered after some step. */
export interface Evaluation {
  readonly step: number;
  readonly epoch: number;
  readonly accuracy: number;
  /** Mean F1 of the classes. */
  readonly macroF1: number;
}

/** Where and why a run stopped being of use. */
export interface Divergence {
  /** The first step, counted from 1, whose loss is not finite. */
  readonly step: number;
  readonly epoch: number;
  /** What was found in the model and optimizer at that step, most telling first. */
  readonly findings: readonly string[];
}

/** One fine-tuning run at one precision. */
export interface RunResult {
  readonly name: string;
  readonly precision: string;
  readonly matmulPrecision: string;
  readonly seed: number;
  /** Training alone. */
  readonly seconds: number;
  readonly samplesPerSecond: number;
  /** Largest number of bytes that tensors held at once, weights and optimizer included. */
  readonly peakMemoryBytes: number;
  readonly epochs: readonly EpochResult[];
  readonly evaluations: readonly Evaluation[];
  /** The one whose weights were tested and saved; null where that are the last ones. */
  readonly best: Evaluation | null;
  /** Whether the run ended because no evaluation was better for long. */
  readonly stoppedEarly: boolean;
  /** Null for a run that diverged. */
  readonly testAccuracy: number | null;
  /** The same in full: F1, by class, and what was taken for what. */
  readonly test: Classification | null;
  readonly diverged: Divergence | null;
  /** Steps that the loss scaler skipped; null without one. */
  readonly skippedSteps: number | null;
  /** The loss of each step; the last one is not finite where the run diverged. */
  readonly losses: readonly number[];
  /** The loss scale at each step; null without a scaler. */
  readonly scales: readonly number[] | null;
}
