// CSV (RFC 4180, with a header line) and JSON Lines as records of two columns, each with the line it
// begins in, so that whatever is wrong further on can be found in the file.

import { CsvError, parse } from "csv-parse/sync";

import { DataError, describe } from "../errors.js";

/** One record of a data file. */
export interface TextRecord {
  /** Line in the file, counted from 1. */
  readonly line: number;
  readonly text: unknown;
  readonly label: unknown;
}

/** Which columns of which file; for the errors too. */
export interface RecordSource {
  readonly file: string;
  readonly textColumn: string;
  readonly labelColumn: string;
  readonly op: string;
}

function fail(source: RecordSource, line: number | null, what: string, cause?: unknown): never {
  const place = line === null ? source.file : `${source.file}, line ${line}`;
  throw new DataError(`${source.op}: ${place}: ${what}`, { op: source.op, cause });
}

function checkColumns(source: RecordSource, line: number, found: readonly string[]): void {
  const wanted = [source.textColumn, source.labelColumn];
  const missing = wanted.filter((name) => !found.includes(name));
  if (missing.length > 0) {
    const columns = missing.map((name) => JSON.stringify(name)).join(" and ");
    const list = found.map((name) => JSON.stringify(name)).join(", ");
    fail(source, line, `no column ${columns} — columns found: ${list === "" ? "none" : list}`);
  }
  for (const name of wanted) {
    if (found.indexOf(name) !== found.lastIndexOf(name)) {
      fail(source, line, `column ${JSON.stringify(name)} stands there twice`);
    }
  }
}

interface CsvRecord {
  readonly record: readonly string[];
  readonly info: { readonly lines: number };
}

// What csv-parse calls a failure, in the terms of somebody who looks at the file.
const CSV_FAILURES: Record<string, string> = {
  CSV_QUOTE_NOT_CLOSED: "broken quotes: a quoted field is not closed before the end of the file",
  CSV_INVALID_CLOSING_QUOTE: "broken quotes: text follows the closing quote of a field",
  INVALID_OPENING_QUOTE: 'broken quotes: a quote inside a field that is not quoted (write "")',
  CSV_INVALID_OPENING_QUOTE: 'broken quotes: a quote inside a field that is not quoted (write "")',
};

function parseCsvRows(text: string, source: RecordSource): CsvRecord[] {
  try {
    return parse(text, {
      info: true,
      relax_column_count: true,
      skip_empty_lines: true,
      record_delimiter: ["\r\n", "\n", "\r"],
    }) as unknown as CsvRecord[];
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    const line = typeof cause.lines === "number" ? cause.lines : null;
    fail(source, line, CSV_FAILURES[cause.code] ?? cause.message, cause);
  }
}

/** The records of a CSV text. */
export function parseCsv(text: string, source: RecordSource): TextRecord[] {
  const rows = parseCsvRows(text, source);
  const [header, ...body] = rows;
  if (header === undefined) fail(source, null, "the file is empty");
  checkColumns(source, 1, header.record);
  if (body.length === 0) fail(source, null, "no rows after the header");
  const textAt = header.record.indexOf(source.textColumn);
  const labelAt = header.record.indexOf(source.labelColumn);
  return body.map(({ record, info }) => {
    // The parser counts to the line a record ends in; a quoted field may hold line breaks.
    const breaks = record.reduce((n, field) => n + (field.match(/\r\n|\r|\n/g)?.length ?? 0), 0);
    const line = info.lines - breaks;
    if (record.length !== header.record.length) {
      const names = header.record.length;
      fail(source, line, `expected ${names} fields as in the header, got ${record.length}`);
    }
    return { line, text: record[textAt], label: record[labelAt] };
  });
}

/** The records of a JSON Lines text; blank lines are skipped. */
export function parseJsonLines(text: string, source: RecordSource): TextRecord[] {
  const records: TextRecord[] = [];
  text.split("\n").forEach((content, index) => {
    if (content.trim() === "") return;
    const line = index + 1;
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch (cause) {
      fail(source, line, `not JSON: ${(cause as Error).message}`, cause);
    }
    if (value === null || typeof value !== "object" || Array.isArray(value)) {
      fail(source, line, `expected a JSON object, got ${describe(value)}`);
    }
    const row = value as Record<string, unknown>;
    checkColumns(source, line, Object.keys(row));
    records.push({ line, text: row[source.textColumn], label: row[source.labelColumn] });
  });
  if (records.length === 0) fail(source, null, "the file is empty");
  return records;
}
