// Models in several safetensors files: an index says which file holds which tensor, as Hugging Face
// writes it (`model.safetensors.index.json`: {"weight_map": {name: file}}).

import { readFile } from "node:fs/promises";
import path from "node:path";

import type { Tensor } from "../core/tensor.js";
import { describe } from "../errors.js";
import { findJsonFault } from "./json-faults.js";
import {
  chooseEntries,
  failLoading,
  failMissing,
  loadFile,
  readFileInto,
  readHeader,
  Scratch,
  type LoadSafetensorsOptions,
} from "./safetensors-file.js";
import type { SafetensorsEntry, SafetensorsHeader } from "./safetensors-format.js";

/** Whether a file name is that of an index. */
export function isIndexFile(file: string): boolean {
  return file.endsWith(".json");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function parseIndex(text: string, file: string): Map<string, string> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return failLoading(file, `is not JSON: ${(cause as Error).message}`, cause);
  }
  const fault = findJsonFault(text);
  if (fault !== null) failLoading(file, `has ${fault}`);
  const map = isRecord(json) ? json.weight_map : undefined;
  if (!isRecord(map)) return failLoading(file, "expected an object with a weight_map of names");
  const shards = new Map<string, string>();
  for (const [name, shard] of Object.entries(map)) {
    // A file beside the index, and nowhere else.
    const plain = typeof shard === "string" && /^[^/\\]+$/.test(shard) && !/^\.+$/.test(shard);
    if (!plain) {
      failLoading(
        file,
        `weight_map ${describe(name)} — expected a file name, got ${describe(shard)}`,
      );
    } else {
      shards.set(name, shard);
    }
  }
  return shards;
}

/**
 * Names of the files that an index lists, each once.
 * @throws CheckpointError where it is no index, or names a file outside its directory.
 */
export async function shardsOf(file: string): Promise<string[]> {
  const shards = await readIndex(file, undefined);
  return shards.map(([shard]) => path.basename(shard));
}

/** What an index lists: by file, the names of the tensors that are wanted. */
async function readIndex(
  file: string,
  names: Iterable<string> | undefined,
): Promise<[shard: string, names: string[]][]> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    return failLoading(file, `cannot be read: ${(cause as Error).message}`, cause);
  }
  const shards = parseIndex(text, file);
  const wanted = names === undefined ? [...shards.keys()] : [...new Set(names)];
  const missing = wanted.filter((name) => !shards.has(name));
  if (missing.length > 0) failMissing(file, missing);
  const byFile = new Map<string, string[]>();
  for (const name of wanted) {
    const shard = path.join(path.dirname(file), shards.get(name)!);
    const others = byFile.get(shard);
    if (others === undefined) byFile.set(shard, [name]);
    else others.push(name);
  }
  return [...byFile];
}

/** The tensors that an index lists, file by file. Where one fails, those before it are disposed. */
export async function loadSharded(
  file: string,
  options: LoadSafetensorsOptions,
): Promise<[name: string, tensor: Tensor][]> {
  const loaded: [string, Tensor][] = [];
  const scratch = new Scratch();
  try {
    for (const [shard, names] of await readIndex(file, options.names)) {
      loaded.push(...(await loadFile(shard, { ...options, names }, scratch)));
    }
  } catch (cause) {
    for (const [, tensor] of loaded) tensor.dispose();
    throw cause;
  }
  return loaded;
}

/** Reads tensors that an index lists into others; as {@link readFileInto}, file by file. */
export async function readShardedInto(
  file: string,
  targets: ReadonlyMap<string, Tensor>,
): Promise<void> {
  const scratch = new Scratch();
  for (const [shard, names] of await readIndex(file, targets.keys())) {
    const own = new Map(names.map((name) => [name, targets.get(name)!]));
    await readFileInto(shard, own, scratch);
  }
}

/** The headers' entries of the tensors that an index lists. */
export async function readShardedHeader(
  file: string,
): Promise<Pick<SafetensorsHeader, "entries" | "metadata">> {
  const entries: SafetensorsEntry[] = [];
  for (const [shard, names] of await readIndex(file, undefined)) {
    entries.push(...chooseEntries(await readHeader(shard), names, shard));
  }
  return { entries, metadata: {} };
}
