// Progress of runs: a bar where somebody watches, plain lines where the output goes to a file.

import cliProgress from "cli-progress";

import { writeLine, type OutputStream } from "../terminal.js";
import type { EpochResult, Evaluation, RunResult } from "./result.js";

/** Where a run is. */
export interface StepState {
  /** Counted from 1. */
  readonly epoch: number;
  readonly epochs: number;
  /** Step in the epoch, counted from 1. */
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Null without a loss scaler. */
  readonly scale: number | null;
  readonly samplesPerSecond: number;
}

/** Shows what happens in a run. */
export interface Progress {
  step(state: StepState): void;
  /** What the run is going to take, told once. */
  estimate(seconds: number, secondsPerStep: number): void;
  epoch(epoch: number, epochs: number, result: EpochResult, scale: number | null): void;
  /** A validation within an epoch; `best` is the best so far. */
  evaluation(evaluation: Evaluation, best: Evaluation): void;
  /** Takes the bar off and leaves the terminal as it was; may be called repeatedly. */
  stop(): void;
}

/** Without a terminal a step is written when this long has passed since the last line. */
const QUIET_MILLISECONDS = 10_000;

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** A loss in a fixed width where it is of a usual size. */
export function formatLoss(loss: number): string {
  if (!Number.isFinite(loss)) return String(loss);
  return Math.abs(loss) < 1e4 ? loss.toFixed(4) : loss.toExponential(2);
}

function pace(samplesPerSecond: number): string {
  return `${samplesPerSecond.toFixed(samplesPerSecond < 10 ? 1 : 0)} samples/s`;
}

function details({ loss, scale, samplesPerSecond }: StepState): string {
  const parts = [`loss ${formatLoss(loss)}`];
  if (scale !== null) parts.push(`scale ${scale}`);
  parts.push(pace(samplesPerSecond));
  return parts.join("  ");
}

function epochLine(
  epoch: number,
  epochs: number,
  result: EpochResult,
  scale: number | null,
): string {
  const { loss, trainAccuracy, validationAccuracy, validationF1 } = result;
  const { seconds, samplesPerSecond } = result;
  const parts = [
    `  epoch ${epoch}/${epochs}`,
    `loss ${formatLoss(loss)}`,
    `train ${percent(trainAccuracy)}`,
    `validation ${percent(validationAccuracy)}, F1 ${percent(validationF1)}`,
  ];
  if (scale !== null) parts.push(`scale ${scale}`);
  parts.push(pace(samplesPerSecond), `${seconds.toFixed(1)} s`);
  return parts.join("  ");
}

function evaluationLine({ step, accuracy, macroF1 }: Evaluation, best: Evaluation): string {
  const place = best.step === step ? "the best so far" : `best after step ${best.step}`;
  return `  step ${step}  validation ${percent(accuracy)}, F1 ${percent(macroF1)}  ${place}`;
}

/** A time as one would say it. */
export function formatDuration(seconds: number): string {
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  if (seconds < 90 * 60) return `${(seconds / 60).toFixed(0)} minutes`;
  return `${(seconds / 3600).toFixed(1)} hours`;
}

function estimateLine(seconds: number, secondsPerStep: number): string {
  const pace = secondsPerStep.toFixed(secondsPerStep < 10 ? 2 : 1);
  return `  takes about ${formatDuration(seconds)} at ${pace} s a step`;
}

/** One line at the end of a run. */
export function runLine(run: RunResult): string {
  const facts = [
    `${run.seconds.toFixed(1)} s of training`,
    `peak memory ${(run.peakMemoryBytes / 1e6).toFixed(1)} MB`,
  ];
  if (run.skippedSteps !== null) facts.push(`${run.skippedSteps} steps skipped by the loss scaler`);
  if (run.test !== null) {
    const { accuracy, macroF1 } = run.test;
    facts.unshift(`test accuracy ${percent(accuracy)}, F1 ${percent(macroF1)}`);
  }
  if (run.best !== null) {
    const { step, accuracy } = run.best;
    facts.unshift(`best validation ${percent(accuracy)} after step ${step}`);
  }
  if (run.stoppedEarly) facts.unshift(`stopped early after step ${run.losses.length}`);
  if (run.diverged !== null) {
    const { step, epoch } = run.diverged;
    facts.unshift(`diverged at step ${step} (epoch ${epoch})`);
  }
  return `  ${facts.join(", ")}`;
}

/** A bar for each epoch, with the label in front; it makes way for the epoch's line. */
function barProgress(stream: OutputStream, label: string): Progress {
  let bar: cliProgress.SingleBar | null = null;
  const stop = (): void => {
    bar?.stop();
    bar = null;
  };
  return {
    step(state) {
      const payload = { epoch: `epoch ${state.epoch}/${state.epochs}`, details: details(state) };
      if (bar === null) {
        bar = new cliProgress.SingleBar(
          {
            stream: stream as NodeJS.WritableStream,
            format: `  ${label.replaceAll("{", "(")}  {epoch} {bar} {value}/{total}  {details}`,
            hideCursor: true,
            clearOnComplete: true,
            // Ctrl-C is dealt with where the run is, which stops the bar on its way out.
            gracefulExit: false,
            barsize: Math.max(8, Math.min(30, (stream.columns ?? 80) - label.length - 64)),
            fps: 8,
          },
          cliProgress.Presets.shades_classic,
        );
        bar.start(state.steps, state.step, payload);
      } else bar.update(state.step, payload);
    },
    estimate(seconds, secondsPerStep) {
      stop();
      writeLine(stream, estimateLine(seconds, secondsPerStep));
    },
    epoch(epoch, epochs, result, scale) {
      stop();
      writeLine(stream, epochLine(epoch, epochs, result, scale));
    },
    evaluation(evaluation, best) {
      stop();
      writeLine(stream, evaluationLine(evaluation, best));
    },
    stop,
  };
}

function lineProgress(stream: OutputStream, quietMilliseconds: number): Progress {
  let last = performance.now();
  const write = (line: string): void => {
    writeLine(stream, line);
    last = performance.now();
  };
  return {
    step(state) {
      if (performance.now() - last < quietMilliseconds) return;
      const { epoch, epochs, step, steps } = state;
      write(`  epoch ${epoch}/${epochs}  step ${step}/${steps}  ${details(state)}`);
    },
    estimate(seconds, secondsPerStep) {
      write(estimateLine(seconds, secondsPerStep));
    },
    epoch(epoch, epochs, result, scale) {
      write(epochLine(epoch, epochs, result, scale));
    },
    evaluation(evaluation, best) {
      write(evaluationLine(evaluation, best));
    },
    stop() {
      // Nothing to take off.
    },
  };
}

/** Progress that fits the stream. `label` names the run in the bar. */
export function createProgress(
  stream: OutputStream,
  label: string,
  quietMilliseconds = QUIET_MILLISECONDS,
): Progress {
  return stream.isTTY === true
    ? barProgress(stream, label)
    : lineProgress(stream, quietMilliseconds);
}
