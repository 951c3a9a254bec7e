// The safetensors container: 8 bytes of header length (little endian), a JSON header, the data.
// Everything is checked here, as strictly as the reference reader does and more where JSON leaves a
// choice; the data itself is never read, and nothing is allocated by a size that a file only
// claims. Format: https://github.com/huggingface/safetensors#format

import { fstatSync, readSync } from "node:fs";

import { itemSize, type DType } from "../dtype.js";
import { CheckpointError, describe, formatShape } from "../errors.js";
import { findJsonFault } from "./json-faults.js";

/** One tensor of a file. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Where its bytes begin and end, counted from the start of the data. */
  readonly begin: number;
  readonly end: number;
}

/** The checked header of a file. */
export interface SafetensorsHeader {
  /** In the order of their bytes. */
  readonly entries: readonly SafetensorsEntry[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the data begins in the file. */
  readonly dataOffset: number;
  /** Bytes of data. */
  readonly dataLength: number;
}

/** A tensor that is to be written. */
export interface SafetensorsTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** What {@link serializeSafetensorsHeader} makes. */
export interface SerializedHeader {
  /** The beginning of the file: length, JSON, padding; its length is a multiple of 8. */
  readonly bytes: Uint8Array;
  /** In the order in which the data has to follow. */
  readonly entries: readonly SafetensorsEntry[];
  readonly dataLength: number;
}

const LENGTH_BYTES = 8;
/** The limit of the reference reader. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = "__metadata__";

const DTYPE_NAMES: Record<DType, string> = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
};
const DTYPES_BY_NAME = new Map(
  Object.entries(DTYPE_NAMES).map(([dtype, name]) => [name, dtype as DType]),
);

// The reference writer sorts by its list of dtypes, the widest first, then by name.
const WRITE_ORDER: readonly DType[] = [
  "int64",
  "float64",
  "float32",
  "int32",
  "bfloat16",
  "float16",
  "int8",
  "uint8",
  "bool",
];

type Fail = (what: string, cause?: unknown) => never;

function failing(file: string, op: string): Fail {
  return (what, cause) => {
    throw new CheckpointError(`${op}: ${file}: ${what}`, { op, cause });
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

function parseShape(value: unknown, fail: Fail): number[] {
  if (!Array.isArray(value)) return fail(`shape — expected an array, got ${describe(value)}`);
  return value.map((size: unknown, dim) =>
    isCount(size)
      ? size
      : fail(`shape[${dim}] — expected a safe integer of at least 0, got ${describe(size)}`),
  );
}

function byteLength(dtype: DType, shape: readonly number[], fail: Fail): number {
  let bytes = itemSize(dtype);
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) fail(`shape ${formatShape(shape)} of ${dtype} is too large`);
  }
  return bytes;
}

function parseDType(value: unknown, fail: Fail): DType {
  const dtype = typeof value === "string" ? DTYPES_BY_NAME.get(value) : undefined;
  if (dtype !== undefined) return dtype;
  const names = [...DTYPES_BY_NAME.keys()].join(", ");
  return fail(`dtype — expected one of ${names}, got ${describe(value)}`);
}

function parseEntry(
  name: string,
  value: unknown,
  dataLength: number,
  failFile: Fail,
): SafetensorsEntry {
  const fail: Fail = (what, cause) => failFile(`tensor ${describe(name)}: ${what}`, cause);
  if (!isObject(value)) return fail(`expected an object, got ${describe(value)}`);
  for (const field of ["dtype", "shape", "data_offsets"]) {
    if (!Object.hasOwn(value, field)) fail(`${field} is missing`);
  }
  const dtype = parseDType(value.dtype, fail);
  const shape = parseShape(value.shape, fail);
  const offsets = value.data_offsets;
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    const got = Array.isArray(offsets) ? `[${offsets.slice(0, 3).join(", ")}]` : describe(offsets);
    return fail(`data_offsets — expected two safe integers of at least 0, got ${got}`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) fail(`data_offsets [${begin}, ${end}] end before they begin`);
  if (end > dataLength) {
    fail(`data_offsets [${begin}, ${end}] out of range — the file has ${dataLength} bytes of data`);
  }
  const bytes = byteLength(dtype, shape, fail);
  if (end - begin !== bytes) {
    fail(
      `${dtype} ${formatShape(shape)} takes ${bytes} bytes, ` +
        `but data_offsets [${begin}, ${end}] span ${end - begin}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** Every byte of the data has to belong to exactly one tensor. */
function checkContiguous(
  entries: readonly SafetensorsEntry[],
  dataLength: number,
  fail: Fail,
): void {
  let previous: SafetensorsEntry | null = null;
  for (const entry of entries) {
    const expected = previous === null ? 0 : previous.end;
    if (entry.begin !== expected) {
      const after = previous === null ? "at the start" : `after tensor ${describe(previous.name)}`;
      fail(
        `tensor ${describe(entry.name)}: ${entry.begin < expected ? "overlap" : "gap"} ${after} — ` +
          `expected data_offsets to begin at ${expected}, got ${entry.begin}`,
      );
    }
    previous = entry;
  }
  const used = previous === null ? 0 : previous.end;
  if (used !== dataLength) {
    fail(`${dataLength - used} bytes after the last tensor — expected ${used} bytes of data`);
  }
}

function parseMetadata(value: unknown, fail: Fail): Record<string, string> {
  if (!isObject(value)) return fail(`${METADATA} — expected an object, got ${describe(value)}`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      fail(`${METADATA} ${describe(key)} — expected a string, got ${describe(text)}`);
    }
  }
  return value as Record<string, string>;
}

function parseJson(bytes: Uint8Array, fail: Fail): Record<string, unknown> {
  if (bytes[0] !== 0x7b) fail("the header does not begin with {");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    return fail("the header is not UTF-8", cause);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return fail(`the header is not JSON: ${(cause as Error).message}`, cause);
  }
  const fault = findJsonFault(text);
  if (fault !== null) fail(`the header has ${fault}`);
  if (!isObject(json)) return fail(`the header is not an object, got ${describe(json)}`);
  return json;
}

const PICKLE =
  "is a PyTorch file, which can run code when it is read, and is not read; convert it with " +
  `python3 -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous().clone() for ` +
  `k, v in torch.load('IN', weights_only=True).items()}, 'OUT.safetensors', {'format': 'pt'})"`;

/** Whether a file begins as PyTorch writes them: a zip archive, or in old ones a pickle. */
function isPickle(start: Uint8Array): boolean {
  const [first, second] = start;
  return (first === 0x50 && second === 0x4b) || (first === 0x80 && second! >= 2 && second! <= 5);
}

/** Checks the length field; `fileLength` bounds what may be read next. */
function checkHeaderLength(length: Uint8Array, fileLength: number, fail: Fail): number {
  const claimed = new DataView(length.buffer, length.byteOffset, LENGTH_BYTES).getBigUint64(
    0,
    true,
  );
  if (claimed > BigInt(MAX_HEADER_BYTES)) {
    if (isPickle(length)) fail(PICKLE);
    fail(`header of ${claimed} bytes — expected at most ${MAX_HEADER_BYTES}`);
  }
  if (Number(claimed) > fileLength - LENGTH_BYTES) {
    fail(
      `truncated — the header takes ${claimed} bytes, ` +
        `the file has ${fileLength - LENGTH_BYTES} after its length`,
    );
  }
  return Number(claimed);
}

function checkFileLength(fileLength: number, fail: Fail): void {
  if (fileLength < LENGTH_BYTES) {
    fail(`truncated — expected at least ${LENGTH_BYTES} bytes, got ${fileLength}`);
  }
}

function parseHeader(bytes: Uint8Array, fileLength: number, fail: Fail): SafetensorsHeader {
  const dataOffset = LENGTH_BYTES + bytes.byteLength;
  const dataLength = fileLength - dataOffset;
  const json = parseJson(bytes, fail);
  const metadata = Object.hasOwn(json, METADATA) ? parseMetadata(json[METADATA], fail) : {};
  const entries = Object.entries(json)
    .filter(([name]) => name !== METADATA)
    .map(([name, value]) => parseEntry(name, value, dataLength, fail))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkContiguous(entries, dataLength, fail);
  return { entries, metadata, dataOffset, dataLength };
}

/**
 * The header of a whole file in memory.
 * @param file what errors call it
 * @throws CheckpointError for every violation of the format, and for dtypes that do not exist here.
 */
export function parseSafetensors(bytes: Uint8Array, file: string): SafetensorsHeader {
  const fail = failing(file, "loadSafetensors");
  checkFileLength(bytes.byteLength, fail);
  const length = checkHeaderLength(bytes.subarray(0, LENGTH_BYTES), bytes.byteLength, fail);
  const header = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
  return parseHeader(header, bytes.byteLength, fail);
}

function readExactly(fd: number, position: number, length: number, fail: Fail): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const read = readSync(fd, bytes, at, length - at, position + at);
    if (read === 0) fail(`truncated — expected ${length} bytes at ${position}, got ${at}`);
    at += read;
  }
  return bytes;
}

/**
 * The header of an open file; the data is not read.
 * @throws CheckpointError as {@link parseSafetensors}, and where the file cannot be read.
 */
export function readSafetensorsHeader(fd: number, file: string): SafetensorsHeader {
  const fail = failing(file, "loadSafetensors");
  try {
    const fileLength = fstatSync(fd).size;
    checkFileLength(fileLength, fail);
    const start = readExactly(fd, 0, LENGTH_BYTES, fail);
    const length = checkHeaderLength(start, fileLength, fail);
    return parseHeader(readExactly(fd, LENGTH_BYTES, length, fail), fileLength, fail);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    return fail(`cannot be read: ${(cause as Error).message}`, cause);
  }
}

function checkWritable(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>>,
  fail: Fail,
): void {
  const names = new Set<string>();
  for (const { name, shape } of tensors) {
    if (name === METADATA) fail(`a tensor cannot be called ${METADATA}`);
    if (/\p{Surrogate}/u.test(name)) fail(`tensor ${describe(name)}: the name is not Unicode`);
    if (names.has(name)) fail(`tensor ${describe(name)} stands there twice`);
    names.add(name);
    parseShape(shape, (what) => fail(`tensor ${describe(name)}: ${what}`));
  }
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string" || /\p{Surrogate}/u.test(key + value)) {
      fail(`${METADATA} ${describe(key)} — expected a Unicode string, got ${describe(value)}`);
    }
  }
}

/**
 * The header for tensors that are to be written, in the order of the reference writer: the widest
 * dtypes first, then by name, so that every tensor is aligned.
 * @param file what errors call it
 * @throws CheckpointError for names that are repeated or cannot be written.
 */
export function serializeSafetensorsHeader(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>> = {},
  file = "safetensors",
): SerializedHeader {
  const fail = failing(file, "saveSafetensors");
  checkWritable(tensors, metadata, fail);
  const sorted = [...tensors].sort(
    (a, b) =>
      WRITE_ORDER.indexOf(a.dtype) - WRITE_ORDER.indexOf(b.dtype) ||
      Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  let end = 0;
  const entries = sorted.map(({ name, dtype, shape }): SafetensorsEntry => {
    const begin = end;
    end += byteLength(dtype, shape, (what) => fail(`tensor ${describe(name)}: ${what}`));
    return { name, dtype, shape: [...shape], begin, end };
  });
  // Written by hand: an object would put names that are numbers first.
  const fields = entries.map(({ name, dtype, shape, begin, end: stop }) => {
    const info = { dtype: DTYPE_NAMES[dtype], shape, data_offsets: [begin, stop] };
    return `${JSON.stringify(name)}:${JSON.stringify(info)}`;
  });
  if (Object.keys(metadata).length > 0) fields.unshift(`"${METADATA}":${JSON.stringify(metadata)}`);
  const json = Buffer.from(`{${fields.join(",")}}`);
  const padded = Math.ceil(json.byteLength / LENGTH_BYTES) * LENGTH_BYTES;
  if (padded > MAX_HEADER_BYTES) {
    fail(`header of ${padded} bytes — expected at most ${MAX_HEADER_BYTES}`);
  }
  const bytes = Buffer.alloc(LENGTH_BYTES + padded, " ");
  bytes.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(bytes, LENGTH_BYTES);
  return { bytes, entries, dataLength: end };
}
