// CSV and TSV (RFC 4180, with a header line) row by row.

import { decodeUtf8, readBlocks, Undecodable } from "./bytes.js";
import { CsvSplitter, type CsvRecord } from "./csv-records.js";
import { failAt, missingColumns, type BadRow, type RawRow, type ReadOptions } from "./row.js";

/** A quote that is never closed would take the rest of the file into memory. */
const LONGEST_RECORD = 512 * 2 ** 20;

async function* readRecords(
  file: string,
  delimiter: "," | "\t",
  { op, quoting }: ReadOptions,
): AsyncGenerator<CsvRecord, void> {
  const splitter = new CsvSplitter(delimiter.charCodeAt(0), quoting);
  let line = 1;
  for await (const block of readBlocks(file, op)) {
    for (const record of splitter.records(block)) {
      ({ line } = record);
      yield record;
    }
    if (splitter.pending > LONGEST_RECORD) {
      const most = `more than ${LONGEST_RECORD / 2 ** 20} MiB without an end of the row`;
      failAt(op, file, `broken quotes: ${most}, somewhere after line ${line}`);
    }
  }
  const last = splitter.rest();
  if (last !== null) yield last;
}

function readHeader(record: CsvRecord, file: string, options: ReadOptions): string[] {
  const { op } = options;
  const place = { file, unit: "line", at: record.line } as const;
  if ("fault" in record) failAt(op, place, record.fault);
  const names = record.fields.map((bytes) => {
    const name = decodeUtf8(bytes);
    return typeof name === "string" ? name : failAt(op, place, name.fault);
  });
  const missing = missingColumns(options, names);
  if (missing !== null) failAt(op, place, missing);
  return names;
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
  const { op, textColumn, labelColumn } = options;
  let header: string[] | null = null;
  let [textAt, labelAt] = [0, -1];
  for await (const record of readRecords(file, delimiter, options)) {
    if (header === null) {
      header = readHeader(record, file, options);
      textAt = header.indexOf(textColumn);
      labelAt = labelColumn === null ? -1 : header.indexOf(labelColumn);
      continue;
    }
    const place = { file, unit: "line", at: record.line } as const;
    if ("fault" in record) {
      yield { ...place, reason: record.fault };
      continue;
    }
    const { fields } = record;
    if (fields.length !== header.length) {
      const reason = `expected ${header.length} fields as in the header, got ${fields.length}`;
      yield { ...place, reason };
      continue;
    }
    const text = decodeUtf8(fields[textAt]!);
    const label = labelAt < 0 ? undefined : decodeUtf8(fields[labelAt]!);
    const [wrong, column] = text instanceof Undecodable ? [text, textColumn] : [label, labelColumn];
    if (wrong instanceof Undecodable) {
      yield { ...place, reason: `${wrong.fault} of column ${JSON.stringify(column)}` };
    } else yield { ...place, text, label };
  }
  if (header === null) failAt(op, file, "the file is empty");
}
