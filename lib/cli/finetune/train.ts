// One fine-tuning run at one precision: the loop that a user of the library would write.

import {
  manualSeed,
  noGrad,
  withFloat32MatmulPrecision,
} from "../../core/context.js";
import { memory } from "../../core/memory.js";
import { tidy } from "../../core/scope.js";
import type { EncodedDataset, EncodedSplit } from "./dataset.js";
import { shuffled } from "../../data/index.js";
import { Fabric } from "../../fabric/index.js";
import type { DistilBertForSequenceClassification } from "../../models/distilbert.js";
import { clipGradNorm } from "../../optim/index.js";
import { argmax, crossEntropy, eq, sum } from "../../ops/index.js";
import * as optim from "../../optim/index.js";
import { explainDivergence } from "./divergence.js";
import type { Mode } from "./modes.js";
import type { Divergence, EpochResult, RunResult } from "./result.js";

/** What a run is told. */
export interface TrainOptions {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly seed: number;
  readonly device: string;
  /** Makes the model; called once, after the seed is set. */
  readonly createModel: () => Promise<DistilBertForSequenceClassification>;
}

/** What happens in a run, as it happens. */
export interface TrainObserver {
  step(state: {
    readonly epoch: number;
    readonly step: number;
    readonly steps: number;
    readonly loss: number;
    readonly scale: number | null;
    readonly samplesPerSecond: number;
  }): void;
  epoch(index: number, result: EpochResult): void;
}
