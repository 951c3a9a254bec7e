// CSV and TSV (RFC 4180, with a header line) row by row.

import { Readable, pipeline } from "node:stream";

import { CsvError, parse } from "csv-parse";

import { decodeUtf8, readBlocks, Undecodable } from "./bytes.js";
import { failAt, missingColumns, type BadRow, type RawRow, type ReadOptions } from "./row.js";

/** A quote that is never closed would take the rest of the file into memory. */
const LONGEST_RECORD = 512 * 2 ** 20;

interface CsvRecord {
  readonly record: readonly Buffer[];
  readonly info: { readonly lines: number; readonly bytes: number };
}

// What csv-parse calls a failure, in the terms of somebody who looks at the file.
const CSV_FAILURES: Record<string, string> = {
  CSV_QUOTE_NOT_CLOSED: "broken quotes: a quoted field is not closed before the end of the file",
  CSV_INVALID_CLOSING_QUOTE: "broken quotes: text follows the closing quote of a field",
  INVALID_OPENING_QUOTE: 'broken quotes: a quote inside a field that is not quoted (write "")',
  CSV_INVALID_OPENING_QUOTE: 'broken quotes: a quote inside a field that is not quoted (write "")',
};

/** Line breaks inside the fields of a record. */
function breaksIn(record: readonly Buffer[]): number {
  let breaks = 0;
  for (const field of record) {
    if (!field.includes(0x0a) && !field.includes(0x0d)) continue;
    for (let at = 0; at < field.length; at++) {
      const byte = field[at];
      if (byte === 0x0a && field[at - 1] !== 0x0d) breaks++;
      else if (byte === 0x0d) breaks++;
    }
  }
  return breaks;
}

function namesOf(header: readonly Buffer[], file: string, op: string): string[] {
  return header.map((bytes) => {
    const name = decodeUtf8(bytes);
    return typeof name === "string" ? name : failAt(op, { file, unit: "line", at: 1 }, name.fault);
  });
}

/**
 * The rows of a CSV file, or of a TSV file with a tab as `delimiter`, and those that are broken.
 * @throws DataError where the file cannot be read, is empty, or lacks a column.
 */
export async function* readCsv(
  file: string,
  delimiter: "," | "\t",
  options: ReadOptions,
): AsyncGenerator<RawRow | BadRow, void> {
  const { op, textColumn, labelColumn, quoting } = options;
  const place = (at: number) => ({ file, unit: "line", at }) as const;
  const broken: BadRow[] = [];
  const parser = parse({
    delimiter,
    info: true,
    encoding: null,
    quote: quoting ? '"' : null,
    relax_column_count: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    record_delimiter: ["\r\n", "\n", "\r"],
    on_skip: (error) => {
      if (error === undefined) return;
      const line = error as unknown as { lines?: number };
      const bad = { ...place(line.lines ?? 1), reason: CSV_FAILURES[error.code] ?? error.message };
      // One record may have several faults.
      if (broken.at(-1)?.at !== bad.at) broken.push(bad);
    },
  });
  let done = 0;
  async function* blocks(): AsyncGenerator<Buffer, void> {
    let fed = 0;
    for await (const block of readBlocks(file, op)) {
      fed += block.length;
      if (fed - done > LONGEST_RECORD) {
        const most = `more than ${LONGEST_RECORD / 2 ** 20} MiB without an end of the row`;
        failAt(op, file, `broken quotes: ${most} after byte ${done}`);
      }
      yield block;
    }
  }
  // An error of either reaches the loop below, which reads the parser.
  pipeline(Readable.from(blocks(), { highWaterMark: 1 }), parser, () => undefined);
  let header: string[] | null = null;
  try {
    for await (const { record, info } of parser as AsyncIterable<CsvRecord>) {
      done = info.bytes;
      if (header === null) {
        header = namesOf(record, file, op);
        const missing = missingColumns(options, header);
        if (missing !== null) failAt(op, place(1), missing);
        continue;
      }
      // The parser counts to the line a record ends in; a quoted field may hold line breaks.
      const at = info.lines - breaksIn(record);
      while (broken.length > 0 && broken[0]!.at < at) yield broken.shift()!;
      if (record.length !== header.length) {
        const reason = `expected ${header.length} fields as in the header, got ${record.length}`;
        yield { ...place(at), reason };
        continue;
      }
      const text = decodeUtf8(record[header.indexOf(textColumn)]!);
      const label =
        labelColumn === null ? undefined : decodeUtf8(record[header.indexOf(labelColumn)]!);
      const [wrong, column] =
        text instanceof Undecodable ? [text, textColumn] : [label, labelColumn];
      if (wrong instanceof Undecodable) {
        yield { ...place(at), reason: `${wrong.fault} of column ${JSON.stringify(column)}` };
      } else yield { ...place(at), text, label };
    }
  } catch (cause) {
    if (cause instanceof CsvError) failAt(op, file, cause.message, cause);
    throw cause;
  } finally {
    parser.destroy();
  }
  if (header === null && broken.length === 0) failAt(op, file, "the file is empty");
  yield* broken;
}
