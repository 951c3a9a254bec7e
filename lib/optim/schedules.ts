// Schedules by name. The ones with warmup are those of Hugging Face's transformers
// (optimization.py); the others are torch's, in closed form. All are stepped once per update.

import { ArgumentError, describe } from "../errors.js";
import { checkOptions } from "../core/options.js";
import {
  checkOptimizer,
  LRScheduler,
  type ScheduledOptimizer,
  type ScheduleOptions,
} from "./lr-scheduler.js";

function checkNumber(op: string, name: string, value: unknown, valid: boolean, what: string): void {
  if (typeof value === "number" && valid) return;
  throw new ArgumentError(`lrScheduler.${op}: ${name} — expected ${what}, got ${describe(value)}`, {
    op: `lrScheduler.${op}`,
  });
}

function checkSteps(op: string, name: string, value: unknown): void {
  const valid = Number.isFinite(value) && (value as number) >= 0;
  checkNumber(op, name, value, valid, "a number of at least 0");
}

function checkFinite(op: string, name: string, value: unknown): void {
  checkNumber(op, name, value, Number.isFinite(value), "a finite number");
}

/** Options of schedules that warm up: the rate rises linearly from 0. */
export interface WarmupOptions extends ScheduleOptions {
  /** Steps until the rate is reached; default 0. */
  warmupSteps?: number;
  /** The same by Hugging Face's name. */
  numWarmupSteps?: number;
}

/** Options of schedules with an end, one of the two. */
export interface DecayOptions extends WarmupOptions {
  /** Steps of the whole training, warmup included. */
  totalSteps?: number;
  /** The same by Hugging Face's name. */
  numTrainingSteps?: number;
}

const WARMUP = ["lastEpoch", "warmupSteps", "numWarmupSteps"];
const DECAY = [...WARMUP, "totalSteps", "numTrainingSteps"];

/** Checks what a schedule is made of; returns the steps under one name. */
function settingsOf<O extends DecayOptions>(
  name: string,
  optimizer: ScheduledOptimizer,
  options: O,
  names: readonly string[],
): O & { warmupSteps: number; totalSteps: number } {
  const op = `lrScheduler.${name}`;
  checkOptimizer(optimizer, op);
  checkOptions(op, options, names);
  for (const [ours, theirs] of [
    ["warmupSteps", "numWarmupSteps"],
    ["totalSteps", "numTrainingSteps"],
  ] as const) {
    if (options[ours] === undefined || options[theirs] === undefined) continue;
    throw new ArgumentError(`${op}: ${ours} and ${theirs} are the same, got both`, { op });
  }
  const { warmupSteps = options.numWarmupSteps ?? 0 } = options;
  // Where there is an end, its check refuses what is left out.
  const totalSteps = (options.totalSteps ?? options.numTrainingSteps)!;
  return { ...options, warmupSteps, totalSteps };
}

type Factor = (step: number) => number;

function byFactor(
  optimizer: ScheduledOptimizer,
  options: ScheduleOptions,
  factor: Factor,
): LRScheduler {
  return new LRScheduler(optimizer, (base, step) => base * factor(step), options);
}

/** The rise, and after it `decay` of how much of the rest is behind: 0 to 1 and beyond. */
function warmupThen(
  op: string,
  { warmupSteps, totalSteps }: { warmupSteps: number; totalSteps: number },
  decay: (progress: number) => number,
): Factor {
  checkSteps(op, "warmupSteps", warmupSteps);
  checkSteps(op, "totalSteps", totalSteps);
  return (step) =>
    step < warmupSteps
      ? step / Math.max(1, warmupSteps)
      : decay((step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
}

/** A constant rate after warmup. */
export function constant(optimizer: ScheduledOptimizer, options: WarmupOptions = {}): LRScheduler {
  const { warmupSteps } = settingsOf("constant", optimizer, options, WARMUP);
  checkSteps("constant", "warmupSteps", warmupSteps);
  return byFactor(optimizer, options, (step) =>
    step < warmupSteps ? step / Math.max(1, warmupSteps) : 1,
  );
}

/** After warmup linearly down to 0 at `totalSteps`. */
export function linear(optimizer: ScheduledOptimizer, options: DecayOptions): LRScheduler {
  const { warmupSteps, totalSteps } = settingsOf("linear", optimizer, options, DECAY);
  checkSteps("linear", "warmupSteps", warmupSteps);
  checkSteps("linear", "totalSteps", totalSteps);
  return byFactor(optimizer, options, (step) =>
    step < warmupSteps
      ? step / Math.max(1, warmupSteps)
      : Math.max(0, (totalSteps - step) / Math.max(1, totalSteps - warmupSteps)),
  );
}

/** Options of {@link cosine}. */
export interface CosineOptions extends DecayOptions {
  /** Waves of the cosine until the end; default 0.5, from the top to 0. */
  cycles?: number;
  /** The lowest share of the rate; default 0. */
  minLrRate?: number;
}

/** After warmup down along a cosine. */
export function cosine(optimizer: ScheduledOptimizer, options: CosineOptions): LRScheduler {
  const settings = settingsOf("cosine", optimizer, options, [...DECAY, "cycles", "minLrRate"]);
  const { cycles = 0.5, minLrRate = 0 } = settings;
  checkSteps("cosine", "cycles", cycles);
  checkNumber("cosine", "minLrRate", minLrRate, minLrRate >= 0 && minLrRate <= 1, "0 to 1");
  const factor = warmupThen("cosine", settings, (progress) => {
    const wave = 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress));
    return Math.max(0, wave * (1 - minLrRate) + minLrRate);
  });
  return byFactor(optimizer, options, factor);
}

/** Options of {@link cosineWithHardRestarts}. */
export interface HardRestartOptions extends DecayOptions {
  /** How many times the rate goes from the top to 0; default 1. */
  cycles?: number;
}

/** After warmup down along a cosine, `cycles` times from the top. */
export function cosineWithHardRestarts(
  optimizer: ScheduledOptimizer,
  options: HardRestartOptions,
): LRScheduler {
  const name = "cosineWithHardRestarts";
  const settings = settingsOf(name, optimizer, options, [...DECAY, "cycles"]);
  const { cycles = 1 } = settings;
  checkSteps(name, "cycles", cycles);
  const factor = warmupThen(name, settings, (progress) =>
    progress >= 1 ? 0 : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * progress) % 1)))),
  );
  return byFactor(optimizer, options, factor);
}

/** Options of {@link polynomial}. */
export interface PolynomialOptions extends DecayOptions {
  /** The rate at the end, for the optimizer's own rate; default 1e-7. */
  lrEnd?: number;
  /** Power of the share that is left; default 1. */
  power?: number;
}

/**
 * After warmup down to `lrEnd` with a power of the share of steps that is left.
 * @throws ArgumentError unless the optimizer's rate is above `lrEnd`.
 */
export function polynomial(optimizer: ScheduledOptimizer, options: PolynomialOptions): LRScheduler {
  const settings = settingsOf("polynomial", optimizer, options, [...DECAY, "lrEnd", "power"]);
  const { lrEnd = 1e-7, power = 1 } = settings;
  const lr = optimizer.defaults.lr;
  checkSteps("polynomial", "lrEnd", lrEnd);
  checkFinite("polynomial", "power", power);
  checkNumber("polynomial", "lrEnd", lrEnd, lrEnd < lr, `a rate below the optimizer's, ${lr}`);
  const factor = warmupThen("polynomial", settings, (progress) =>
    progress > 1 ? lrEnd / lr : ((lr - lrEnd) * (1 - progress) ** power + lrEnd) / lr,
  );
  return byFactor(optimizer, options, factor);
}

/** Options of {@link inverseSqrt}. */
export interface InverseSqrtOptions extends WarmupOptions {
  /** Scale of time; default the warmup, or 10000 without one. */
  timescale?: number;
}

/** After warmup down with the inverse square root of the step. */
export function inverseSqrt(
  optimizer: ScheduledOptimizer,
  options: InverseSqrtOptions = {},
): LRScheduler {
  const { warmupSteps } = settingsOf("inverseSqrt", optimizer, options, [...WARMUP, "timescale"]);
  const { timescale = warmupSteps > 0 ? warmupSteps : 10_000 } = options;
  checkSteps("inverseSqrt", "warmupSteps", warmupSteps);
  checkNumber("inverseSqrt", "timescale", timescale, timescale > 0, "a number above 0");
  return byFactor(optimizer, options, (step) =>
    step < warmupSteps
      ? step / Math.max(1, warmupSteps)
      : 1 / Math.sqrt((step + timescale - warmupSteps) / timescale),
  );
}

/** The rate times what `factor` gives for the step; a list has one function per group. */
export function lambdaLR(
  optimizer: ScheduledOptimizer,
  factor: Factor | readonly Factor[],
  options: ScheduleOptions = {},
): LRScheduler {
  settingsOf("lambdaLR", optimizer, options, ["lastEpoch"]);
  const groups = optimizer.paramGroups.length;
  const given: unknown =
    typeof factor === "function" ? Array.from({ length: groups }, () => factor) : factor;
  const factors = Array.isArray(given) ? (given as Factor[]) : [];
  if (factors.length !== groups) {
    throw new ArgumentError(
      `lrScheduler.lambdaLR: expected a function, or one for each of ${groups} groups, got ` +
        describe(factor),
      { op: "lrScheduler.lambdaLR" },
    );
  }
  return new LRScheduler(optimizer, (base, step, group) => base * factors[group]!(step), options);
}

/** Options of {@link stepLR}. */
export interface StepLROptions extends ScheduleOptions {
  stepSize: number;
  /** Default 0.1. */
  gamma?: number;
}

/** Times `gamma` every `stepSize` steps. */
export function stepLR(optimizer: ScheduledOptimizer, options: StepLROptions): LRScheduler {
  settingsOf("stepLR", optimizer, options, ["lastEpoch", "stepSize", "gamma"]);
  const { stepSize, gamma = 0.1 } = options;
  checkNumber("stepLR", "stepSize", stepSize, stepSize > 0, "a number above 0");
  checkFinite("stepLR", "gamma", gamma);
  return byFactor(optimizer, options, (step) => gamma ** Math.floor(step / stepSize));
}

/** Options of {@link multiStepLR}. */
export interface MultiStepLROptions extends ScheduleOptions {
  milestones: readonly number[];
  /** Default 0.1. */
  gamma?: number;
}

/** Times `gamma` at each milestone. */
export function multiStepLR(
  optimizer: ScheduledOptimizer,
  options: MultiStepLROptions,
): LRScheduler {
  settingsOf("multiStepLR", optimizer, options, ["lastEpoch", "milestones", "gamma"]);
  const { milestones, gamma = 0.1 } = options;
  if (!Array.isArray(milestones))
    checkNumber("multiStepLR", "milestones", milestones, false, "a list");
  milestones.forEach((step, i) => {
    checkSteps("multiStepLR", `milestones[${i}]`, step);
  });
  checkFinite("multiStepLR", "gamma", gamma);
  return byFactor(
    optimizer,
    options,
    (step) => gamma ** milestones.filter((milestone) => milestone <= step).length,
  );
}

/** Options of {@link exponentialLR}. */
export interface ExponentialLROptions extends ScheduleOptions {
  gamma: number;
}

/** Times `gamma` every step. */
export function exponentialLR(
  optimizer: ScheduledOptimizer,
  options: ExponentialLROptions,
): LRScheduler {
  settingsOf("exponentialLR", optimizer, options, ["lastEpoch", "gamma"]);
  const { gamma } = options;
  checkFinite("exponentialLR", "gamma", gamma);
  return byFactor(optimizer, options, (step) => gamma ** step);
}

/** Options of {@link cosineAnnealingLR}. */
export interface CosineAnnealingLROptions extends ScheduleOptions {
  /** Steps from the top to `etaMin`. */
  tMax: number;
  /** The lowest rate; default 0. */
  etaMin?: number;
}

/** Down to `etaMin` and up again along a cosine. */
export function cosineAnnealingLR(
  optimizer: ScheduledOptimizer,
  options: CosineAnnealingLROptions,
): LRScheduler {
  settingsOf("cosineAnnealingLR", optimizer, options, ["lastEpoch", "tMax", "etaMin"]);
  const { tMax, etaMin = 0 } = options;
  checkNumber("cosineAnnealingLR", "tMax", tMax, tMax > 0, "a number above 0");
  checkSteps("cosineAnnealingLR", "etaMin", etaMin);
  return new LRScheduler(
    optimizer,
    (base, step) => etaMin + ((base - etaMin) * (1 + Math.cos((Math.PI * step) / tMax))) / 2,
    options,
  );
}
