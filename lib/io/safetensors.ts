// Tensors to and from safetensors files. A piece at a time passes through memory when they are
// read, a tensor when they are written; a file being written takes its name when it is whole.

import { Tensor } from "../core/tensor.js";
import { checkDType, isFloating, type DType } from "../dtype.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";
import { bytes } from "../ops/index.js";
import { checkDevice } from "../core/device.js";
import { writeFileAtomic } from "./atomic-write.js";
import {
  loadFile,
  readFileInto,
  readHeader,
  type LoadSafetensorsOptions,
} from "./safetensors-file.js";
import { serializeSafetensorsHeader, type SafetensorsTensor } from "./safetensors-format.js";
import { isIndexFile, loadSharded, readShardedHeader, readShardedInto } from "./sharded.js";

export type { LoadSafetensorsOptions } from "./safetensors-file.js";

/** Tensors by name, as an object, a map or pairs. */
export type NamedTensors =
  Readonly<Record<string, Tensor>> | Iterable<readonly [name: string, tensor: Tensor]>;

/** How to save tensors. */
export interface SaveSafetensorsOptions {
  /** Texts for the file's header. */
  metadata?: Readonly<Record<string, string>> | undefined;
}

/** What {@link inspectSafetensors} finds. */
export interface SafetensorsSummary {
  /** In the order in which they lie in the file. */
  readonly tensors: readonly { name: string; dtype: DType; shape: readonly number[] }[];
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The tensors of a safetensors file by name, in the file's dtypes; or, for an index
 * (`model.safetensors.index.json`), those of all the files it lists.
 * @throws CheckpointError that names the file and what is wrong with it; then no tensor is left
 * behind.
 */
export async function loadSafetensors(
  file: string,
  options: LoadSafetensorsOptions = {},
): Promise<Record<string, Tensor>> {
  const op = "loadSafetensors";
  if (options.device !== undefined) checkDevice(options.device, op);
  if (options.dtype !== undefined && !isFloating(checkDType(options.dtype, op))) {
    throw new ArgumentError(`${op}: dtype — expected a floating-point one, got ${options.dtype}`, {
      op,
    });
  }
  const load = isIndexFile(file) ? loadSharded : loadFile;
  return Object.fromEntries(await load(file, options));
}

/**
 * Reads tensors of a safetensors file, or of those that an index lists, into tensors of the same
 * shapes on any device, cast to their dtypes. No other tensor is made on the way.
 * @throws CheckpointError as {@link loadSafetensors}, and where one is missing or of another shape.
 */
export async function readSafetensorsInto(
  file: string,
  targets: ReadonlyMap<string, Tensor>,
): Promise<void> {
  await (isIndexFile(file) ? readShardedInto : readFileInto)(file, targets);
}

/**
 * Names, dtypes and shapes of the tensors in a safetensors file, and its metadata; no tensor is
 * read. For an index, those of the tensors it lists.
 * @throws CheckpointError as {@link loadSafetensors}.
 */
export async function inspectSafetensors(file: string): Promise<SafetensorsSummary> {
  const { entries, metadata } = await (isIndexFile(file) ? readShardedHeader : readHeader)(file);
  return { tensors: entries.map(({ name, dtype, shape }) => ({ name, dtype, shape })), metadata };
}

/** A tensor that is to be written, held so that disposing it meanwhile does no harm. */
interface Pending extends SafetensorsTensor {
  readonly held: Tensor;
  readonly version: number;
}

function collect(file: string, tensors: NamedTensors): Map<string, Pending> {
  const entries: Iterable<readonly [string, unknown]> =
    Symbol.iterator in tensors ? tensors : Object.entries(tensors);
  const list = [...entries];
  const pending = new Map<string, Pending>();
  for (const [name, tensor] of list) {
    if (!(tensor instanceof Tensor)) {
      throw new ArgumentError(
        `saveSafetensors: ${file}: tensor ${describe(name)} — expected a tensor, got ` +
          describe(tensor),
        { op: "saveSafetensors" },
      );
    }
    tensor.assertUsable("saveSafetensors");
    if (pending.has(name)) {
      throw new CheckpointError(
        `saveSafetensors: ${file}: tensor ${describe(name)} stands there twice`,
        { op: "saveSafetensors" },
      );
    }
    const { dtype, shape, handle } = tensor;
    const { version } = handle.storage;
    pending.set(name, { name, dtype, shape, version, held: tensor });
  }
  for (const [name, entry] of pending) {
    pending.set(name, { ...entry, held: entry.held.alias() });
  }
  return pending;
}

function* content(
  file: string,
  header: Uint8Array,
  order: readonly { readonly name: string }[],
  pending: ReadonlyMap<string, Pending>,
): Generator<Uint8Array> {
  yield header;
  for (const { name } of order) {
    const { held, version } = pending.get(name)!;
    if (held.handle.storage.version !== version) {
      throw new CheckpointError(
        `saveSafetensors: ${file}: tensor ${describe(name)} was changed in place while it was ` +
          `being saved; await the save before training on`,
        { op: "saveSafetensors" },
      );
    }
    yield bytes(held);
  }
}

/**
 * Writes tensors to a safetensors file, each as a dense one of its own, whatever memory they share.
 * The file is written under another name, brought to the disk and renamed: at any moment, and after
 * a crash, `file` is the old one or the new one, whole.
 * @throws CheckpointError where the file cannot be written, a name is of no use, or a tensor is
 * changed in place before the returned promise has settled.
 */
export async function saveSafetensors(
  file: string,
  tensors: NamedTensors,
  options: SaveSafetensorsOptions = {},
): Promise<void> {
  const pending = collect(file, tensors);
  try {
    const list = [...pending.values()];
    const header = serializeSafetensorsHeader(list, options.metadata ?? {}, file);
    await writeFileAtomic(file, content(file, header.bytes, header.entries, pending));
  } finally {
    for (const { held } of pending.values()) held.dispose();
  }
}
