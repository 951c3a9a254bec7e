// What every reader of data files yields: rows as they stand in the file, and those that are broken,
// each with its place, so that whatever is wrong further on can be found in the file.

import { DataError } from "../../errors.js";

/** Where a row stands. */
export interface RowPlace {
  readonly file: string;
  /** What `at` counts; null where a file is one row. */
  readonly unit: "line" | "row" | null;
  /** Line that the row begins in, or its number in a Parquet file; from 1. */
  readonly at: number;
}

/** A row as it stands in a file: its two columns, not checked. */
export interface RawRow extends RowPlace {
  readonly text: unknown;
  readonly label: unknown;
}

/** A row that is of no use. */
export interface BadRow extends RowPlace {
  readonly reason: string;
}

/** What a reader is told. */
export interface ReadOptions {
  /** The operation that errors name. */
  readonly op: string;
  readonly textColumn: string;
  /** Null where no labels are wanted. */
  readonly labelColumn: string | null;
  /** Whether a double quote begins a quoted field in CSV and TSV. */
  readonly quoting: boolean;
}

/** `FILE, line 3`, `FILE, row 3` or `FILE`. */
export function describePlace({ file, unit, at }: RowPlace): string {
  return unit === null ? file : `${file}, ${unit} ${at}`;
}

/** @throws DataError `OP: FILE, line 3: WHAT` */
export function failAt(op: string, place: RowPlace | string, what: string, cause?: unknown): never {
  const where = typeof place === "string" ? place : describePlace(place);
  throw new DataError(`${op}: ${where}: ${what}`, { op, cause });
}

/** The columns that are wanted and not among those found, as a sentence; null where all are there. */
export function missingColumns(options: ReadOptions, found: readonly string[]): string | null {
  const { textColumn, labelColumn } = options;
  const wanted = labelColumn === null ? [textColumn] : [textColumn, labelColumn];
  const missing = wanted.filter((name) => !found.includes(name));
  if (missing.length > 0) {
    const columns = missing.map((name) => JSON.stringify(name)).join(" and ");
    const list = found.map((name) => JSON.stringify(name)).join(", ");
    return `no column ${columns} — columns found: ${list === "" ? "none" : list}`;
  }
  const twice = wanted.find((name) => found.indexOf(name) !== found.lastIndexOf(name));
  return twice === undefined ? null : `column ${JSON.stringify(twice)} stands there twice`;
}
