// What the configurations of all classifiers have in common: the keys of Hugging Face's config.json
// for classes.

import { ArgumentError, describe } from "../errors.js";
import {
  completeFile,
  completeNumbers,
  readNumbers,
  writeNumbers,
  type NumberRule,
  type NumberRules,
} from "./config-numbers.js";

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
  const all = { ...rules, numLabels: { key: "num_labels", kind: "size" } satisfies NumberRule };
  const complete = completeNumbers(op, base, config, all);
  const fail = (what: string, got: unknown): never => {
    throw new ArgumentError(`${op}: expected ${what}, got ${describe(got)}`, { op });
  };
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
  const numbers = readNumbers(json, file, rules);
  const problemType = json.problem_type ?? null;
  const config = { ...numbers, ...readLabels(json), problemType };
  return completeFile(file, config as Partial<C>, complete);
}

/** Numbers and classes as config.json has them. */
export function writeConfig(config: ClassifierConfig, rules: NumberRules): Json {
  const json = writeNumbers(config, rules);
  const names =
    config.labelNames ?? Array.from({ length: config.numLabels }, (_, id) => `LABEL_${id}`);
  json.id2label = Object.fromEntries(names.map((name, id) => [String(id), name]));
  json.label2id = Object.fromEntries(names.map((name, id) => [name, id]));
  if (config.problemType !== null) json.problem_type = config.problemType;
  return json;
}
