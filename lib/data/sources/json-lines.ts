// JSON Lines: an object in each line; blank lines are skipped.

import { describe } from "../../errors.js";
import { decodeUtf8, readLines, Undecodable } from "./bytes.js";
import { failAt, missingColumns, type BadRow, type RawRow, type ReadOptions } from "./row.js";

/**
 * The rows of a JSON Lines file, and those that are broken.
 * @throws DataError where the file cannot be read or is empty.
 */
export async function* readJsonLines(
  file: string,
  options: ReadOptions,
): AsyncGenerator<RawRow | BadRow, void> {
  const { op, textColumn, labelColumn } = options;
  let line = 0;
  let empty = true;
  for await (const bytes of readLines(file, op)) {
    line++;
    const place = { file, unit: "line", at: line } as const;
    const content = decodeUtf8(bytes);
    if (content instanceof Undecodable) {
      empty = false;
      yield { ...place, reason: content.fault };
      continue;
    }
    if (content.trim() === "") continue;
    empty = false;
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch (cause) {
      yield { ...place, reason: `not JSON: ${(cause as Error).message}` };
      continue;
    }
    if (value === null || typeof value !== "object" || Array.isArray(value)) {
      yield { ...place, reason: `expected a JSON object, got ${describe(value)}` };
      continue;
    }
    const row = value as Record<string, unknown>;
    const missing = missingColumns(options, Object.keys(row));
    if (missing !== null) yield { ...place, reason: missing };
    else {
      yield {
        ...place,
        text: row[textColumn],
        label: labelColumn === null ? undefined : row[labelColumn],
      };
    }
  }
  if (empty) failAt(op, file, "the file is empty");
}
