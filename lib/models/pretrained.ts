// Models in Hugging Face's directory layout: config.json beside model.safetensors.

import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";

import type { Tensor } from "../core/tensor.js";
import type { Device, DType } from "../dtype.js";
import { CheckpointError } from "../errors.js";
import { writeFileAtomic } from "../io/atomic-write.js";
import { loadSafetensors, saveSafetensors } from "../io/safetensors.js";

/** How to load a model. */
export interface PretrainedOptions {
  /** Default: the dtype of the file. */
  dtype?: DType;
  device?: Device;
  /** Classes of the head; default: what config.json says. */
  numLabels?: number;
}

async function readConfig(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new CheckpointError(`${file}: cannot be read: ${(cause as Error).message}`, {
      op: "fromPretrained",
      cause,
    });
  }
  try {
    const json: unknown = JSON.parse(text);
    if (json !== null && typeof json === "object" && !Array.isArray(json)) {
      return json as Record<string, unknown>;
    }
  } catch (cause) {
    throw new CheckpointError(`${file}: is not JSON: ${(cause as Error).message}`, {
      op: "fromPretrained",
      cause,
    });
  }
  throw new CheckpointError(`${file}: expected a JSON object`, { op: "fromPretrained" });
}

/** What a model directory holds. */
export interface Pretrained {
  readonly configFile: string;
  readonly config: Record<string, unknown>;
  readonly weightsFile: string;
  readonly weights: Record<string, Tensor>;
}

/**
 * Reads a model directory; weights are in the file's dtype.
 * @throws CheckpointError where a file is missing or broken.
 */
export async function readPretrained(directory: string): Promise<Pretrained> {
  const configFile = path.join(directory, "config.json");
  const weightsFile = path.join(directory, "model.safetensors");
  const config = await readConfig(configFile);
  return { configFile, config, weightsFile, weights: await loadSafetensors(weightsFile) };
}

/** Writes a model directory; each file is whole or absent at any time. */
export async function writePretrained(
  directory: string,
  config: Record<string, unknown>,
  weights: Record<string, Tensor>,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  await saveSafetensors(path.join(directory, "model.safetensors"), weights, {
    metadata: { format: "pt" },
  });
  const json = `${JSON.stringify(config, null, 2)}\n`;
  await writeFileAtomic(path.join(directory, "config.json"), json);
}
