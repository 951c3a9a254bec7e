// The texts that a command is given: by themselves, in the rows of a data file, or a text in each
// line of any other file.

import { isDataFile, streamTexts, type BadRowPolicy, type BadRows } from "../../data/index.js";
import { decodeUtf8, readLines, Undecodable } from "../../data/sources/bytes.js";
import { dataFile, failAt } from "../../data/sources/index.js";

/** One text and its line, or its row in a Parquet file; null for one that is in no file. */
export interface PlacedText {
  readonly text: string;
  readonly at: number | null;
}

/** How a file is read. */
export interface TextFileOptions {
  readonly textColumn: string;
  readonly badRows: BadRowPolicy;
  /** Counts what is left out. */
  readonly bad: BadRows;
}

/** Lines that are not blank; what is no UTF-8 is a bad row, as in a data file. */
async function* readTextLines(
  file: string,
  { badRows, bad }: TextFileOptions,
): AsyncGenerator<PlacedText, void> {
  let at = 0;
  let none = true;
  for await (const bytes of readLines(file, "classify")) {
    const place = { file, unit: "line", at: ++at } as const;
    const text = decodeUtf8(bytes);
    if (text instanceof Undecodable) {
      if (badRows === "fail") failAt("classify", place, text.fault);
      bad.add({ ...place, reason: text.fault });
    } else if (text.trim() !== "") {
      none = false;
      yield { text: text.replace(/\r$/, ""), at };
    }
  }
  if (none) failAt("classify", file, "there is no text in it");
}

/**
 * The texts of a file, as they are needed.
 * @throws DataError where it cannot be read, has no text, or for a bad row unless they are skipped.
 */
export async function* readTexts(
  file: string,
  options: TextFileOptions,
): AsyncGenerator<PlacedText, void> {
  if (!isDataFile(file)) return yield* readTextLines(file, options);
  const rows = streamTexts([dataFile(file, "classify")], {
    ...options,
    labelColumn: null,
    op: "classify",
  });
  for await (const { text, at } of rows) yield { text, at };
}
