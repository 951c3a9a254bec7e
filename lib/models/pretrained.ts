// Models in Hugging Face's directory layout: config.json beside model.safetensors, or beside the
// index of several such files.

import { access, mkdir, readFile } from "node:fs/promises";
import path from "node:path";

import { noGrad } from "../core/context.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, type Device, type DType } from "../dtype.js";
import { CheckpointError } from "../errors.js";
import {
  inspectSafetensors,
  loadSafetensors,
  saveSafetensors,
  writeFileAtomic,
  type SafetensorsSummary,
} from "../io/index.js";
import type { Module } from "../nn/index.js";
import { copyFrom } from "../ops/index.js";
import { formatShape, sameShape } from "../shape.js";

/** How to load a model. */
export interface PretrainedOptions {
  /** Default: the dtype of the file. */
  dtype?: DType;
  device?: Device;
  /** Classes of the head; default: what config.json says. */
  numLabels?: number;
  /** Draws the head anew even where the file has one; default false. */
  newHead?: boolean;
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

async function exists(file: string): Promise<boolean> {
  try {
    await access(file);
    return true;
  } catch {
    return false;
  }
}

async function findWeights(directory: string): Promise<string> {
  for (const name of ["model.safetensors", "model.safetensors.index.json"]) {
    const file = path.join(directory, name);
    if (await exists(file)) return file;
  }
  const pickled = await exists(path.join(directory, "pytorch_model.bin"));
  const hint = pickled ? "; pytorch_model.bin is not read, convert it to safetensors first" : "";
  return fail(directory, `has neither model.safetensors nor an index of such files${hint}`);
}

/** What a model directory holds; the weights are still to be read. */
export interface Pretrained {
  readonly configFile: string;
  readonly config: Record<string, unknown>;
  readonly weightsFile: string;
  readonly weights: SafetensorsSummary["tensors"];
}

/**
 * Reads a model directory's config and the header of its weights.
 * @throws CheckpointError where a file is missing or broken.
 */
export async function readPretrained(directory: string): Promise<Pretrained> {
  const configFile = path.join(directory, "config.json");
  const config = await readConfig(configFile);
  const weightsFile = await findWeights(directory);
  const { tensors } = await inspectSafetensors(weightsFile);
  return { configFile, config, weightsFile, weights: tensors };
}

/** The dtype that a model is loaded in where the caller names none: that of the first weight. */
export function dtypeOf({ weights }: Pretrained): DType {
  return weights.find(({ dtype }) => isFloating(dtype))?.dtype ?? "float32";
}

/** Which tensor of a file belongs to a key of the model's state, and whether it may be missing. */
export interface KeyMapping {
  /** Names to look for, the best first. */
  namesOf(key: string): readonly string[];
  /** Whether the model's own value may stay. */
  isOptional(key: string): boolean;
}

/**
 * Reads the weights of a file into a model, one at a time, cast to the model's dtypes. What else
 * the file holds is left alone.
 * @throws CheckpointError that names what is missing or does not fit; then the model is disposed.
 */
export async function loadInto(
  model: Module,
  { weightsFile, weights }: Pretrained,
  mapping: KeyMapping,
): Promise<void> {
  const state = model.stateDict();
  try {
    for (const [name, target] of matchWeights(state, weightsFile, weights, mapping)) {
      const loaded = await loadSafetensors(weightsFile, { names: [name], device: target.device });
      noGrad(() => copyFrom(target, loaded[name]!));
      loaded[name]!.dispose();
    }
  } catch (cause) {
    model.dispose();
    throw cause;
  } finally {
    for (const target of Object.values(state)) target.dispose();
  }
}

/** For each tensor of a model's state the one of the file that belongs to it. */
function matchWeights(
  state: Readonly<Record<string, Tensor>>,
  file: string,
  weights: Pretrained["weights"],
  mapping: KeyMapping,
): [name: string, target: Tensor][] {
  const present = new Map(weights.map((weight) => [weight.name, weight]));
  const faults: string[] = [];
  const found: [name: string, target: Tensor][] = [];
  for (const [key, target] of Object.entries(state)) {
    const weight = mapping
      .namesOf(key)
      .map((name) => present.get(name))
      .find((candidate) => candidate !== undefined);
    if (weight === undefined) {
      if (!mapping.isOptional(key)) faults.push(`lacks the tensor ${key}`);
    } else if (!sameShape(weight.shape, target.shape) || !isFloating(weight.dtype)) {
      faults.push(
        `tensor ${weight.name} is ${weight.dtype} ${formatShape(weight.shape)}, expected floats ` +
          formatShape(target.shape),
      );
    } else {
      found.push([weight.name, target]);
    }
  }
  const more = faults.length > 5 ? ` and ${faults.length - 5} more faults` : "";
  if (faults.length > 0) fail(file, `${faults.slice(0, 5).join(", ")}${more}`);
  return found;
}

/** Writes a model directory; each file is whole or absent at any time. */
export async function writePretrained(
  directory: string,
  config: Record<string, unknown>,
  model: Module,
): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
  } catch (cause) {
    throw new CheckpointError(`${directory}: cannot be made: ${(cause as Error).message}`, {
      op: "savePretrained",
      cause,
    });
  }
  const weights = model.stateDict();
  try {
    await saveSafetensors(path.join(directory, "model.safetensors"), weights, {
      metadata: { format: "pt" },
    });
  } finally {
    for (const weight of Object.values(weights)) weight.dispose();
  }
  const json = `${JSON.stringify(config, null, 2)}\n`;
  await writeFileAtomic(path.join(directory, "config.json"), json);
}
