// Parquet files row group by row group, so that a file may be larger than memory.

import { open, type FileHandle } from "node:fs/promises";

import {
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type FileMetaData,
} from "hyparquet";
import { compressors } from "hyparquet-compressors";

import { decodeUtf8, Undecodable } from "./bytes.js";
import { failAt, missingColumns, type BadRow, type RawRow, type ReadOptions } from "./row.js";

const parsers = {
  // hyparquet's own would replace what is not UTF-8.
  stringFromBytes: (bytes: Uint8Array | undefined): unknown =>
    bytes === undefined ? undefined : decodeUtf8(bytes),
};

interface OpenParquet {
  readonly handle: FileHandle;
  readonly buffer: {
    byteLength: number;
    slice: (start: number, end?: number) => Promise<ArrayBuffer>;
  };
  readonly metadata: FileMetaData;
}

async function openParquet(file: string, op: string): Promise<OpenParquet> {
  let handle: FileHandle;
  try {
    handle = await open(file, "r");
  } catch (cause) {
    failAt(op, file, `cannot be read: ${(cause as Error).message}`, cause);
  }
  try {
    const { size } = await handle.stat();
    const slice = async (start: number, end = size): Promise<ArrayBuffer> => {
      const bytes = new ArrayBuffer(end - start);
      const { bytesRead } = await handle.read(new Uint8Array(bytes), 0, end - start, start);
      if (bytesRead < end - start) throw new Error(`ends at byte ${start + bytesRead}`);
      return bytes;
    };
    const buffer = { byteLength: size, slice };
    const metadata = await parquetMetadataAsync(buffer, { parsers, geoparquet: false });
    return { handle, buffer, metadata };
  } catch (cause) {
    await handle.close();
    failAt(op, file, `not a Parquet file that can be read: ${(cause as Error).message}`, cause);
  }
}

/** As the readers of text files have it: what fits is a number. */
function plain(value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/**
 * The rows of a Parquet file, and those that are broken.
 * @throws DataError where the file cannot be read, is damaged, is empty, or lacks a column.
 */
export async function* readParquet(
  file: string,
  options: ReadOptions,
): AsyncGenerator<RawRow | BadRow, void> {
  const { op, textColumn, labelColumn } = options;
  const { handle, buffer, metadata } = await openParquet(file, op);
  try {
    const names = parquetSchema(metadata).children.map(({ element }) => element.name);
    const missing = missingColumns(options, names);
    if (missing !== null) failAt(op, file, missing);
    const columns = labelColumn === null ? [textColumn] : [textColumn, labelColumn];
    let start = 0;
    for (const group of metadata.row_groups) {
      const end = start + Number(group.num_rows);
      if (end === start) continue;
      const what = { file: buffer, metadata, columns, rowStart: start, rowEnd: end };
      const rows = await parquetReadObjects({ ...what, compressors, parsers }).catch(
        (cause: unknown) =>
          failAt(op, file, `rows ${start + 1} to ${end}: ${(cause as Error).message}`, cause),
      );
      if (rows.length !== end - start) {
        failAt(op, file, `rows ${start + 1} to ${end}: only ${rows.length} are there`);
      }
      for (const [index, row] of rows.entries()) {
        const place = { file, unit: "row", at: start + index + 1 } as const;
        const text: unknown = row[textColumn];
        const label: unknown = labelColumn === null ? undefined : plain(row[labelColumn]);
        const wrong = [text, label].find((value) => value instanceof Undecodable);
        if (wrong === undefined) yield { ...place, text, label };
        else yield { ...place, reason: wrong.fault };
      }
      start = end;
    }
    if (start === 0) failAt(op, file, "the file is empty");
  } finally {
    await handle.close();
  }
}

/**
 * The class names that Hugging Face's `datasets` writes into a Parquet file, by label; null where
 * there are none.
 * @throws DataError where the file cannot be read.
 */
export async function parquetClassNames(
  file: string,
  column: string,
  op: string,
): Promise<string[] | null> {
  const { handle, metadata } = await openParquet(file, op);
  await handle.close();
  const entry = metadata.key_value_metadata?.find(({ key }) => key === "huggingface");
  if (entry?.value === undefined) return null;
  try {
    const { info } = JSON.parse(entry.value) as {
      info?: { features?: Record<string, { names?: unknown; _type?: unknown } | undefined> };
    };
    const feature = info?.features?.[column];
    const names = feature?._type === "ClassLabel" ? feature.names : null;
    const usable = Array.isArray(names) && names.every((name) => typeof name === "string");
    return usable ? names : null;
  } catch {
    // A note for another library that is not as expected says nothing about the data.
    return null;
  }
}
