// Readers of data files by kind. Re-exports, and the choice among them.

import { readClassFolders } from "./class-folders.js";
import { readCsv } from "./csv.js";
import { readJsonLines } from "./json-lines.js";
import type { DataFile } from "./layout.js";
import { readParquet } from "./parquet.js";
import type { BadRow, RawRow, ReadOptions } from "./row.js";

/** The rows of a file, and those that are broken, in order. */
export function readRows(
  file: DataFile,
  options: ReadOptions,
): AsyncGenerator<RawRow | BadRow, void> {
  switch (file.kind) {
    case "csv":
      return readCsv(file.path, ",", options);
    case "tsv":
      return readCsv(file.path, "\t", options);
    case "jsonl":
      return readJsonLines(file.path, options);
    case "parquet":
      return readParquet(file.path, options);
    case "folder":
      return readClassFolders(file.path, options);
  }
}

export {
  dataFile,
  findDataFiles,
  isDataFile,
  SPLIT_NAMES,
  type DataFile,
  type DataFiles,
  type FileKind,
  type FindOptions,
  type SplitName,
} from "./layout.js";
export { parquetClassNames } from "./parquet.js";
export {
  describePlace,
  failAt,
  type BadRow,
  type RawRow,
  type ReadOptions,
  type RowPlace,
} from "./row.js";
