// Encodes the texts of a file once: their token ids are kept on the disk under a name that tokenizer,
// file and columns decide. Processes may write the same one at the same time, since a file takes its
// name as a whole; a damaged one is made again.

import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, realpath, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";

import { DataError, MixprecError } from "../errors.js";
import { writeFileAtomic } from "../io/atomic-write.js";
import { failAt, type DataFile } from "./sources/index.js";
import { encodeAll, encodeTask, type EncodedTexts } from "./text-task.js";
import { BadRows, streamTexts, type TextRow, type TextStreamOptions } from "./text-stream.js";
import { openTokenStore, StoreWriter, type TokenStore } from "./token-store.js";
import type { TextTokenizer } from "./tokenizer.js";
import { WorkerPool } from "./worker-pool.js";

/** Goes up when the same texts give other ids or another layout. */
const FORMAT = 1;

const OP = "encodeFile";

/** How the texts of a file are encoded. */
export interface EncodeFileOptions extends Omit<TextStreamOptions, "bad"> {
  /** Directory of kept token ids; null keeps none. Default: {@link defaultCacheDirectory}. */
  readonly cacheDirectory?: string | null;
  /** By what a file is known again: path, size and time of change (default), or its content. */
  readonly identity?: "stat" | "content";
  /** Threads that tokenize; default 0, which does it in this one. */
  readonly numWorkers?: number;
  /** Called with the number of texts that were encoded so far. */
  readonly onProgress?: (rows: number) => void;
}

/** Token ids of a file's texts. */
export interface EncodedFile {
  readonly store: TokenStore;
  /** Whether they were there, had to be made, or were there but damaged. */
  readonly cache: "hit" | "made" | "repaired" | "off";
}

/** `$MIXPREC_CACHE/tokens`, or `mixprec/tokens` where the system keeps caches. */
export function defaultCacheDirectory(): string {
  const { MIXPREC_CACHE, XDG_CACHE_HOME } = process.env;
  if (MIXPREC_CACHE !== undefined && MIXPREC_CACHE !== "")
    return path.join(MIXPREC_CACHE, "tokens");
  const base =
    XDG_CACHE_HOME !== undefined && XDG_CACHE_HOME !== ""
      ? XDG_CACHE_HOME
      : path.join(homedir(), ".cache");
  return path.join(base, "mixprec", "tokens");
}

async function filesOf({ kind, path: file }: DataFile): Promise<string[]> {
  if (kind !== "folder") return [file];
  const entries = await readdir(file, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

async function addContent(file: string, hash: Hash): Promise<void> {
  for await (const block of createReadStream(file)) hash.update(block as Buffer);
}

/** What changes when a file does. */
async function identityOf(file: DataFile, how: "stat" | "content"): Promise<string> {
  try {
    const hash = createHash("sha256");
    for (const part of await filesOf(file)) {
      const { size, mtimeNs } = await stat(part, { bigint: true });
      const known = how === "stat" ? `${mtimeNs}` : "";
      const name = how === "stat" ? await realpath(part) : path.relative(file.path, part);
      hash.update(JSON.stringify([name, `${size}`, known]));
      if (how === "content") await addContent(part, hash);
    }
    return hash.digest("hex");
  } catch (cause) {
    failAt(OP, file.path, `cannot be read: ${(cause as Error).message}`, cause);
  }
}

function keyOf(
  identity: string,
  file: DataFile,
  tokenizer: TextTokenizer,
  options: EncodeFileOptions,
): string {
  const { textColumn = "text", labelColumn = "label", quoting = true, badRows = "fail" } = options;
  const parts = [FORMAT, tokenizer.fingerprint, identity, file.kind];
  const all = [...parts, textColumn, labelColumn, quoting, badRows];
  return createHash("sha256").update(JSON.stringify(all)).digest("hex").slice(0, 40);
}

/** Texts are handed to threads in blocks of about this many characters and at most so many rows. */
const BLOCK = { characters: 128 * 1024, rows: 512 };

async function* blocksOf(rows: AsyncIterable<TextRow>): AsyncGenerator<TextRow[], void> {
  let block: TextRow[] = [];
  let characters = 0;
  for await (const row of rows) {
    block.push(row);
    characters += row.text.length;
    if (characters < BLOCK.characters && block.length < BLOCK.rows) continue;
    yield block;
    block = [];
    characters = 0;
  }
  if (block.length > 0) yield block;
}

type Block = readonly [EncodedTexts, readonly TextRow[]];

/** Blocks of rows with their token ids, in order. */
async function* encodeBlocks(
  rows: AsyncIterable<TextRow>,
  tokenizer: TextTokenizer,
  pool: WorkerPool<readonly string[], EncodedTexts> | null,
): AsyncGenerator<Block, void> {
  const textsOf = (block: readonly TextRow[]): string[] => block.map(({ text }) => text);
  if (pool === null) {
    for await (const block of blocksOf(rows)) {
      yield [encodeAll(tokenizer, textsOf(block)), block];
    }
    return;
  }
  const waiting: (readonly [Promise<EncodedTexts>, readonly TextRow[]])[] = [];
  for await (const block of blocksOf(rows)) {
    waiting.push([pool.run(textsOf(block)), block]);
    if (waiting.length <= 2 * pool.size) continue;
    const [result, first] = waiting.shift()!;
    yield [await pool.wait(result), first];
  }
  for (const [result, block] of waiting) yield [await pool.wait(result), block];
}

/** Encodes a file: into `target`, or into memory where that is null. */
async function encodeInto(
  target: string | null,
  file: DataFile,
  tokenizer: TextTokenizer,
  options: EncodeFileOptions,
): Promise<TokenStore> {
  const { numWorkers = 0, onProgress, op = OP } = options;
  const bad = new BadRows();
  const rows = streamTexts([file], { ...options, bad, op });
  const pool = numWorkers > 0 ? new WorkerPool(numWorkers, encodeTask(tokenizer)) : null;
  const writer = new StoreWriter();
  let count = 0;
  async function* blocks(): AsyncGenerator<[Int32Array, Uint8Array], void> {
    for await (const [{ ids, ends }, block] of encodeBlocks(rows, tokenizer, pool)) {
      count += block.length;
      yield [ids, writer.add(ids, ends, block)];
      onProgress?.(count);
    }
  }
  try {
    if (target === null) {
      const parts: Int32Array[] = [];
      for await (const [ids] of blocks()) parts.push(ids);
      return writer.toStore(parts, file.path, bad.report());
    }
    await writeFileAtomic(
      target,
      (async function* () {
        for await (const [, bytes] of blocks()) yield bytes;
        yield* writer.finish(file.path, bad.report());
      })(),
    );
  } finally {
    await pool?.close();
  }
  const store = openTokenStore(target);
  if (store !== null) return store;
  throw new DataError(`${op}: ${target}: was taken away while it was written`, { op });
}

/** What is kept under a name; "damaged" where it is of no use. */
function openKept(target: string, source: string): TokenStore | "damaged" | null {
  try {
    return openTokenStore(target, { source });
  } catch (error) {
    if (error instanceof DataError) return "damaged";
    throw error;
  }
}

/** A process that was killed leaves a file half written; nobody writes one for so long. */
const ABANDONED_MS = 24 * 3600 * 1000;

async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!/^\..+\.tokens\..+\.tmp$/.test(name)) continue;
    const file = path.join(directory, name);
    // Another process may take it away first.
    const found = await stat(file).catch(() => null);
    if (found !== null && Date.now() - found.mtimeMs > ABANDONED_MS)
      await rm(file, { force: true });
  }
}

/**
 * Token ids of the texts of a file, from the cache or made now. A file that is larger than memory
 * is encoded as it is read, and its ids stay on the disk.
 * @throws DataError as `streamTexts`, and where the cache cannot be written.
 */
export async function encodeFile(
  file: DataFile,
  tokenizer: TextTokenizer,
  options: EncodeFileOptions = {},
): Promise<EncodedFile> {
  const { cacheDirectory = defaultCacheDirectory(), identity = "stat", op = OP } = options;
  if (cacheDirectory === null) {
    return { store: await encodeInto(null, file, tokenizer, options), cache: "off" };
  }
  const before = await identityOf(file, identity);
  const target = path.join(cacheDirectory, `${keyOf(before, file, tokenizer, options)}.tokens`);
  const kept = openKept(target, file.path);
  if (kept !== null && kept !== "damaged") return { store: kept, cache: "hit" };
  let store: TokenStore;
  try {
    await mkdir(cacheDirectory, { recursive: true });
    await removeAbandoned(cacheDirectory);
    store = await encodeInto(target, file, tokenizer, options);
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    const unwritten = cause instanceof MixprecError || (cause as { code?: string }).code;
    if (unwritten === undefined) throw cause;
    const what = `token ids cannot be kept in ${cacheDirectory}: ${(cause as Error).message}`;
    throw new DataError(`${op}: ${what} — name another directory, or none`, { op, cause });
  }
  if ((await identityOf(file, identity)) !== before) {
    store.close();
    await rm(target, { force: true });
    failAt(op, file.path, "was changed while it was read");
  }
  return { store, cache: kept === null ? "made" : "repaired" };
}
