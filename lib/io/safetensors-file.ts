// Reading one safetensors file: its header alone, or its tensors, in pieces that go straight to the
// device and dtype that are wanted. Mapping the file would save one copy, but a file that is cut
// short while it is mapped ends the process.

import { open, type FileHandle } from "node:fs/promises";

import { noGrad } from "../core/context.js";
import { outsideScopes, tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, itemSize, type Device, type DType } from "../dtype.js";
import { CheckpointError, describe, formatShape, MixprecError, ShapeError } from "../errors.js";
import { copyFrom, empty, fromBytes, narrow, reshape } from "../ops/index.js";
import { sameShape } from "../shape.js";
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
/** What is read at once. */
const PIECE_BYTES = 2 ** 21;
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

async function readPiece(
  handle: FileHandle,
  block: Uint8Array,
  position: number,
  file: string,
): Promise<void> {
  for (let at = 0; at < block.byteLength;) {
    const { bytesRead } = await handle.read(block, at, block.byteLength - at, position + at);
    if (bytesRead === 0) {
      failLoading(file, `truncated — expected ${block.byteLength} bytes at ${position}, got ${at}`);
    }
    at += bytesRead;
  }
}

function checkBools(block: Uint8Array, first: number, name: string, file: string): void {
  const wrong = block.findIndex((byte) => byte > 1);
  if (wrong < 0) return;
  failLoading(
    file,
    `tensor ${describe(name)}: expected bytes 0 and 1, got ${block[wrong]!} at ${first + wrong}`,
  );
}

/** Two buffers for pieces, which the files of one load share. */
export class Scratch {
  private buffers: readonly [Uint8Array, Uint8Array] = [new Uint8Array(0), new Uint8Array(0)];

  /** Both, of at least so many bytes. */
  of(bytes: number): readonly [Uint8Array, Uint8Array] {
    if (this.buffers[0].byteLength < bytes) {
      this.buffers = [new Uint8Array(bytes), new Uint8Array(bytes)];
    }
    return this.buffers;
  }
}

/** A part of a tensor's elements, small enough that two of them are no burden. */
interface Piece {
  readonly entry: SafetensorsEntry;
  readonly target: Tensor;
  /** The first element, and how many. */
  readonly first: number;
  readonly count: number;
}

function* piecesOf(
  targets: readonly (readonly [entry: SafetensorsEntry, target: Tensor])[],
): Generator<Piece> {
  for (const [entry, target] of targets) {
    const most = PIECE_BYTES / itemSize(entry.dtype);
    for (let first = 0; first < target.numel; first += most) {
      yield { entry, target, first, count: Math.min(most, target.numel - first) };
    }
  }
}

/** Writes elements of a file into their place, cast to the target's dtype on its device. */
function placePiece(block: Uint8Array, { entry, target, first, count }: Piece): void {
  noGrad(() => {
    tidy(() => {
      const part = fromBytes(block, [count], { dtype: entry.dtype, device: target.device });
      copyFrom(narrow(reshape(target, [target.numel]), 0, first, count), part);
    });
  });
}

/**
 * Reads tensors in pieces into memory that is there already; the next piece is read while one is
 * put in its place.
 */
async function fill(
  handle: FileHandle,
  dataOffset: number,
  targets: readonly (readonly [entry: SafetensorsEntry, target: Tensor])[],
  file: string,
  scratch: Scratch,
): Promise<void> {
  // Sizes were checked against the length of the file: this is never more than is there.
  const largest = targets.reduce((most, [{ begin, end }]) => Math.max(most, end - begin), 0);
  const buffers = scratch.of(Math.min(largest, PIECE_BYTES));
  const read = async (piece: Piece, turn: number): Promise<Uint8Array> => {
    const width = itemSize(piece.entry.dtype);
    const block = buffers[turn % 2 === 0 ? 0 : 1].subarray(0, piece.count * width);
    await readPiece(handle, block, dataOffset + piece.entry.begin + piece.first * width, file);
    return block;
  };
  const pieces = piecesOf(targets);
  let next = pieces.next();
  let reading = next.done === true ? null : read(next.value, 0);
  for (let turn = 1; next.done !== true; turn++) {
    const piece = next.value;
    const block = await reading!;
    next = pieces.next();
    reading = next.done === true ? null : read(next.value, turn);
    // Awaited in the next turn, which does not come where this one fails.
    reading?.catch(() => undefined);
    const { dtype, name } = piece.entry;
    if (dtype === "bool") checkBools(block, piece.first, name, file);
    placePiece(block, piece);
  }
}

/** A tensor for an entry, as the options ask. */
function makeTarget(
  entry: SafetensorsEntry,
  options: LoadSafetensorsOptions,
  file: string,
): Tensor {
  const dtype = (isFloating(entry.dtype) ? options.dtype : undefined) ?? entry.dtype;
  try {
    return outsideScopes(() => empty(entry.shape, { dtype, device: options.device }));
  } catch (cause) {
    // More dimensions than the library has.
    if (!(cause instanceof ShapeError)) throw cause;
    return failLoading(file, `tensor ${describe(entry.name)}: ${cause.message}`, cause);
  }
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

/** The tensors of one file. Where one fails, all are disposed. */
export async function loadFile(
  file: string,
  options: LoadSafetensorsOptions,
  scratch = new Scratch(),
): Promise<[name: string, tensor: Tensor][]> {
  return withFile(file, async (handle) => {
    const header = readSafetensorsHeader(handle.fd, file);
    const targets: [SafetensorsEntry, Tensor][] = [];
    try {
      for (const entry of chooseEntries(header, options.names, file)) {
        targets.push([entry, makeTarget(entry, options, file)]);
      }
      await fill(handle, header.dataOffset, targets, file, scratch);
    } catch (cause) {
      for (const [, tensor] of targets) tensor.dispose();
      throw cause;
    }
    return targets.map(([{ name }, tensor]) => [name, tensor]);
  });
}

/**
 * Reads tensors of one file into others of the same shapes, cast to their dtypes. Beside these, two
 * pieces of a tensor are in memory.
 * @throws CheckpointError where the file is broken, or lacks one or has it in another shape.
 */
export async function readFileInto(
  file: string,
  targets: ReadonlyMap<string, Tensor>,
  scratch = new Scratch(),
): Promise<void> {
  await withFile(file, async (handle) => {
    const header = readSafetensorsHeader(handle.fd, file);
    const pairs = chooseEntries(header, targets.keys(), file).map((entry) => {
      const target = targets.get(entry.name)!;
      if (!sameShape(entry.shape, target.shape)) {
        failLoading(
          file,
          `tensor ${describe(entry.name)}: expected shape ${formatShape(target.shape)}, got ` +
            formatShape(entry.shape),
        );
      }
      return [entry, target] as const;
    });
    await fill(handle, header.dataOffset, pairs, file, scratch);
  });
}
