// Checks of the arguments that constructors of modules take.

import { ArgumentError, describe } from "../errors.js";

/** Throws ArgumentError unless `value` is a whole number of at least `least`. */
export function checkCount(module: string, name: string, value: unknown, least = 1): number {
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  throw new ArgumentError(
    `${module}: ${name} — expected a whole number of at least ${least}, got ${describe(value)}`,
    { op: module },
  );
}

/** Throws ArgumentError unless `value` is a number from 0 to 1. */
export function checkProbability(module: string, name: string, value: unknown): number {
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  throw new ArgumentError(
    `${module}: ${name} — expected a probability from 0 to 1, got ${describe(value)}`,
    { op: module },
  );
}

/** Throws ArgumentError unless `value` is a finite number from 0 up. */
export function checkNotNegative(module: string, name: string, value: unknown): number {
  if (Number.isFinite(value) && (value as number) >= 0) return value as number;
  throw new ArgumentError(
    `${module}: ${name} — expected a number from 0 up, got ${describe(value)}`,
    { op: module },
  );
}
