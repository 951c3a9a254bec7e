// Models in Hugging Face's directory layout: config.json beside model.safetensors, or beside the
// index of several such files. Reading the weights, and telling which were missing.

import { readFile } from "node:fs/promises";
import path from "node:path";

import type { Tensor } from "../core/tensor.js";
import { isFloating, type Device, type DType } from "../dtype.js";
import { CheckpointError } from "../errors.js";
import {
  HUB_OPTIONS,
  inspectSafetensors,
  readSafetensorsInto,
  type HubOptions,
  type SafetensorsSummary,
} from "../io/index.js";
import type { Module } from "../nn/index.js";
import { formatShape, sameShape, type Shape } from "../shape.js";
import { findWeights, resolvePretrained } from "./model-files.js";

/** Where to find a model, and as what to load it. */
export interface BodyOptions extends Omit<HubOptions, "repoType"> {
  /** Default: the dtype of the file. */
  dtype?: DType | undefined;
  device?: Device | undefined;
}

/** How to load a classifier. */
export interface PretrainedOptions extends BodyOptions {
  /** Classes of the head; default: what config.json says. */
  numLabels?: number | undefined;
  /** Names of the classes, by id; then `numLabels` follows from them. */
  labelNames?: readonly string[] | undefined;
  /** Draws the head anew even where the file has one; default false. */
  newHead?: boolean | undefined;
  /** Draws weights anew that the file has in another shape; default false: an error. */
  ignoreMismatchedSizes?: boolean | undefined;
}

/** Names of {@link BodyOptions} and {@link PretrainedOptions}. */
export const BODY_OPTIONS: readonly string[] = [
  ...HUB_OPTIONS.filter((name) => name !== "repoType"),
  "dtype",
  "device",
];
export const PRETRAINED_OPTIONS: readonly string[] = [
  ...BODY_OPTIONS,
  "numLabels",
  "labelNames",
  "newHead",
  "ignoreMismatchedSizes",
];

/** The hub's share of the options. */
export function hubOptionsOf(options: HubOptions): HubOptions {
  const given: Partial<Record<keyof HubOptions, unknown>> = {};
  for (const name of HUB_OPTIONS) if (options[name] !== undefined) given[name] = options[name];
  return given as HubOptions;
}

/** A tensor that the file has in another shape than the model. */
export interface Mismatch {
  readonly key: string;
  readonly found: Shape;
  readonly expected: Shape;
}

/** Where the weights of a model came from, and what did not fit; names as torch reports them. */
export interface LoadReport {
  /** As it was given. */
  readonly source: string;
  readonly directory: string;
  /** The commit on the hub; null for a directory. */
  readonly commit: string | null;
  /** Weights that the file lacks; they are drawn anew. */
  readonly missingKeys: readonly string[];
  /** Tensors of the file that the model has no use for. */
  readonly unexpectedKeys: readonly string[];
  /** Weights that the file has in another shape; they are drawn anew. */
  readonly mismatchedKeys: readonly Mismatch[];
  /** Why the hub could not be asked and the cache had to do; else null. */
  readonly notice: string | null;
}

const OP = "fromPretrained";

function fail(file: string, what: string, cause?: unknown): never {
  throw new CheckpointError(`${file}: ${what}`, { op: OP, cause });
}

async function readConfig(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    return fail(file, `cannot be read: ${(cause as Error).message}`, cause);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return fail(file, `is not JSON: ${(cause as Error).message}`, cause);
  }
  if (json !== null && typeof json === "object" && !Array.isArray(json)) {
    return json as Record<string, unknown>;
  }
  return fail(file, "expected a JSON object");
}

/** What a model directory holds; the weights are still to be read. */
export interface Pretrained {
  readonly source: string;
  readonly directory: string;
  readonly commit: string | null;
  readonly notice: string | null;
  readonly configFile: string;
  readonly config: Record<string, unknown>;
  readonly weightsFile: string;
  readonly weights: SafetensorsSummary["tensors"];
}

/**
 * Finds a model directory, or a model on the hub, and reads its config and the header of its
 * weights.
 * @throws CheckpointError where a file is missing or broken, HubError where the hub refuses.
 */
export async function readPretrained(
  source: string,
  options: HubOptions = {},
): Promise<Pretrained> {
  const { directory, commit, notice } = await resolvePretrained(source, options);
  const configFile = path.join(directory, "config.json");
  const config = await readConfig(configFile);
  const weightsFile = await findWeights(directory);
  const { tensors: weights } = await inspectSafetensors(weightsFile);
  return { source, directory, commit, notice, configFile, config, weightsFile, weights };
}

/** The dtype that a model is loaded in where the caller names none: that of the first weight. */
export function dtypeOf({ weights }: Pretrained): DType {
  return weights.find(({ dtype }) => isFloating(dtype))?.dtype ?? "float32";
}

/** Which tensor of a file belongs to a key of the model's state, and whether it may be missing. */
export interface KeyMapping {
  /** Names to look for, the best first. */
  namesOf(key: string): readonly string[];
  /** Whether it may be drawn anew. */
  isOptional(key: string): boolean;
  /** Whether a tensor of the file is none of the model's weights, since it follows from them. */
  isDerived?(name: string): boolean;
  /** Whether one of another shape may be drawn anew, too. */
  readonly ignoreMismatchedSizes?: boolean;
}

/** Old checkpoints call the weight and bias of a norm gamma and beta. */
function withOldNames(names: readonly string[]): readonly string[] {
  const old = names.map((name) =>
    name
      .replace(/LayerNorm\.weight$/, "LayerNorm.gamma")
      .replace(/LayerNorm\.bias$/, "LayerNorm.beta"),
  );
  return old.some((name, i) => name !== names[i]) ? [...names, ...old] : names;
}

/** Tensors that old checkpoints have and no model needs. */
const isLeftOver = (name: string): boolean => /(^|\.)position_ids$/.test(name);

interface Matches {
  /** By the name in the file. */
  readonly targets: ReadonlyMap<string, Tensor>;
  readonly missingKeys: readonly string[];
  readonly unexpectedKeys: readonly string[];
  readonly mismatchedKeys: readonly Mismatch[];
}

/** For each tensor of a model's state the one of the file that belongs to it. */
function matchWeights(
  state: Readonly<Record<string, Tensor>>,
  { weightsFile, weights }: Pretrained,
  mapping: KeyMapping,
): Matches {
  const present = new Map(weights.map((weight) => [weight.name, weight]));
  const faults: string[] = [];
  const targets = new Map<string, Tensor>();
  const missingKeys: string[] = [];
  const mismatchedKeys: Mismatch[] = [];
  const used = new Set<string>();
  for (const [key, target] of Object.entries(state)) {
    const weight = withOldNames(mapping.namesOf(key))
      .map((name) => present.get(name))
      .find((candidate) => candidate !== undefined);
    if (weight === undefined) {
      missingKeys.push(key);
      if (!mapping.isOptional(key)) faults.push(`lacks the tensor ${key}`);
      continue;
    }
    used.add(weight.name);
    const fits = sameShape(weight.shape, target.shape);
    if (fits && isFloating(weight.dtype)) {
      targets.set(weight.name, target);
    } else if (!fits && mapping.ignoreMismatchedSizes === true) {
      mismatchedKeys.push({ key, found: weight.shape, expected: target.shape });
    } else {
      const advice = mapping.isOptional(key) ? " (newHead draws the head anew)" : "";
      faults.push(
        `tensor ${weight.name} is ${weight.dtype} ${formatShape(weight.shape)}, expected floats ` +
          formatShape(target.shape) +
          advice,
      );
    }
  }
  const more = faults.length > 5 ? ` and ${faults.length - 5} more faults` : "";
  if (faults.length > 0) fail(weightsFile, `${faults.slice(0, 5).join(", ")}${more}`);
  const unexpectedKeys = [...present.keys()].filter(
    (name) => !used.has(name) && !isLeftOver(name) && mapping.isDerived?.(name) !== true,
  );
  return { targets, missingKeys, unexpectedKeys, mismatchedKeys };
}

/**
 * Reads the weights of a file into a model, in pieces, cast to the model's dtypes, and has those
 * drawn that the file lacks.
 * @param draw draws parameters; it is given names and parameters
 * @throws CheckpointError that names what is missing or does not fit; then the model is disposed.
 */
export async function loadInto(
  model: Module,
  pretrained: Pretrained,
  mapping: KeyMapping,
  draw: (parameters: readonly (readonly [name: string, parameter: Tensor])[]) => void,
): Promise<LoadReport> {
  const state = model.stateDict();
  try {
    const { targets, ...keys } = matchWeights(state, pretrained, mapping);
    await readSafetensorsInto(pretrained.weightsFile, targets);
    const drawn = [...keys.missingKeys, ...keys.mismatchedKeys.map(({ key }) => key)];
    draw(drawn.map((key) => [key, state[key]!]));
    const { source, directory, commit, notice } = pretrained;
    return { source, directory, commit, notice, ...keys };
  } catch (cause) {
    model.dispose();
    throw cause;
  } finally {
    for (const target of Object.values(state)) target.dispose();
  }
}
