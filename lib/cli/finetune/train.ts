// One fine-tuning run at one precision: the loop that a user of the library would write.

import { setImmediate as nextTurn } from "node:timers/promises";

import { manualSeed, noGrad, withFloat32MatmulPrecision } from "../../core/context.js";
import { tidy } from "../../core/scope.js";
import type { Tensor } from "../../core/tensor.js";
import {
  batchTensors,
  type DataLoader,
  type LabelledBatch,
  type TokenSample,
} from "../../data/index.js";
import type { Device } from "../../dtype.js";
import { Fabric, type FabricModule, type FabricOptimizer } from "../../fabric/index.js";
import type { SequenceClassifier } from "../../models/index.js";
import { argmax, eq, isfinite, sum } from "../../ops/index.js";
import { AdamW, lrScheduler, type LRScheduler } from "../../optim/index.js";
import { acceleratorOf, statisticsOf } from "../device.js";
import { InterruptedError } from "../usage.js";
import { batchesOf, type EncodedData, type Samples } from "./dataset.js";
import { explainDivergence } from "./divergence.js";
import type { Mode } from "./modes.js";
import type { Padding } from "./options.js";
import type { Progress } from "./progress.js";
import type { Divergence, EpochResult, RunResult } from "./result.js";

/** What a run is told. */
export interface TrainOptions {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly padding: Padding;
  readonly maxLength: number;
  readonly padId: number;
  readonly seed: number;
  readonly device: Device;
  /** Makes the model in float32; called once, after the seed is set. */
  readonly createModel: () => Promise<SequenceClassifier>;
  /** Stops the run between two steps. */
  readonly signal?: AbortSignal | undefined;
}

/** A finished run and its model, which the caller disposes. */
export interface TrainedRun {
  readonly result: RunResult;
  readonly model: SequenceClassifier;
}

/** The first step reserves memory; by the end of this one the pace is known. */
const PACE_STEPS = 3;

/** Runs that take longer than this are told how long. */
const LONG_RUN_SECONDS = 60;

/** A forward pass alone, as a share of a step. */
const FORWARD_SHARE = 1 / 3;

/** Share of the steps in which the learning rate rises from 0. */
const WARMUP = 0.1;

/** How many answers are right; null where one is not finite. */
function countRight(logits: Tensor, labels: Tensor): number | null {
  if (sum(isfinite(logits)).item() < logits.numel) return null;
  return sum(eq(argmax(logits, { dim: 1 }), labels)).item();
}

/** Lets timers, signals and the progress bar have their turn. */
async function turn(signal: AbortSignal | undefined): Promise<void> {
  await nextTurn();
  if (signal?.aborted === true) throw new InterruptedError();
}

/** A run under way: model, optimizer and what they have shown so far. */
class Run {
  readonly losses: number[] = [];
  readonly scales: number[] = [];
  readonly epochs: EpochResult[] = [];
  diverged: Divergence | null = null;
  seconds = 0;
  private samples = 0;
  private firstStepSeconds = 0;
  private skippedSteps = 0;
  private peakMemoryBytes: number | null = null;
  private readonly fabric: Fabric;
  private readonly model: FabricModule<SequenceClassifier>;
  private readonly optimizer: FabricOptimizer<AdamW>;
  private readonly scheduler: LRScheduler;
  private readonly loader: DataLoader<TokenSample, LabelledBatch>;

  constructor(
    private readonly mode: Mode,
    private readonly data: EncodedData,
    private readonly options: TrainOptions,
    readonly bare: SequenceClassifier,
    private readonly progress: Progress,
  ) {
    const { device, learningRate, seed, epochs } = options;
    this.fabric = new Fabric({ ...acceleratorOf(device), precision: mode.precision });
    [this.model, this.optimizer] = this.fabric.setup(
      bare,
      new AdamW(bare.namedParameters(), { lr: learningRate }),
    );
    this.loader = batchesOf(data.train, { ...options, shuffleSeed: seed });
    const totalSteps = this.loader.length * epochs;
    this.scheduler = lrScheduler.linear(this.optimizer, {
      warmupSteps: Math.round(WARMUP * totalSteps),
      totalSteps,
    });
  }

  get samplesPerSecond(): number {
    return this.samples / this.seconds;
  }

  /** One step of training; its loss, and how many answers were right. */
  private step(batch: LabelledBatch, epoch: number): { loss: number; right: number } {
    const { fabric, model, optimizer } = this;
    const compute = (): { loss: number; right: number } => {
      const { inputIds, attentionMask, labels } = batchTensors(batch, {
        device: this.options.device,
      });
      const output = model.forward(inputIds, { attentionMask, labels });
      const loss = output.loss!;
      const value = loss.item();
      this.losses.push(value);
      const right = noGrad(() => countRight(output.logits, labels)) ?? 0;
      // The gradients are still those of the step before, which show what went wrong.
      if (!Number.isFinite(value)) this.diverge(epoch);
      optimizer.zeroGrad();
      // Also after a loss that is not finite: backward lets go of what forward saved.
      fabric.backward(loss);
      if (fabric.scaler !== null) this.scales.push(fabric.scaler.getScale());
      if (this.diverged === null) {
        const outcome = fabric.optimizerStep(optimizer);
        if (outcome.skipped) this.skippedSteps++;
        this.scheduler.step(outcome);
      }
      return { loss: value, right };
    };
    return withFloat32MatmulPrecision(this.mode.matmulPrecision, () => tidy(compute));
  }

  /** Says how long the run is going to take, where that is long. */
  private foretell(): void {
    const { data, options, progress, loader } = this;
    const perStep = (this.seconds - this.firstStepSeconds) / (PACE_STEPS - 1);
    const batches = (samples: Samples): number => Math.ceil(samples.length / options.batchSize);
    const forward = options.epochs * batches(data.validation) + batches(data.test);
    const total = perStep * (options.epochs * loader.length + FORWARD_SHARE * forward);
    if (total > LONG_RUN_SECONDS) progress.estimate(total, perStep);
  }

  /** One pass over the training set; false where the run diverged in it. */
  async trainEpoch(epoch: number): Promise<boolean> {
    const { options, loader } = this;
    const before = { seconds: this.seconds, samples: this.samples, steps: this.losses.length };
    let right = 0;
    let lossSum = 0;
    this.model.train();
    for (const batch of loader) {
      await turn(options.signal);
      const start = performance.now();
      const state = this.step(batch, epoch);
      this.seconds += (performance.now() - start) / 1000;
      this.samples += batch.labels.length;
      if (this.losses.length === 1) this.firstStepSeconds = this.seconds;
      if (this.losses.length === PACE_STEPS) this.foretell();
      if (this.diverged !== null) return false;
      right += state.right;
      lossSum += state.loss;
      this.progress.step({
        epoch,
        epochs: options.epochs,
        step: this.losses.length - before.steps,
        steps: loader.length,
        loss: state.loss,
        scale: this.scales.at(-1) ?? null,
        samplesPerSecond: this.samplesPerSecond,
      });
    }
    const validationAccuracy = await this.accuracy(this.data.validation);
    if (validationAccuracy === null) {
      this.diverge(epoch);
      return false;
    }
    const seconds = this.seconds - before.seconds;
    const samples = this.samples - before.samples;
    const result = {
      loss: lossSum / loader.length,
      trainAccuracy: right / samples,
      validationAccuracy,
      seconds,
      samplesPerSecond: samples / seconds,
    };
    this.epochs.push(result);
    this.progress.epoch(epoch, options.epochs, result, this.scales.at(-1) ?? null);
    return true;
  }

  private diverge(epoch: number): void {
    // Looking for the cause takes memory that the run did not.
    this.peakMemoryBytes = this.peakMemory();
    const findings = explainDivergence(this.bare, this.optimizer);
    this.diverged = { step: this.losses.length, epoch, findings };
  }

  /** Share of right answers; null where one is not finite. */
  async accuracy(samples: Samples): Promise<number | null> {
    let right = 0;
    this.model.eval();
    for (const batch of batchesOf(samples, this.options)) {
      await turn(this.options.signal);
      const found = withFloat32MatmulPrecision(this.mode.matmulPrecision, () =>
        tidy(() =>
          noGrad(() => {
            const { inputIds, attentionMask, labels } = batchTensors(batch, {
              device: this.options.device,
            });
            return countRight(this.model.forward(inputIds, { attentionMask }).logits, labels);
          }),
        ),
      );
      if (found === null) return null;
      right += found;
    }
    return right / samples.length;
  }

  private peakMemory(): number {
    const { device } = this.options;
    return statisticsOf(device).maxMemoryAllocated(device);
  }

  result(testAccuracy: number | null): RunResult {
    const { mode, options } = this;
    const scaled = this.scales.length > 0;
    return {
      name: mode.name,
      precision: mode.precision,
      matmulPrecision: mode.matmulPrecision,
      seed: options.seed,
      seconds: this.seconds,
      samplesPerSecond: this.samplesPerSecond,
      peakMemoryBytes: this.peakMemoryBytes ?? this.peakMemory(),
      epochs: this.epochs,
      testAccuracy,
      diverged: this.diverged,
      skippedSteps: scaled ? this.skippedSteps : null,
      losses: this.losses,
      scales: scaled ? this.scales : null,
    };
  }

  /** Frees gradients and optimizer state; the weights stay. */
  release(): void {
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
  }
}

/**
 * Fine-tunes a model at one precision and tests it. The same options give bitwise the same losses.
 * A run whose loss, or an answer, is no longer finite ends there, and its result says so.
 * @throws InterruptedError when the signal is aborted.
 */
export async function train(
  mode: Mode,
  data: EncodedData,
  options: TrainOptions,
  progress: Progress,
): Promise<TrainedRun> {
  const statistics = statisticsOf(options.device);
  statistics.emptyCache(options.device);
  statistics.resetPeakMemoryStats(options.device);
  manualSeed(options.seed);
  const model = await options.createModel();
  const run = new Run(mode, data, options, model, progress);
  try {
    let going = true;
    for (let epoch = 1; going && epoch <= options.epochs; epoch++)
      going = await run.trainEpoch(epoch);
    const testAccuracy = going ? await run.accuracy(data.test) : null;
    return { result: run.result(testAccuracy), model };
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    progress.stop();
    run.release();
  }
}
