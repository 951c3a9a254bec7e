// Token ids of many texts with their labels: in memory, or in a file that is read as it is needed.
// The file, all little-endian: the ids as int32 one text after the other; the index, which is where
// each text ends (float64), its label (int32, among `labels` of the footer) and its line (uint32);
// the footer as JSON; and 16 bytes: length of the footer, CRC-32 of all before, and a mark.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { crc32 } from "node:zlib";

import { DataError } from "../errors.js";
import type { RowPlace } from "./sources/index.js";
import type { BadRowReport, Label } from "./text-stream.js";

/** What stands in the footer besides the sizes. */
export interface StoreFacts {
  /** The file that the texts came from, for errors. */
  readonly source: string;
  readonly unit: RowPlace["unit"];
  /** Different labels, in the order they came in. */
  readonly labels: readonly Label[];
  /** Rows that were left out. */
  readonly bad: BadRowReport;
}

/** Index of a store; row i has the ids from `ends[i - 1]` up to `ends[i]`. */
export interface StoreIndex {
  readonly ends: Float64Array;
  readonly labels: Int32Array;
  readonly lines: Uint32Array;
}

interface Footer extends StoreFacts {
  readonly rows: number;
  readonly tokens: number;
  readonly maxId: number;
}

const MARK = Buffer.from("mptoken1", "latin1");
const TRAILER = 16;
const BLOCK = 4 * 2 ** 20;

/** Stores up to this size are kept in memory; larger ones are read from the file, text by text. */
const MOST_IN_MEMORY = 256 * 2 ** 20;

const bytesOf = (array: Float64Array | Int32Array | Uint32Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Collects what a store consists of, and writes it block by block. */
export class StoreWriter {
  private readonly ends: number[] = [];
  private readonly rowLabels: number[] = [];
  private readonly lines: number[] = [];
  private readonly labelIndex = new Map<Label, number>();
  private tokens = 0;
  private maxId = -1;
  private crc = 0;
  private unit: RowPlace["unit"] = null;

  /** Takes texts up; returns the bytes of their ids. */
  add(
    ids: Int32Array,
    ends: Int32Array,
    rows: readonly (RowPlace & { readonly label: Label | null })[],
  ): Uint8Array {
    rows.forEach(({ at, unit, label }, i) => {
      this.ends.push(this.tokens + ends[i]!);
      this.lines.push(at);
      this.unit = unit;
      let index = label === null ? -1 : this.labelIndex.get(label);
      if (index === undefined) this.labelIndex.set(label!, (index = this.labelIndex.size));
      this.rowLabels.push(index);
    });
    for (const id of ids) if (id > this.maxId) this.maxId = id;
    this.tokens += ids.length;
    return this.checked(bytesOf(ids));
  }

  /** What stands behind the ids. */
  finish(source: string, bad: BadRowReport): Uint8Array[] {
    const { ends, lines, labels } = this.index();
    const footer: Footer = {
      ...this.facts(source, bad),
      rows: ends.length,
      tokens: this.tokens,
      maxId: this.maxId,
    };
    const json = Buffer.from(JSON.stringify(footer), "utf8");
    const parts = [bytesOf(ends), bytesOf(labels), bytesOf(lines), json];
    for (const part of parts) this.checked(part);
    const trailer = Buffer.alloc(TRAILER);
    trailer.writeUInt32LE(json.length, 0);
    trailer.writeUInt32LE(this.crc, 4);
    MARK.copy(trailer, 8);
    return [...parts, trailer];
  }

  /** A store in memory of the ids that {@link add} was given. */
  toStore(ids: readonly Int32Array[], source: string, bad: BadRowReport): TokenStore {
    const all = new Int32Array(this.tokens);
    let at = 0;
    for (const part of ids) {
      all.set(part, at);
      at += part.length;
    }
    return new TokenStore(this.facts(source, bad), this.index(), this.maxId, all);
  }

  private facts(source: string, bad: BadRowReport): StoreFacts {
    return { source, unit: this.unit, labels: [...this.labelIndex.keys()], bad };
  }

  private index(): StoreIndex {
    return {
      ends: Float64Array.from(this.ends),
      labels: Int32Array.from(this.rowLabels),
      lines: Uint32Array.from(this.lines),
    };
  }

  private checked(bytes: Uint8Array): Uint8Array {
    this.crc = crc32(bytes, this.crc);
    return bytes;
  }
}

/** Token ids of texts, without special tokens, by row. */
export class TokenStore {
  /**
   * @param maxId the largest id; -1 where there is none
   * @param ids all ids, or the open file that begins with them
   */
  constructor(
    readonly facts: StoreFacts,
    private readonly index: StoreIndex,
    readonly maxId: number,
    private ids: Int32Array | { readonly descriptor: number } | null,
  ) {}

  /** Rows. */
  get length(): number {
    return this.index.ends.length;
  }

  /** Tokens of all rows. */
  get tokens(): number {
    return this.index.ends.at(-1) ?? 0;
  }

  /** Tokens of a row. */
  lengthOf(row: number): number {
    return this.index.ends[row]! - this.startOf(row);
  }

  /** Where the row stood in its file. */
  place(row: number): RowPlace {
    const { source, unit } = this.facts;
    return { file: source, unit, at: this.index.lines[row]! };
  }

  /** The row's label as the file has it; null where none were read. */
  label(row: number): Label | null {
    return this.facts.labels[this.index.labels[row]!] ?? null;
  }

  /**
   * The first `most` ids of a row.
   * @throws DataError where the file cannot be read any more, or the store was closed.
   */
  content(row: number, most = Infinity): Int32Array {
    const start = this.startOf(row);
    const count = Math.min(most, this.lengthOf(row));
    const { ids } = this;
    if (ids === null) throw new DataError("TokenStore: it was closed", { op: "TokenStore" });
    if (ids instanceof Int32Array) return ids.subarray(start, start + count);
    const out = new Int32Array(count);
    readFully(ids.descriptor, bytesOf(out), start * 4, this.facts.source);
    return out;
  }

  /** Closes the file; in memory it lets go of the ids. */
  close(): void {
    if (this.ids !== null && !(this.ids instanceof Int32Array)) closeSync(this.ids.descriptor);
    this.ids = null;
  }

  private startOf(row: number): number {
    return row === 0 ? 0 : this.index.ends[row - 1]!;
  }
}

function readFully(descriptor: number, into: Uint8Array, position: number, file: string): void {
  for (let at = 0; at < into.byteLength;) {
    const count = readSync(descriptor, into, at, into.byteLength - at, position + at);
    if (count === 0) throw new DataError(`TokenStore: the store of ${file} ends early`);
    at += count;
  }
}

function isFooter(value: unknown): value is Footer {
  if (value === null || typeof value !== "object") return false;
  const { rows, tokens, maxId, source, labels, bad } = value as Partial<Record<string, unknown>>;
  return (
    [rows, tokens].every((n) => Number.isSafeInteger(n) && (n as number) >= 0) &&
    Number.isSafeInteger(maxId) &&
    typeof source === "string" &&
    Array.isArray(labels) &&
    bad !== null &&
    typeof bad === "object"
  );
}

function readFooter(
  descriptor: number,
  file: string,
): { footer: Footer; crc: number; end: number } {
  const { size } = fstatSync(descriptor);
  const trailer = Buffer.alloc(TRAILER);
  if (size < TRAILER) throw new Error("too short");
  readFully(descriptor, trailer, size - TRAILER, file);
  if (!trailer.subarray(8).equals(MARK)) throw new Error("the mark is not there");
  const length = trailer.readUInt32LE(0);
  const start = size - TRAILER - length;
  if (start < 0) throw new Error("too short");
  const json = Buffer.alloc(length);
  readFully(descriptor, json, start, file);
  const footer: unknown = JSON.parse(json.toString("utf8"));
  if (!isFooter(footer)) throw new Error("the footer is not one");
  if (footer.tokens * 4 + footer.rows * 16 !== start) throw new Error("the sizes do not agree");
  return { footer, crc: trailer.readUInt32LE(4), end: size - TRAILER };
}

function checkSum(descriptor: number, end: number, expected: number, file: string): void {
  const block = Buffer.allocUnsafe(BLOCK);
  let crc = 0;
  for (let at = 0; at < end; at += BLOCK) {
    const part = block.subarray(0, Math.min(BLOCK, end - at));
    readFully(descriptor, part, at, file);
    crc = crc32(part, crc);
  }
  if (crc !== expected) throw new Error("the checksum does not agree");
}

/** How a store is opened. */
export interface OpenStoreOptions {
  /** What errors call the file that the texts came from; default: what it was when it was read. */
  readonly source?: string;
  /** Bytes of ids up to which they are kept in memory; default 256 MiB. */
  readonly mostInMemory?: number;
}

/**
 * Opens a store in a file; all of it is checked.
 * @returns null where there is no such file.
 * @throws DataError where it is damaged or cannot be read.
 */
export function openTokenStore(file: string, options: OpenStoreOptions = {}): TokenStore | null {
  const { mostInMemory = MOST_IN_MEMORY } = options;
  let descriptor: number | null = null;
  try {
    descriptor = openSync(file, "r");
    const { footer, crc, end } = readFooter(descriptor, file);
    checkSum(descriptor, end, crc, file);
    const { rows, tokens, maxId } = footer;
    const facts = { ...footer, source: options.source ?? footer.source };
    const at = tokens * 4;
    const index = {
      ends: new Float64Array(rows),
      labels: new Int32Array(rows),
      lines: new Uint32Array(rows),
    };
    readFully(descriptor, bytesOf(index.ends), at, file);
    readFully(descriptor, bytesOf(index.labels), at + 8 * rows, file);
    readFully(descriptor, bytesOf(index.lines), at + 12 * rows, file);
    if (at > mostInMemory) {
      const store = new TokenStore(facts, index, maxId, { descriptor });
      descriptor = null;
      return store;
    }
    const ids = new Int32Array(tokens);
    readFully(descriptor, bytesOf(ids), 0, file);
    return new TokenStore(facts, index, maxId, ids);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    const what = `is damaged or cannot be read: ${(cause as Error).message}`;
    throw new DataError(`TokenStore: ${file}: ${what}`, { op: "TokenStore", cause });
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
}
