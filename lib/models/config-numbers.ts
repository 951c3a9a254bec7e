// How the keys of any model's config.json are checked, read and written, its numbers above all.

import { checkOptions } from "../core/options.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";

type Json = Record<string, unknown>;

/** One number of a configuration: its key in config.json, and what it may be. */
export interface NumberRule {
  readonly key: string;
  readonly kind: "size" | "id" | "probability" | "spread";
  /** Whether config.json may say null for it. */
  readonly nullable?: boolean;
}

const KINDS: Readonly<
  Record<NumberRule["kind"], { what: string; fits: (value: number) => boolean }>
> = {
  size: { what: "a whole number above 0", fits: (n) => Number.isSafeInteger(n) && n > 0 },
  id: { what: "a whole number from 0 up", fits: (n) => Number.isSafeInteger(n) && n >= 0 },
  probability: { what: "from 0 to 1", fits: (n) => n >= 0 && n <= 1 },
  spread: { what: "a number from 0 up", fits: (n) => Number.isFinite(n) && n >= 0 },
};

/** The rules of a configuration's numbers, by property. */
export type NumberRules = Readonly<Record<string, NumberRule>>;

/**
 * Fills what is left out from `base` and checks the numbers.
 * @param op what errors call the model
 * @throws ArgumentError for what is out of range, or an entry that `base` lacks.
 */
export function completeNumbers<C extends object>(
  op: string,
  base: Readonly<C>,
  config: Partial<C>,
  rules: NumberRules,
): C {
  checkOptions(op, config, Object.keys(base));
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  const complete = { ...base, ...Object.fromEntries(given) };
  for (const [property, rule] of Object.entries<NumberRule>(rules)) {
    const value = (complete as unknown as Json)[property];
    if (value === null && rule.nullable === true) continue;
    const { what, fits } = KINDS[rule.kind];
    if (typeof value === "number" && fits(value)) continue;
    throw new ArgumentError(`${op}: expected ${property} to be ${what}, got ${describe(value)}`, {
      op,
    });
  }
  return complete;
}

/** Throws the CheckpointError of a config.json that cannot be used. */
export function failConfig(file: string, message: string, cause?: unknown): never {
  throw new CheckpointError(`${file}: ${message}`, { op: "fromPretrained", cause });
}

/** Throws CheckpointError unless a key of config.json is absent or one of these values. */
export function checkKey(json: Json, key: string, allowed: readonly unknown[], file: string): void {
  const value = json[key];
  if (value === undefined || allowed.includes(value)) return;
  const listed = allowed.map((one) => JSON.stringify(one)).join(" or ");
  failConfig(file, `expected ${key} ${listed}, got ${JSON.stringify(value)}`);
}

/**
 * The numbers of a parsed config.json, those that it has.
 * @throws CheckpointError that names the file and the key.
 */
export function readNumbers(json: Json, file: string, rules: NumberRules): Json {
  const config: Json = {};
  for (const [property, { key, nullable }] of Object.entries(rules)) {
    const value = json[key];
    if (value === undefined) continue;
    if (typeof value !== "number" && !(value === null && nullable === true)) {
      failConfig(file, `expected ${key} to be a number, got ${JSON.stringify(value)}`);
    }
    config[property] = value;
  }
  return config;
}

/** `complete`, whose ArgumentError becomes the CheckpointError of a file. */
export function completeFile<C>(
  file: string,
  config: Partial<C>,
  complete: (config: Partial<C>) => C,
): C {
  try {
    return complete(config);
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    return failConfig(file, cause.message, cause);
  }
}

/** Numbers as config.json has them. */
export function writeNumbers(config: object, rules: NumberRules): Json {
  return Object.fromEntries(
    Object.entries(rules).map(([property, { key }]) => [key, (config as Json)[property]]),
  );
}
