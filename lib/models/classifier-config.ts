// What the configurations of all classifiers have in common: the keys of Hugging Face's config.json
// for classes, and how keys are checked, read and written.

import { checkOptions } from "../core/options.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";

/** How labels and loss go together; Hugging Face's names. */
export type ProblemType =
  "regression" | "single_label_classification" | "multi_label_classification";

const PROBLEM_TYPES: readonly unknown[] = [
  "regression",
  "single_label_classification",
  "multi_label_classification",
] satisfies ProblemType[];

/** What every classifier's configuration has. */
export interface ClassifierConfig {
  numLabels: number;
  /** Names of the classes, by id; null for LABEL_0, LABEL_1, … */
  labelNames: readonly string[] | null;
  /** Null: as the labels suggest. */
  problemType: ProblemType | null;
}

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
 * Fills what is left out from `base` and checks it all.
 * @param op what errors call the model
 * @throws ArgumentError for what is out of range, or does not fit together.
 */
export function completeWith<C extends ClassifierConfig>(
  op: string,
  base: Readonly<C>,
  config: Partial<C>,
  rules: NumberRules,
): C {
  checkOptions(op, config, Object.keys(base));
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  const complete = { ...base, ...Object.fromEntries(given) };
  const fail = (what: string, got: unknown): never => {
    throw new ArgumentError(`${op}: expected ${what}, got ${describe(got)}`, { op });
  };
  const all = { ...rules, numLabels: { key: "num_labels", kind: "size" } satisfies NumberRule };
  for (const [property, rule] of Object.entries<NumberRule>(all)) {
    const value = (complete as unknown as Json)[property];
    if (value === null && rule.nullable === true) continue;
    const { what, fits } = KINDS[rule.kind];
    if (typeof value !== "number" || !fits(value)) fail(`${property} to be ${what}`, value);
  }
  const { labelNames, numLabels, problemType } = complete;
  if (labelNames !== null) {
    const names: readonly unknown[] = Array.isArray(labelNames) ? labelNames : [];
    if (!names.every((name) => typeof name === "string") || names.length !== numLabels) {
      fail(`labelNames to be ${numLabels} texts`, labelNames);
    }
    if (new Set(names).size < names.length) fail("labelNames to be different", names.join(", "));
  }
  if (problemType !== null && !PROBLEM_TYPES.includes(problemType)) {
    fail(`problemType to be null or one of ${PROBLEM_TYPES.join(", ")}`, problemType);
  }
  return complete;
}

/** Throws ArgumentError unless the heads share the width evenly. */
export function checkHeads(op: string, heads: [string, number], width: [string, number]): void {
  if (width[1] % heads[1] === 0) return;
  throw new ArgumentError(
    `${op}: ${heads[0]} must divide ${width[0]}, got ${heads[0]} ${heads[1]} and ${width[0]} ` +
      String(width[1]),
    { op },
  );
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

function readLabels(json: Json): Partial<ClassifierConfig> {
  const map = json.id2label;
  const names = map !== null && typeof map === "object" ? (map as Json) : null;
  const count =
    typeof json.num_labels === "number"
      ? json.num_labels
      : names === null
        ? undefined
        : Object.keys(names).length;
  if (count === undefined) return {};
  const listed = Array.from({ length: count }, (_, id) => names?.[id]);
  // Names that say nothing are none.
  const named =
    listed.every((name) => typeof name === "string") &&
    !listed.every((name, id) => name === `LABEL_${id}`) &&
    new Set(listed).size === count;
  return { numLabels: count, labelNames: named ? listed : null };
}

/**
 * Numbers and classes of a parsed config.json, as `complete` takes them.
 * @throws CheckpointError that names the file and what is wrong in it.
 */
export function readConfig<C extends ClassifierConfig>(
  json: Json,
  file: string,
  rules: NumberRules,
  complete: (config: Partial<C>) => C,
): C {
  const config: Json = {};
  for (const [property, { key, nullable }] of Object.entries(rules)) {
    const value = json[key];
    if (value === undefined) continue;
    if (typeof value !== "number" && !(value === null && nullable === true)) {
      failConfig(file, `expected ${key} to be a number, got ${JSON.stringify(value)}`);
    }
    config[property] = value;
  }
  const problemType = json.problem_type ?? null;
  try {
    return complete({ ...config, ...readLabels(json), problemType } as Partial<C>);
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    return failConfig(file, cause.message, cause);
  }
}

/** Numbers and classes as config.json has them. */
export function writeConfig(config: ClassifierConfig, rules: NumberRules): Json {
  const json: Json = {};
  for (const [property, { key }] of Object.entries(rules)) {
    json[key] = (config as unknown as Json)[property];
  }
  const names =
    config.labelNames ?? Array.from({ length: config.numLabels }, (_, id) => `LABEL_${id}`);
  json.id2label = Object.fromEntries(names.map((name, id) => [String(id), name]));
  json.label2id = Object.fromEntries(names.map((name, id) => [name, id]));
  if (config.problemType !== null) json.problem_type = config.problemType;
  return json;
}
