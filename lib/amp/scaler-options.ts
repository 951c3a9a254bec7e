// The options and the saved state of GradScaler, and what they may be.

import { checkOptions } from "../core/options.js";
import type { Device } from "../dtype.js";
import { ArgumentError, describe, ScalerError } from "../errors.js";
import { checkDevice } from "../core/device.js";

/** What an alarm is told: that many updates in a row skipped the optimizers' steps. */
export interface RepeatedSkips {
  /** How many in a row, this one included. */
  readonly consecutiveSkips: number;
  /** The scale that the gradients have. */
  readonly scale: number;
  /** The parameters whose gradients are not finite, described. */
  readonly parameters: readonly string[];
}

/** Calls `action` when `after` updates in a row have skipped, and again after as many more. */
export interface SkipAlarm {
  readonly after: number;
  /** May throw, to end the training. */
  readonly action: (skips: RepeatedSkips) => void;
}

/** Options of a {@link GradScaler}. */
export interface GradScalerOptions {
  /** Default 65536. */
  initScale?: number | undefined;
  /**
   * What the scale is multiplied with after `growthInterval` updates without overflow; default 2.
   */
  growthFactor?: number | undefined;
  /** What the scale is multiplied with after an overflow; default 0.5. */
  backoffFactor?: number | undefined;
  /** Default 2000. */
  growthInterval?: number | undefined;
  /**
   * Backing off ends here. Default: the smallest normal float32 number, 2^-126, which only keeps
   * the scale from becoming 0; below 1 it makes gradients smaller, not larger.
   */
  minScale?: number | undefined;
  /** With false, scaling does nothing and `step` is the optimizer's; default true. */
  enabled?: boolean | undefined;
  /** Where the scale is kept; default: where the first scaled tensor is. */
  device?: Device | undefined;
  /** Default: no alarm. */
  onRepeatedSkips?: SkipAlarm | undefined;
}

/** State of a {@link GradScaler} as plain data; empty when it is disabled. */
export interface GradScalerState {
  scale: number;
  growthFactor: number;
  backoffFactor: number;
  growthInterval: number;
  growthTracker: number;
}

const SMALLEST_NORMAL = 2 ** -126;

const OPTIONS = [
  "initScale",
  "growthFactor",
  "backoffFactor",
  "growthInterval",
  "minScale",
  "enabled",
  "device",
  "onRepeatedSkips",
];

type Fault = (name: string, expected: string, value: unknown) => never;

const badOption: Fault = (name, expected, value) => {
  throw new ArgumentError(`GradScaler: ${name} — expected ${expected}, got ${describe(value)}`, {
    op: "GradScaler",
  });
};

const badState: Fault = (name, expected, value) => {
  throw new ScalerError(
    `loadStateDict: the state's ${name} — expected ${expected}, got ${describe(value)}`,
    { op: "loadStateDict" },
  );
};

/** A loss scale: positive and finite in float32. */
export function checkScale(value: unknown, name: string, fault: Fault = badOption): number {
  if (typeof value === "number" && Math.fround(value) > 0 && Math.fround(value) < Infinity) {
    return value;
  }
  return fault(name, "a positive number that is finite in float32", value);
}

/** A growth factor. */
export function checkGrowthFactor(value: unknown, fault: Fault = badOption): number {
  if (typeof value === "number" && value > 1 && value < Infinity) return value;
  return fault("growthFactor", "a finite number above 1", value);
}

/** A backoff factor. */
export function checkBackoffFactor(value: unknown, fault: Fault = badOption): number {
  if (typeof value === "number" && value > 0 && value < 1) return value;
  return fault("backoffFactor", "a number between 0 and 1", value);
}

const MAX_INT32 = 2 ** 31 - 1;

/** A growth interval. */
export function checkGrowthInterval(value: unknown, fault: Fault = badOption): number {
  if (Number.isInteger(value) && (value as number) > 0 && (value as number) <= MAX_INT32) {
    return value as number;
  }
  return fault("growthInterval", "a whole number from 1 to 2^31-1", value);
}

function checkMinScale(value: unknown, initScale: number): number {
  if (typeof value === "number" && value >= 0 && value <= initScale) return value;
  return badOption("minScale", `a number from 0 to initScale, ${initScale}`, value);
}

function checkAlarm(alarm: SkipAlarm): SkipAlarm {
  const given = alarm as Partial<SkipAlarm> | null;
  if (!Number.isInteger(given?.after) || given!.after! < 1) {
    return badOption("onRepeatedSkips.after", "a whole number of at least 1", given?.after);
  }
  if (typeof given!.action !== "function") {
    return badOption("onRepeatedSkips.action", "a function", given!.action);
  }
  return alarm;
}

/** Checked options, those left out with their defaults. */
export interface ScalerSettings {
  readonly initScale: number;
  readonly growthFactor: number;
  readonly backoffFactor: number;
  readonly growthInterval: number;
  readonly minScale: number;
  readonly enabled: boolean;
  readonly device: Device | null;
  readonly alarm: SkipAlarm | null;
}

/** Checks the options of a scaler. */
export function checkSettings(options: GradScalerOptions): ScalerSettings {
  if (typeof options !== "object" || (options as unknown) === null) {
    return badOption("options", "an object", options);
  }
  checkOptions("GradScaler", options, OPTIONS);
  const initScale = checkScale(options.initScale ?? 65536, "initScale");
  const enabled = options.enabled ?? true;
  if (typeof enabled !== "boolean") return badOption("enabled", "true or false", enabled);
  return {
    initScale,
    growthFactor: checkGrowthFactor(options.growthFactor ?? 2),
    backoffFactor: checkBackoffFactor(options.backoffFactor ?? 0.5),
    growthInterval: checkGrowthInterval(options.growthInterval ?? 2000),
    minScale: checkMinScale(options.minScale ?? Math.min(SMALLEST_NORMAL, initScale), initScale),
    enabled,
    device: options.device === undefined ? null : checkDevice(options.device, "GradScaler"),
    alarm: options.onRepeatedSkips === undefined ? null : checkAlarm(options.onRepeatedSkips),
  };
}

// The names in a state that torch saved.
const TORCH_NAMES: Readonly<Record<keyof GradScalerState, string>> = {
  scale: "scale",
  growthFactor: "growth_factor",
  backoffFactor: "backoff_factor",
  growthInterval: "growth_interval",
  growthTracker: "_growth_tracker",
};

/** Checks a saved state; torch's names for its entries are taken, too. */
export function checkState(state: unknown): GradScalerState {
  if (typeof state !== "object" || state === null) return badState("type", "an object", state);
  const given = state as Record<string, unknown>;
  if (Object.keys(given).length === 0) {
    throw new ScalerError(
      "loadStateDict: the state is empty, as a disabled GradScaler saves it; this one is enabled",
      { op: "loadStateDict" },
    );
  }
  const entry = (name: keyof GradScalerState): unknown => given[name] ?? given[TORCH_NAMES[name]];
  const growthTracker = entry("growthTracker");
  if (!Number.isInteger(growthTracker) || (growthTracker as number) < 0) {
    return badState("growthTracker", "a whole number of at least 0", growthTracker);
  }
  return {
    scale: checkScale(entry("scale"), "scale", badState),
    growthFactor: checkGrowthFactor(entry("growthFactor"), badState),
    backoffFactor: checkBackoffFactor(entry("backoffFactor"), badState),
    growthInterval: checkGrowthInterval(entry("growthInterval"), badState),
    growthTracker: growthTracker as number,
  };
}
