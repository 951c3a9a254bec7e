// Labelled texts of data files one after the other, every row checked. What is wrong with a row is
// an error that names file and line, or is counted while the row is left out, as the user chose.

import { ArgumentError, describe } from "../errors.js";
import {
  describePlace,
  failAt,
  readRows,
  type BadRow,
  type DataFile,
  type RawRow,
  type ReadOptions,
  type RowPlace,
} from "./sources/index.js";

/** A class as a file says it: a whole number of at least 0, or a name. */
export type Label = number | string;

/** A checked row. */
export interface TextRow extends RowPlace {
  readonly text: string;
  /** Null where no labels are read. */
  readonly label: Label | null;
}

/** Whether a row that is of no use ends the reading or is left out and counted. */
export type BadRowPolicy = "fail" | "skip";

/** What to read, and how. */
export interface TextStreamOptions {
  /** Default: `text`. */
  readonly textColumn?: string;
  /** Default: `label`; null reads texts without labels. Folders of classes have no columns. */
  readonly labelColumn?: string | null;
  /** Default: `fail`. */
  readonly badRows?: BadRowPolicy;
  /** Counts what is left out. */
  readonly bad?: BadRows;
  /** Whether a double quote begins a quoted field in CSV and TSV; default true. */
  readonly quoting?: boolean;
  /** The operation that errors name. */
  readonly op?: string;
}

/** Rows to show; beyond them only the number is kept. */
const MOST_SHOWN = 20;

/** What is known of rows that were left out; plain data. */
export interface BadRowReport {
  readonly count: number;
  /** The first ones. */
  readonly rows: readonly BadRow[];
}

/** Counts rows that were left out and keeps the first ones. */
export class BadRows implements BadRowReport {
  count = 0;
  readonly rows: BadRow[] = [];

  add(row: BadRow): void {
    this.count++;
    if (this.rows.length < MOST_SHOWN) this.rows.push(row);
  }

  addReport(report: BadRowReport): void {
    this.count += report.count;
    this.rows.push(...report.rows.slice(0, MOST_SHOWN - this.rows.length));
  }

  report(): BadRowReport {
    return { count: this.count, rows: [...this.rows] };
  }
}

/** `FILE, line 3: what is wrong` for each row that is shown, and how many there are beyond them. */
export function describeBadRows({ count, rows }: BadRowReport): string[] {
  const lines = rows.map((row) => `${describePlace(row)}: ${row.reason}`);
  const more = count - rows.length;
  return more > 0 ? [...lines, `and ${more} more`] : lines;
}

/** A label, or what is wrong with it. */
function checkLabel(label: unknown): { label: Label } | { reason: string } {
  if (typeof label !== "string" && typeof label !== "number") {
    const got = describe(label);
    return { reason: `label — expected a whole number or a class name, got ${got}` };
  }
  const text = String(label).trim();
  if (text === "") return { reason: "the label is empty" };
  const value = Number(text);
  if (Number.isNaN(value)) return { label: text };
  if (!Number.isInteger(value)) {
    const reason = `label ${text} — expected a whole number or a class name`;
    return { reason: Number.isFinite(value) ? reason : `label ${text} out of range` };
  }
  if (value < 0) return { reason: `label ${text} out of range — expected 0 or more` };
  if (value > 0x7fffffff)
    return { reason: `label ${text} out of range — no data has such a class` };
  return { label: value };
}

function checkRow(row: RawRow, labelled: boolean): TextRow | BadRow {
  const { file, unit, at, text } = row;
  const place = { file, unit, at };
  if (typeof text !== "string")
    return { ...place, reason: `expected a text, got ${describe(text)}` };
  if (text.trim() === "") return { ...place, reason: "the text is empty" };
  if (!labelled) return { ...place, text, label: null };
  const label = checkLabel(row.label);
  return "reason" in label
    ? { ...place, reason: label.reason }
    : { ...place, text, label: label.label };
}

function readOptionsOf(options: TextStreamOptions): ReadOptions {
  const { textColumn = "text", labelColumn = "label", quoting = true } = options;
  const { op = "streamTexts" } = options;
  if (textColumn === labelColumn || textColumn === "" || labelColumn === "") {
    throw new ArgumentError(
      `${op}: expected two different columns, got textColumn ${describe(textColumn)}, ` +
        `labelColumn ${describe(labelColumn)}`,
      { op },
    );
  }
  return { op, textColumn, labelColumn, quoting };
}

/**
 * The rows of files one after the other, each as long as it is looked at: a file may be larger than
 * memory. Iterating again reads again.
 * @throws DataError where a file cannot be read or has no row of use; for the first bad row, unless
 * they are skipped.
 * @throws ArgumentError for column names that are equal or empty.
 */
export async function* streamTexts(
  files: readonly DataFile[],
  options: TextStreamOptions = {},
): AsyncGenerator<TextRow, void> {
  const { badRows = "fail", bad } = options;
  const reading = readOptionsOf(options);
  for (const file of files) {
    let good = 0;
    let left = 0;
    for await (const raw of readRows(file, reading)) {
      const labelled = reading.labelColumn !== null;
      const row = "reason" in raw ? raw : checkRow(raw, labelled);
      if (!("reason" in row)) {
        good++;
        yield row;
      } else if (badRows === "fail") failAt(reading.op, row, row.reason);
      else {
        left++;
        bad?.add(row);
      }
    }
    if (good === 0) {
      const none = left === 0 ? "no rows after the header" : `none of its ${left} rows is of use`;
      failAt(reading.op, file.path, none);
    }
  }
}
