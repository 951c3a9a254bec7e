// One seed for everything that draws random numbers.

import { manualSeed } from "../core/context.js";
import { ArgumentError, describe } from "../errors.js";

const VARIABLE = "PL_GLOBAL_SEED";
const MAX_SEED = 2 ** 32 - 1;

/**
 * Seeds the random generator, and sets the environment variable PL_GLOBAL_SEED, which child
 * processes inherit.
 * @param seed default: PL_GLOBAL_SEED where it is set, else 0.
 * @returns the seed
 * @throws ArgumentError unless it is a whole number from 0 to 2^32-1.
 */
export function seedEverything(seed?: number): number {
  const fromEnvironment = process.env[VARIABLE];
  const given: unknown = seed ?? (fromEnvironment === undefined ? 0 : parse(fromEnvironment));
  if (!Number.isInteger(given) || (given as number) < 0 || (given as number) > MAX_SEED) {
    const source = seed === undefined ? `the environment variable ${VARIABLE}` : "seed";
    throw new ArgumentError(
      `seedEverything: ${source} — expected a whole number from 0 to ${MAX_SEED}, got ` +
        describe(seed ?? fromEnvironment),
      { op: "seedEverything" },
    );
  }
  process.env[VARIABLE] = String(given);
  manualSeed(given as number);
  return given as number;
}

function parse(text: string): number {
  return /^\s*\d+\s*$/.test(text) ? Number(text) : NaN;
}
