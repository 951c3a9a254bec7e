// A folder for each class with a text in each file, as in aclImdb: train/pos/0_9.txt.

import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import { decodeUtf8 } from "./bytes.js";
import { failAt, type BadRow, type RawRow, type ReadOptions } from "./row.js";

/** Files that are read at the same time. */
const AHEAD = 32;

/** What aclImdb calls the folder of texts without a label. */
const UNLABELLED = "unsup";

async function listTexts(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory() && entry.name.endsWith(".txt"))
    .map((entry) => entry.name)
    .sort();
}

/** Folders below `directory` that hold texts, sorted; those without labels left out. */
export async function listClassFolders(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const found: string[] = [];
  for (const name of names.sort()) {
    if (name === UNLABELLED || name.startsWith(".")) continue;
    if ((await listTexts(path.join(directory, name))).length > 0) found.push(name);
  }
  return found;
}

async function readText(file: string, label: string, op: string): Promise<RawRow | BadRow> {
  const place = { file, unit: null, at: 1 } as const;
  const bytes = await readFile(file).catch((cause: unknown) =>
    failAt(op, file, `cannot be read: ${(cause as Error).message}`, cause),
  );
  const mark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  const content = decodeUtf8(mark ? bytes.subarray(3) : bytes);
  return typeof content === "string"
    ? { ...place, text: content, label }
    : { ...place, reason: content.fault };
}

/**
 * A row for each file in the class folders, in the order of folders and names; the label is the
 * folder's name.
 * @throws DataError where there are no class folders, or a file cannot be read.
 */
export async function* readClassFolders(
  directory: string,
  { op }: ReadOptions,
): AsyncGenerator<RawRow | BadRow, void> {
  const classes = await listClassFolders(directory);
  if (classes.length === 0) failAt(op, directory, "no folders with .txt files in it");
  for (const label of classes) {
    const files = await listTexts(path.join(directory, label));
    for (let start = 0; start < files.length; start += AHEAD) {
      const names = files.slice(start, start + AHEAD);
      yield* await Promise.all(
        names.map((name) => readText(path.join(directory, label, name), label, op)),
      );
    }
  }
}
