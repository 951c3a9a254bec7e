// One fine-tuning run at one precision: the loop that a user of the library would write.

import { setImmediate as nextTurn } from "node:timers/promises";

import {
  getRandomState,
  manualSeed,
  noGrad,
  setRandomState,
  withFloat32MatmulPrecision,
} from "../../core/context.js";
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
import { argmax, eq, mul, sum } from "../../ops/index.js";
import { AdamW, lrScheduler, type LRScheduler } from "../../optim/index.js";
import { acceleratorOf, statisticsOf } from "../device.js";
import { InterruptedError } from "../usage.js";
import { BestWeights } from "./best.js";
import { releaseState, type EpochTally, type TrainingState } from "./checkpoint.js";
import { batchesOf, type EncodedData, type Samples } from "./dataset.js";
import { explainDivergence } from "./divergence.js";
import { allFinite, evaluate } from "./evaluate.js";
import type { Classification } from "./metrics.js";
import type { Mode } from "./modes.js";
import type { Padding } from "./options.js";
import type { Progress } from "./progress.js";
import type { Divergence, EpochResult, RunResult } from "./result.js";

/** What a run is told. */
export interface TrainOptions {
  readonly epochs: number;
  /** Ends after so many steps, whatever the epochs; null: after the epochs. */
  readonly steps: number | null;
  /** Batches whose gradients are added up for one step. */
  readonly accumulate: number;
  /** Largest norm of all gradients together; null: any. */
  readonly clipNorm: number | null;
  /** How the learning rate falls after warmup, by the steps that were applied. */
  readonly schedule: "linear" | "cosine";
  /** Steps after which the run is validated, besides after each epoch; null: only then. */
  readonly evalEvery: number | null;
  /** Evaluations in a row without a better one that end the run; null: it is not ended. */
  readonly patience: number | null;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly padding: Padding;
  readonly maxLength: number;
  /** Names of the classes, by label. */
  readonly classes: readonly string[];
  readonly padId: number;
  readonly seed: number;
  readonly device: Device;
  /** Makes the model in float32; called once, after the seed is set. */
  readonly createModel: () => Promise<SequenceClassifier>;
  /** Stops the run between two steps. */
  readonly signal?: AbortSignal | undefined;
  /** Steps after which {@link save} is called, again and again; null: never. */
  readonly checkpointEvery?: number | null;
  /** Keeps a state that the run can be gone on with, also when it is stopped. */
  readonly save?: ((state: TrainingState) => Promise<void>) | undefined;
  /** Where the run goes on; its tensors are freed. */
  readonly resume?: TrainingState | undefined;
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

interface StepFacts {
  readonly loss: number;
  readonly right: number;
  readonly samples: number;
}

const NO_STEPS: EpochTally = { steps: 0, samples: 0, right: 0, loss: 0, seconds: 0 };

/** How many answers are right; null where one is not finite. */
function countRight(logits: Tensor, labels: Tensor): number | null {
  if (!allFinite(logits)) return null;
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
  /** Steps since the start, or since the run went on. */
  private ownSteps = 0;
  /** Of the steps after the first of them, up to the one that shows the pace. */
  private paceSeconds = 0;
  private skippedSteps = 0;
  private tally = NO_STEPS;
  /** The place in the data and the random state after the last step: a batch may be drawn since. */
  private place: Pick<TrainingState, "place" | "random">;
  private peakMemoryBytes: number | null = null;
  /** Of the run that this one goes on with. */
  private peakBefore = 0;
  private readonly fabric: Fabric;
  private readonly model: FabricModule<SequenceClassifier>;
  private readonly optimizer: FabricOptimizer<AdamW>;
  private readonly scheduler: LRScheduler;
  private readonly loader: DataLoader<TokenSample, LabelledBatch>;
  private readonly best: BestWeights;
  private readonly stepsPerEpoch: number;
  private readonly totalSteps: number;
  /** Epochs that are begun. */
  readonly totalEpochs: number;

  constructor(
    private readonly mode: Mode,
    private readonly data: EncodedData,
    private readonly options: TrainOptions,
    readonly bare: SequenceClassifier,
    private readonly progress: Progress,
  ) {
    const { device, learningRate, seed } = options;
    this.fabric = new Fabric({ ...acceleratorOf(device), precision: mode.precision });
    [this.model, this.optimizer] = this.fabric.setup(
      bare,
      new AdamW(bare.namedParameters(), { lr: learningRate }),
    );
    this.loader = batchesOf(data.train, { ...options, shuffleSeed: seed });
    // A last step of fewer batches counts as one.
    this.stepsPerEpoch = Math.ceil(this.loader.length / options.accumulate);
    this.totalSteps = options.steps ?? this.stepsPerEpoch * options.epochs;
    this.totalEpochs = Math.ceil(this.totalSteps / this.stepsPerEpoch);
    this.scheduler = lrScheduler[options.schedule](this.optimizer, {
      warmupSteps: Math.round(WARMUP * this.totalSteps),
      totalSteps: this.totalSteps,
    });
    const { evalEvery, patience } = options;
    this.best = new BestWeights(evalEvery !== null || patience !== null, patience);
    this.place = this.here();
  }

  private here(): Pick<TrainingState, "place" | "random"> {
    return { place: this.loader.stateDict(), random: getRandomState() };
  }

  /** Goes on where a run was, and frees the state. */
  restore(state: TrainingState): void {
    const { record, place, random, model, optimizer, scheduler, scaler, best } = state;
    try {
      this.bare.loadStateDict(model);
      this.optimizer.loadStateDict(optimizer);
      this.scheduler.loadStateDict(scheduler);
      if (scaler !== null) this.fabric.scaler?.loadStateDict(scaler);
      this.loader.loadStateDict(place);
      setRandomState(random);
    } finally {
      releaseState([model, optimizer]);
      this.best.restore(best);
    }
    // Not as arguments, of which there can be too many.
    for (const loss of record.losses) this.losses.push(loss);
    for (const scale of record.scales) this.scales.push(scale);
    this.epochs.push(...record.epochs);
    this.tally = record.tally;
    this.seconds = record.seconds;
    this.samples = record.samples;
    this.skippedSteps = record.skippedSteps;
    this.peakBefore = record.peakMemoryBytes;
    this.place = { place, random };
  }

  /** Hands the state after the last step to `save`. */
  async save(): Promise<void> {
    const { losses, scales, epochs, tally, seconds, samples, skippedSteps } = this;
    const peakMemoryBytes = this.peakMemory();
    const model = this.bare.stateDict();
    try {
      await this.options.save?.({
        record: { losses, scales, epochs, tally, seconds, samples, skippedSteps, peakMemoryBytes },
        ...this.place,
        model,
        optimizer: this.optimizer.stateDict(),
        scheduler: this.scheduler.stateDict(),
        scaler: this.fabric.scaler?.stateDict() ?? null,
        best: this.best.state(),
      });
    } finally {
      releaseState(model);
    }
  }

  get samplesPerSecond(): number {
    return this.samples / this.seconds;
  }

  /**
   * One step of training on the texts of some batches: the mean loss of all of them, and how many
   * answers were right.
   */
  private step(batches: readonly LabelledBatch[], epoch: number): StepFacts {
    const { fabric, model, optimizer, options } = this;
    const samples = batches.reduce((sum, { labels }) => sum + labels.length, 0);
    let loss = 0;
    let right = 0;
    const accumulate = (batch: LabelledBatch, first: boolean): void => {
      const { inputIds, attentionMask, labels } = batchTensors(batch, { device: options.device });
      const output = model.forward(inputIds, { attentionMask, labels });
      const share = batch.labels.length / samples;
      loss += output.loss!.item() * share;
      right += noGrad(() => countRight(output.logits, labels)) ?? 0;
      // The gradients are still those of the step before, which show what went wrong.
      if (!Number.isFinite(loss)) this.diverge(epoch, this.losses.length + 1);
      if (first) optimizer.zeroGrad();
      // Also after a loss that is not finite: backward lets go of what forward saved.
      fabric.backward(share === 1 ? output.loss! : mul(output.loss!, share));
    };
    const apply = (): void => {
      // A norm that is not finite shows in the next loss.
      const clipping = { maxNorm: options.clipNorm!, errorIfNonfinite: false };
      if (options.clipNorm !== null) fabric.clipGradients(model, optimizer, clipping);
      const outcome = fabric.optimizerStep(optimizer);
      if (outcome.skipped) this.skippedSteps++;
      this.scheduler.step(outcome);
    };
    const compute = (): void => {
      for (const [i, batch] of batches.entries()) {
        tidy(() => {
          accumulate(batch, i === 0);
        });
        if (this.diverged !== null) break;
      }
      if (fabric.scaler !== null) this.scales.push(fabric.scaler.getScale());
      if (this.diverged === null) tidy(apply);
    };
    withFloat32MatmulPrecision(this.mode.matmulPrecision, compute);
    this.losses.push(loss);
    return { loss, right, samples };
  }

  /** Says how long the run is going to take, where that is long. */
  private foretell(): void {
    const { data, options, progress } = this;
    const perStep = this.paceSeconds / (PACE_STEPS - 1);
    const batches = (samples: Samples): number => Math.ceil(samples.length / options.batchSize);
    const epochs = this.totalEpochs - this.epochs.length;
    const forward = (epochs * batches(data.validation) + batches(data.test)) / options.accumulate;
    const steps = this.totalSteps - this.losses.length;
    const between = options.evalEvery === null ? 0 : Math.floor(steps / options.evalEvery);
    const passes = forward + (between * batches(data.validation)) / options.accumulate;
    const total = perStep * (steps + FORWARD_SHARE * passes);
    if (total > LONG_RUN_SECONDS) progress.estimate(total, perStep);
  }

  /** One pass over the training set; false where the run diverged in it. */
  async trainEpoch(epoch: number): Promise<boolean> {
    const { options, loader } = this;
    const checkpointEvery = options.checkpointEvery ?? null;
    const before = (epoch - 1) * this.stepsPerEpoch;
    let left = loader.length - this.place.place.batch;
    let batches: LabelledBatch[] = [];
    // Where the run was stopped during an evaluation.
    if (!(await this.validateIfDue(epoch))) return false;
    this.model.train();
    for (const batch of loader) {
      await turn(options.signal);
      if (this.losses.length >= this.totalSteps || this.best.exhausted) break;
      batches.push(batch);
      left--;
      if (batches.length < options.accumulate && left > 0) continue;
      const start = performance.now();
      const facts = this.step(batches, epoch);
      batches = [];
      this.count(facts, (performance.now() - start) / 1000);
      if (this.diverged !== null) return false;
      this.place = this.here();
      this.progress.step({
        epoch,
        epochs: this.totalEpochs,
        step: this.tally.steps,
        steps: Math.min(this.stepsPerEpoch, this.totalSteps - before),
        loss: facts.loss,
        scale: this.scales.at(-1) ?? null,
        samplesPerSecond: this.samplesPerSecond,
      });
      if (!(await this.validateIfDue(epoch))) return false;
      if (checkpointEvery !== null && this.losses.length % checkpointEvery === 0) await this.save();
    }
    if (!(await this.validate(epoch))) return false;
    const validation = this.best.at(this.losses.length)!;
    const { steps, samples, right, loss, seconds } = this.tally;
    const result = {
      loss: loss / steps,
      trainAccuracy: right / samples,
      validationAccuracy: validation.accuracy,
      validationF1: validation.macroF1,
      seconds,
      samplesPerSecond: samples / seconds,
    };
    this.epochs.push(result);
    this.tally = NO_STEPS;
    this.place = this.here();
    this.progress.epoch(epoch, this.totalEpochs, result, this.scales.at(-1) ?? null);
    return true;
  }

  private count({ loss, right, samples }: StepFacts, seconds: number): void {
    const { tally } = this;
    this.tally = {
      steps: tally.steps + 1,
      samples: tally.samples + samples,
      right: tally.right + right,
      loss: tally.loss + loss,
      seconds: tally.seconds + seconds,
    };
    this.seconds += seconds;
    this.samples += samples;
    this.ownSteps++;
    if (this.ownSteps > 1) this.paceSeconds += seconds;
    if (this.ownSteps === PACE_STEPS) this.foretell();
  }

  private diverge(epoch: number, step: number): void {
    // Looking for the cause takes memory that the run did not.
    this.peakMemoryBytes = this.peakMemory();
    const findings = explainDivergence(this.bare, this.optimizer);
    this.diverged = { step, epoch, findings };
  }

  /** How samples are classified; null where an answer is not finite. */
  evaluate(samples: Samples): Promise<Classification | null> {
    const { options } = this;
    return evaluate(this.model, samples, this.mode, {
      ...options,
      turn: () => turn(options.signal),
    });
  }

  /** Validates, unless that was done after this step; false where an answer is not finite. */
  private async validate(epoch: number): Promise<boolean> {
    const step = this.losses.length;
    if (this.best.at(step) !== null) return true;
    const found = await this.evaluate(this.data.validation);
    if (found === null) {
      this.diverge(epoch, step);
      return false;
    }
    const { accuracy, macroF1 } = found;
    this.best.note({ step, epoch, accuracy, macroF1 }, this.bare);
    return true;
  }

  /** Validates where --eval-every asks for it; false where the run diverged. */
  private async validateIfDue(epoch: number): Promise<boolean> {
    const step = this.losses.length;
    const { evalEvery } = this.options;
    if (evalEvery === null || step === 0 || step % evalEvery > 0) return true;
    if (this.best.at(step) !== null) return true;
    if (!(await this.validate(epoch))) return false;
    this.model.train();
    this.progress.evaluation(this.best.at(step)!, this.best.best!);
    return true;
  }

  private peakMemory(): number {
    const { device } = this.options;
    return Math.max(this.peakBefore, statisticsOf(device).maxMemoryAllocated(device));
  }

  /** Whether there is no epoch left to train. */
  get isDone(): boolean {
    return this.epochs.length >= this.totalEpochs || this.best.exhausted;
  }

  /** Tests the model, with the best weights where they are kept. */
  async test(): Promise<Classification | null> {
    this.best.apply(this.bare);
    return this.evaluate(this.data.test);
  }

  result(test: Classification | null): RunResult {
    const { mode, options, best } = this;
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
      evaluations: best.evaluations,
      best: best.keep && this.diverged === null ? best.best : null,
      stoppedEarly: best.exhausted,
      testAccuracy: test?.accuracy ?? null,
      test,
      diverged: this.diverged,
      skippedSteps: scaled ? this.skippedSteps : null,
      losses: this.losses,
      scales: scaled ? this.scales : null,
    };
  }

  /** Frees gradients, optimizer state and the copy of the best weights; the model's stay. */
  release(): void {
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
    this.best.release();
  }
}

/**
 * Fine-tunes a model at one precision and tests it. The same options give bitwise the same losses.
 * A run whose loss, or an answer, is no longer finite ends there, and its result says so. A run that
 * goes on from a state gives what it would have given without a stop.
 * @throws InterruptedError when the signal is aborted, after the state was saved; CheckpointError for
 * a state that does not fit.
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
    if (options.resume !== undefined) {
      run.restore(options.resume);
      // What was read is no memory of the run.
      statistics.resetPeakMemoryStats(options.device);
    }
    let going = true;
    while (going && !run.isDone) going = await run.trainEpoch(run.epochs.length + 1);
    const test = going ? await run.test() : null;
    return { result: run.result(test), model };
  } catch (error) {
    try {
      if (error instanceof InterruptedError) await run.save();
    } finally {
      model.dispose();
    }
    throw error;
  } finally {
    progress.stop();
    run.release();
  }
}
