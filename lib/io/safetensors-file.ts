// Reading one safetensors file: its header alone, or its tensors, one at a time through one buffer.

import { open, type FileHandle } from "node:fs/promises";

import type { Tensor } from "../core/tensor.js";
import { isFloating, type Device, type DType } from "../dtype.js";
import { CheckpointError, describe, MixprecError, ShapeError } from "../errors.js";
import { fromBytes, to } from "../ops/index.js";
import {
  readSafetensorsHeader,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from "./safetensors-format.js";

/** How to load tensors. */
export interface LoadSafetensorsOptions {
  /** Where to put them; default `cpu`. */
  device?: Device | undefined;
  /** What to cast floating-point tensors to; default: the dtype of the file. */
  dtype?: DType | undefined;
  /** Which tensors to load; default: all. */
  names?: Iterable<string> | undefined;
}

const OP = "loadSafetensors";
const MAX_READ = 2 ** 30;
const MAX_LISTED = 10;

/** Throws the CheckpointError of a file that cannot be loaded. */
export function failLoading(file: string, what: string, cause?: unknown): never {
  throw new CheckpointError(`${OP}: ${file}: ${what}`, { op: OP, cause });
}

/** Says which of the wanted tensors a file lacks. */
export function failMissing(file: string, missing: readonly string[]): never {
  const listed = missing.slice(0, MAX_LISTED).map((name) => describe(name));
  const more = missing.length > MAX_LISTED ? ` and ${missing.length - MAX_LISTED} more` : "";
  return failLoading(file, `lacks the tensors ${listed.join(", ")}${more}`);
}

/**
 * Runs `use` on an open file; what goes wrong is a CheckpointError, or a typed error of its own.
 */
async function withFile<T>(file: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle;
  try {
    handle = await open(file, "r");
  } catch (cause) {
    return failLoading(file, `cannot be opened: ${(cause as Error).message}`, cause);
  }
  try {
    return await use(handle);
  } catch (cause) {
    if (cause instanceof MixprecError) throw cause;
    return failLoading(file, `cannot be read: ${(cause as Error).message}`, cause);
  } finally {
    await handle.close();
  }
}

/** The checked header of a file. */
export function readHeader(file: string): Promise<SafetensorsHeader> {
  return withFile(file, (handle) => Promise.resolve(readSafetensorsHeader(handle.fd, file)));
}

async function readInto(
  handle: FileHandle,
  block: Uint8Array,
  position: number,
  file: string,
): Promise<void> {
  for (let at = 0; at < block.byteLength;) {
    const length = Math.min(block.byteLength - at, MAX_READ);
    const { bytesRead } = await handle.read(block, at, length, position + at);
    if (bytesRead === 0) {
      failLoading(file, `truncated — expected ${block.byteLength} bytes at ${position}, got ${at}`);
    }
    at += bytesRead;
  }
}

function checkBools(block: Uint8Array, name: string, file: string): void {
  const wrong = block.findIndex((byte) => byte > 1);
  if (wrong < 0) return;
  failLoading(
    file,
    `tensor ${describe(name)}: expected bytes 0 and 1, got ${block[wrong]!} at ${wrong}`,
  );
}

function place(
  block: Uint8Array,
  entry: SafetensorsEntry,
  options: LoadSafetensorsOptions,
  file: string,
): Tensor {
  let made: Tensor;
  try {
    made = fromBytes(block, entry.shape, { dtype: entry.dtype, device: options.device });
  } catch (cause) {
    // More dimensions than the library has.
    if (!(cause instanceof ShapeError)) throw cause;
    return failLoading(file, `tensor ${describe(entry.name)}: ${cause.message}`, cause);
  }
  const dtype = isFloating(entry.dtype) ? options.dtype : undefined;
  const converted = dtype === undefined ? made : to(made, dtype);
  if (converted !== made) made.dispose();
  return converted;
}

/** The entries that are wanted, in the order of their bytes. */
export function chooseEntries(
  { entries }: SafetensorsHeader,
  names: Iterable<string> | undefined,
  file: string,
): readonly SafetensorsEntry[] {
  if (names === undefined) return entries;
  const wanted = new Set(names);
  const chosen = entries.filter(({ name }) => wanted.has(name));
  for (const { name } of chosen) wanted.delete(name);
  return wanted.size === 0 ? chosen : failMissing(file, [...wanted]);
}

/** The tensors of one file. Where one fails, those before it are disposed. */
export async function loadFile(
  file: string,
  options: LoadSafetensorsOptions,
): Promise<[name: string, tensor: Tensor][]> {
  return withFile(file, async (handle) => {
    const header = readSafetensorsHeader(handle.fd, file);
    const entries = chooseEntries(header, options.names, file);
    const loaded: [string, Tensor][] = [];
    try {
      // Sizes were checked against the length of the file: this is never more than is there.
      const largest = entries.reduce((most, { begin, end }) => Math.max(most, end - begin), 0);
      const buffer = new Uint8Array(largest);
      for (const entry of entries) {
        const block = buffer.subarray(0, entry.end - entry.begin);
        await readInto(handle, block, header.dataOffset + entry.begin, file);
        if (entry.dtype === "bool") checkBools(block, entry.name, file);
        loaded.push([entry.name, place(block, entry, options, file)]);
      }
      return loaded;
    } catch (cause) {
      for (const [, tensor] of loaded) tensor.dispose();
      throw cause;
    }
  });
}
