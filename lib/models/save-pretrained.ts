// Writing a model directory that Hugging Face's libraries load as it is.

import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import path from "node:path";

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { itemSize } from "../dtype.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";
import { saveSafetensors, writeFileAtomic } from "../io/index.js";
import type { Module } from "../nn/index.js";

/** Anything that writes the files of a tokenizer into a directory. */
export interface SavesTokenizer {
  save(directory: string): Promise<void>;
}

/** How to save a model. */
export interface SaveOptions {
  /**
   * Weights beyond this go to several files with an index; a number of bytes, or as text `"5GB"`,
   * `"200MB"`, `"1GiB"`. Default 5 GB. A tensor is never cut.
   */
  maxShardSize?: number | string | undefined;
  /** Whose files go along: a tokenizer, or a model directory to copy them from. */
  tokenizer?: SavesTokenizer | string | undefined;
}

const OP = "savePretrained";
const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/;
const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** Files of tokenizers of all kinds, as Hugging Face's libraries name them. */
export const TOKENIZER_FILES: readonly string[] = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.txt",
  "vocab.json",
  "merges.txt",
  "spiece.model",
  "sentencepiece.bpe.model",
];

function parseSize(size: number | string): number {
  const parts = typeof size === "string" ? /^(\d+(?:\.\d+)?)\s*([kmgt]?i?b)$/i.exec(size) : null;
  const unit = parts === null ? undefined : UNITS[parts[2]!.toUpperCase()];
  const bytes = unit === undefined ? size : Number(parts![1]) * unit;
  if (typeof bytes === "number" && bytes > 0) return bytes;
  throw new ArgumentError(
    `${OP}: maxShardSize — expected a number of bytes above 0 or a text such as "5GB", got ` +
      describe(size),
    { op: OP },
  );
}

/** Tensors in their order, put together as long as they do not exceed the limit. */
function intoShards(state: Readonly<Record<string, Tensor>>, limit: number): [string, Tensor][][] {
  const shards: [string, Tensor][][] = [];
  let room = 0;
  for (const [name, tensor] of Object.entries(state)) {
    const bytes = tensor.numel * itemSize(tensor.dtype);
    if (shards.length === 0 || bytes > room) {
      shards.push([]);
      room = limit;
    }
    shards.at(-1)!.push([name, tensor]);
    room -= bytes;
  }
  return shards;
}

const metadata = { format: "pt" };
const toJson = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** config.json, whose floats are recognizable: Python's classes check that 0 dropout is 0.0. */
function configText(config: Readonly<Record<string, unknown>>): string {
  const whole = /^( {2}"[^"]*(?:dropout|_prob|_range|_eps)[^"]*": -?\d+)(?=,?$)/gm;
  return toJson(config).replace(whole, "$1.0");
}

/** Writes the weights; the index, or the one file, comes last. Returns the names. */
async function writeWeights(
  directory: string,
  state: Readonly<Record<string, Tensor>>,
  limit: number,
): Promise<string[]> {
  const shards = intoShards(state, limit);
  if (shards.length <= 1) {
    await saveSafetensors(path.join(directory, WEIGHTS), state, { metadata });
    return [WEIGHTS];
  }
  const total = String(shards.length).padStart(5, "0");
  const weightMap: Record<string, string> = {};
  const names: string[] = [];
  for (const [i, shard] of shards.entries()) {
    const name = `model-${String(i + 1).padStart(5, "0")}-of-${total}.safetensors`;
    await saveSafetensors(path.join(directory, name), shard, { metadata });
    for (const [key] of shard) weightMap[key] = name;
    names.push(name);
  }
  const tensors = Object.values(state);
  const size = tensors.reduce((sum, { numel, dtype }) => sum + numel * itemSize(dtype), 0);
  const parameters = tensors.reduce((sum, { numel }) => sum + numel, 0);
  const index = {
    metadata: { total_parameters: parameters, total_size: size },
    weight_map: Object.fromEntries(Object.entries(weightMap).sort()),
  };
  await writeFileAtomic(path.join(directory, INDEX), toJson(index));
  return [...names, INDEX];
}

/** Removes weights of an earlier save, which a reader could take for those of this one. */
async function removeOthers(directory: string, written: readonly string[]): Promise<void> {
  for (const name of await readdir(directory)) {
    const weights = name === WEIGHTS || name === INDEX || SHARD.test(name);
    if (weights && !written.includes(name)) await rm(path.join(directory, name));
  }
}

async function writeTokenizer(
  directory: string,
  tokenizer: SavesTokenizer | string,
): Promise<string[]> {
  if (typeof tokenizer !== "string") {
    await tokenizer.save(directory);
    return TOKENIZER_FILES.slice(0, 2);
  }
  const present = await readdir(tokenizer);
  const names = TOKENIZER_FILES.filter((name) => present.includes(name));
  if (path.resolve(tokenizer) === path.resolve(directory)) return names;
  for (const name of names) {
    await copyFile(path.join(tokenizer, name), path.join(directory, name));
  }
  return names;
}

/**
 * Writes a model directory; each file is whole or absent at any time.
 * @returns the names of the files.
 * @throws CheckpointError where it cannot be written, ArgumentError for options that make no sense.
 */
export async function writePretrained(
  directory: string,
  config: Readonly<Record<string, unknown>>,
  model: Module,
  options: SaveOptions = {},
): Promise<string[]> {
  checkOptions(OP, options, ["maxShardSize", "tokenizer"]);
  const limit = parseSize(options.maxShardSize ?? "5GB");
  const fail = (what: string, cause: unknown): never => {
    if (typeof (cause as NodeJS.ErrnoException).syscall !== "string") throw cause;
    const message = `${directory}: ${what}: ${(cause as Error).message}`;
    throw new CheckpointError(message, { op: OP, cause });
  };
  await mkdir(directory, { recursive: true }).catch((cause: unknown) =>
    fail("cannot be made", cause),
  );
  const state = model.stateDict();
  try {
    const { dtype } = Object.values(state)[0]!;
    const json = { ...config, torch_dtype: dtype };
    const weights = await writeWeights(directory, state, limit);
    await removeOthers(directory, weights);
    await writeFileAtomic(path.join(directory, "config.json"), configText(json));
    const { tokenizer } = options;
    const rest = tokenizer === undefined ? [] : await writeTokenizer(directory, tokenizer);
    return ["config.json", ...weights, ...rest];
  } catch (cause) {
    return fail("cannot be written", cause);
  } finally {
    for (const tensor of Object.values(state)) tensor.dispose();
  }
}
