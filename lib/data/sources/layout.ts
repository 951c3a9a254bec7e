// Which files a data set consists of, and which part of it each belongs to: a single file, a
// directory of files as data sets on the Hugging Face hub have them, or folders of classes.

import { readdir, stat } from "node:fs/promises";
import path from "node:path";

import { listClassFolders } from "./class-folders.js";
import { failAt } from "./row.js";

/** The parts of a data set. */
export type SplitName = "train" | "validation" | "test";
export const SPLIT_NAMES: readonly SplitName[] = ["train", "validation", "test"];

/** How a file is read; a folder is one of classes. */
export type FileKind = "csv" | "tsv" | "jsonl" | "parquet" | "folder";

/** One file, or one folder of classes. */
export interface DataFile {
  readonly kind: FileKind;
  readonly path: string;
}

/** The files of a data set by part; a part without files is to be taken from the training rows. */
export type DataFiles = Readonly<Record<SplitName, readonly DataFile[]>>;

/** How to find the files of a data set. */
export interface FindOptions {
  /** Downloads a data set of that name and returns its directory; asked where no such path exists. */
  readonly resolve?: ((name: string) => Promise<string>) | undefined;
  /** The operation that errors name. */
  readonly op?: string;
}

const KINDS: Readonly<Record<string, FileKind>> = {
  ".csv": "csv",
  ".tsv": "tsv",
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".parquet": "parquet",
};

/** As Hugging Face's `datasets` finds the part in the name of a file or folder. */
const KEYWORDS: readonly (readonly [SplitName, RegExp])[] = [
  ["train", /(^|[^a-z0-9])(train|training)([^a-z0-9]|$)/],
  ["validation", /(^|[^a-z0-9])(validation|valid|val|dev)([^a-z0-9]|$)/],
  ["test", /(^|[^a-z0-9])(test|testing|eval|evaluation)([^a-z0-9]|$)/],
];

const MOST_DEPTH = 3;

function splitOf(name: string): SplitName | null {
  const lower = name.toLowerCase();
  return KEYWORDS.find(([, pattern]) => pattern.test(lower))?.[0] ?? null;
}

/** Whether a file holds rows, going by its name. */
export function isDataFile(file: string): boolean {
  return kindOf(file) !== null;
}

function kindOf(file: string): FileKind | null {
  return KINDS[path.extname(file).toLowerCase()] ?? null;
}

/**
 * A single file as part of a data set.
 * @throws DataError for an extension that is not known.
 */
export function dataFile(file: string, op = "findDataFiles"): DataFile {
  const kind = kindOf(file);
  const known = Object.keys(KINDS).join(", ");
  if (kind === null) {
    failAt(op, file, `expected a file ${known}, got ${JSON.stringify(path.extname(file))}`);
  }
  return { kind, path: file };
}

async function listFiles(directory: string, depth = 0): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith(".")) continue;
    const full = path.join(directory, entry.name);
    // The cache of the hub keeps links to files.
    const directoryHere = entry.isSymbolicLink()
      ? (await stat(full).catch(() => null))?.isDirectory()
      : entry.isDirectory();
    if (directoryHere !== true) found.push(full);
    else if (depth < MOST_DEPTH) found.push(...(await listFiles(full, depth + 1)));
  }
  return found;
}

/** Parts of a file's path below the data set: its own name decides before those of its folders. */
function splitOfPath(relative: string): SplitName | null {
  const parts = relative.split(path.sep);
  for (const part of parts.reverse()) {
    const split = splitOf(part);
    if (split !== null) return split;
  }
  return null;
}

/** A part in several files says in each name how many there are. */
function checkShards(files: readonly string[], op: string): void {
  const sets = new Map<string, { count: number; seen: Set<number>; file: string }>();
  for (const file of files) {
    const match = /^(.*)-(\d{5})-of-(\d{5})(.*)$/.exec(file);
    if (match === null) continue;
    const [, before, index, count, after] = match;
    const key = `${before}|${count}|${after}`;
    const set = sets.get(key) ?? { count: Number(count), seen: new Set(), file };
    set.seen.add(Number(index));
    sets.set(key, set);
  }
  for (const { count, seen, file } of sets.values()) {
    const lost = Array.from({ length: count }, (_, i) => i).filter((i) => !seen.has(i));
    if (lost.length > 0) {
      const list = lost.slice(0, 5).join(", ") + (lost.length > 5 ? ", …" : "");
      failAt(op, file, `${count} parts belong together, and part ${list} is not there`);
    }
  }
}

function checkOneConfiguration(
  directory: string,
  files: readonly { readonly relative: string; readonly split: SplitName | null }[],
  op: string,
): void {
  const folders = new Map<string, SplitName[]>();
  for (const { relative, split } of files) {
    const parts = path.dirname(relative).split(path.sep);
    const folder = parts.filter((part) => part !== "." && splitOf(part) === null).join("/");
    folders.set(folder, [...(folders.get(folder) ?? []), split ?? "train"]);
  }
  const names = [...folders.keys()];
  const twice = SPLIT_NAMES.find(
    (split) => names.filter((name) => folders.get(name)!.includes(split)).length > 1,
  );
  if (twice !== undefined) {
    const list = names.map((name) => JSON.stringify(name === "" ? "." : name)).join(", ");
    failAt(op, directory, `several folders have a ${twice} part — name one of them: ${list}`);
  }
}

async function filesOfDirectory(directory: string, op: string): Promise<DataFiles> {
  const parts: Record<SplitName, DataFile[]> = { train: [], validation: [], test: [] };
  const all = (await listFiles(directory)).filter((file) => kindOf(file) !== null);
  if (all.length > 0) {
    const named = all.map((file) => {
      const relative = path.relative(directory, file);
      return { file, relative, split: splitOfPath(relative) };
    });
    // Where some say what part they are, the others are something else, as in the hub's data sets.
    const used = named.some(({ split }) => split !== null)
      ? named.filter(({ split }) => split !== null)
      : named;
    checkOneConfiguration(directory, used, op);
    const kinds = [...new Set(used.map(({ file }) => kindOf(file)))];
    if (kinds.length > 1) failAt(op, directory, `files of different kinds: ${kinds.join(", ")}`);
    checkShards(
      used.map(({ file }) => file),
      op,
    );
    for (const { file, split } of used) parts[split ?? "train"].push(dataFile(file, op));
    return parts;
  }
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries) {
    const split = entry.isDirectory() ? splitOf(entry.name) : null;
    const folder = path.join(directory, entry.name);
    if (split !== null && (await listClassFolders(folder)).length > 0) {
      parts[split].push({ kind: "folder", path: folder });
    }
  }
  if (SPLIT_NAMES.every((split) => parts[split].length === 0)) {
    if ((await listClassFolders(directory)).length === 0) {
      const known = Object.keys(KINDS).join(", ");
      failAt(op, directory, `no data in it — expected ${known} files, or folders of .txt files`);
    }
    parts.train.push({ kind: "folder", path: directory });
  }
  return parts;
}

/** What a name on the hub looks like. */
const HUB_NAME = /^[\w.-]+(\/[\w.-]+)?$/;

/**
 * The files of a data set: `FILE.csv`, `.tsv`, `.jsonl` or `.parquet`; a directory of them whose
 * names or folders say which part they are (`data/train-00000-of-00002.parquet`); a directory of
 * classes (`train/pos/0_9.txt`, or `pos/0_9.txt`).
 * @throws DataError where there is none, parts are missing, or it is not clear which are meant.
 */
export async function findDataFiles(name: string, options: FindOptions = {}): Promise<DataFiles> {
  const { resolve, op = "findDataFiles" } = options;
  const found = await stat(name).catch((cause: unknown) => {
    if (resolve !== undefined && HUB_NAME.test(name)) return null;
    failAt(op, name, `cannot be read: ${(cause as Error).message}`, cause);
  });
  if (found === null) return findDataFiles(await resolve!(name), { op });
  if (found.isDirectory() && kindOf(name) === null) return filesOfDirectory(name, op);
  const file = dataFile(name, op);
  if (found.isDirectory()) failAt(op, name, "cannot be read: it is a directory");
  return { train: [file], validation: [], test: [] };
}
