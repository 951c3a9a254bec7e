// Labelled texts from a file: what `mixprec finetune --data` reads. Every row is checked, and an
// error names the file, the line and what is wrong there.

import path from "node:path";
import { fileURLToPath } from "node:url";

import { ArgumentError, DataError, describe } from "../errors.js";
import { parseCsv, parseJsonLines, type TextRecord } from "./records.js";
import { readTextFile } from "./text-file.js";

/** Texts with a class each. */
export interface TextDataset {
  readonly texts: readonly string[];
  /** Index into `labelNames`. */
  readonly labels: readonly number[];
  /** Name of each class; `"0"`, `"1"`, … where the file has numbers. */
  readonly labelNames: readonly string[];
}

/** What to read from a data file. */
export interface TextDatasetOptions {
  /** Default: `text`. */
  textColumn?: string;
  /** Default: `label`. */
  labelColumn?: string;
  /** The classes that are allowed, in order; default: those that the file has. */
  labelNames?: readonly string[];
}

const OP = "loadTextDataset";

function fail(file: string, line: number | null, what: string): never {
  const place = line === null ? file : `${file}, line ${line}`;
  throw new DataError(`${OP}: ${place}: ${what}`, { op: OP });
}

function textOf(record: TextRecord, file: string): string {
  const { text, line } = record;
  if (typeof text !== "string") fail(file, line, `expected a text, got ${describe(text)}`);
  if (text.trim() === "") fail(file, line, "the text is empty");
  return text;
}

type Label = { readonly line: number } & (
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "name"; readonly value: string }
);

function labelOf(record: TextRecord, file: string): Label {
  const { label, line } = record;
  if (typeof label !== "string" && typeof label !== "number") {
    fail(file, line, `label — expected a whole number or a class name, got ${describe(label)}`);
  }
  const text = String(label).trim();
  if (text === "") fail(file, line, "the label is empty");
  const value = Number(text);
  if (Number.isNaN(value)) return { line, kind: "name", value: text };
  if (!Number.isInteger(value)) {
    fail(file, line, `label ${text} — expected a whole number or a class name`);
  }
  if (value < 0) fail(file, line, `label ${text} out of range — expected 0 or more`);
  return { line, kind: "number", value };
}

function checkKind(labels: readonly Label[], file: string): void {
  const first = labels[0]!;
  const other = labels.find((label) => label.kind !== first.kind);
  if (other === undefined) return;
  const describeLabel = (label: Label): string =>
    `${label.kind} ${describe(label.value)} in line ${label.line}`;
  fail(
    file,
    other.line,
    `labels are numbers and names mixed: ${describeLabel(first)}, ${describeLabel(other)}`,
  );
}

/** Numbers have to be 0 … classes - 1, so that a stray one cannot make the head huge. */
function numberedClasses(labels: readonly Label[], file: string): string[] {
  const classes = new Set(labels.map((label) => label.value)).size;
  const outside = labels.find((label) => (label.value as number) >= classes);
  if (outside !== undefined) {
    fail(
      file,
      outside.line,
      `label ${outside.value} out of range — the file has ${classes} different labels, ` +
        `so expected 0 to ${classes - 1}`,
    );
  }
  return Array.from({ length: classes }, (_, index) => String(index));
}

function compareCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function classesOf(labels: readonly Label[], file: string): string[] {
  checkKind(labels, file);
  const names =
    labels[0]!.kind === "number"
      ? numberedClasses(labels, file)
      : [...new Set(labels.map((label) => label.value as string))].sort(compareCodeUnits);
  if (names.length < 2) {
    fail(
      file,
      null,
      `all labels are ${describe(labels[0]!.value)} — expected at least two classes`,
    );
  }
  return names;
}

function indexLabels(labels: readonly Label[], names: readonly string[], file: string): number[] {
  const index = new Map(names.map((name, at) => [name, at]));
  return labels.map(({ value, line }) => {
    const at = index.get(String(value));
    if (at !== undefined) return at;
    const list = names.map((name) => JSON.stringify(name)).join(", ");
    return fail(file, line, `label ${describe(value)} out of range — expected one of ${list}`);
  });
}

/**
 * Reads labelled texts from a `.csv` (header line, RFC 4180) or `.jsonl` file in UTF-8. Labels are
 * whole numbers from 0 without gaps, or names, which are numbered in sorted order.
 * @throws DataError where the file cannot be read, is malformed, or a row is of no use.
 * @throws ArgumentError for column names that are equal or empty, or repeated class names.
 */
export async function loadTextDataset(
  file: string,
  options: TextDatasetOptions = {},
): Promise<TextDataset> {
  const { textColumn = "text", labelColumn = "label", labelNames } = options;
  if (textColumn === labelColumn || textColumn === "" || labelColumn === "") {
    throw new ArgumentError(
      `${OP}: expected two different columns, got textColumn ${describe(textColumn)}, ` +
        `labelColumn ${describe(labelColumn)}`,
      { op: OP },
    );
  }
  if (labelNames !== undefined && new Set(labelNames).size !== labelNames.length) {
    throw new ArgumentError(`${OP}: labelNames — expected different names`, { op: OP });
  }
  const extension = path.extname(file).toLowerCase();
  if (extension !== ".csv" && extension !== ".jsonl") {
    fail(file, null, `expected a .csv or .jsonl file, got ${describe(extension)}`);
  }
  const content = await readTextFile(file, OP);
  const source = { file, textColumn, labelColumn, op: OP };
  const parseRecords = extension === ".csv" ? parseCsv : parseJsonLines;
  const records = parseRecords(content, source);
  const texts = records.map((record) => textOf(record, file));
  const labels = records.map((record) => labelOf(record, file));
  const names = labelNames ?? classesOf(labels, file);
  return { texts, labels: indexLabels(labels, names, file), labelNames: names };
}

/** The reviews that ship with the package; scripts/generate-reviews.mjs makes them. */
export const BUILTIN_REVIEWS_FILE = fileURLToPath(
  // The same from lib/data and from dist/data: the compiler does not copy it.
  new URL("../../lib/data/reviews.csv", import.meta.url),
);

/** The built-in reviews: two classes, negative and positive. */
export function loadBuiltinReviews(): Promise<TextDataset> {
  return loadTextDataset(BUILTIN_REVIEWS_FILE);
}
