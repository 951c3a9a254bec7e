// Reads a whole text file as UTF-8, strictly: a wrong byte is an error that says where it stands.

import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";

import { DataError } from "../errors.js";

/** Byte offset of the first byte that is not UTF-8. */
function firstInvalidByte(bytes: Buffer): number {
  // Decoding leniently replaces what is wrong by U+FFFD, so the first wrong byte is where encoding
  // the result again first differs.
  const again = Buffer.from(bytes.toString("utf8"), "utf8");
  let at = 0;
  while (at < bytes.length && bytes[at] === again[at]) at++;
  // The replacement is EF BF BD; a broken character that starts like it begins earlier.
  while (at > 0 && bytes[at - 1]! >= 0x80 && !isUtf8(bytes.subarray(0, at))) at--;
  return at;
}

function lineAt(bytes: Buffer, offset: number): number {
  let line = 1;
  for (let i = 0; i < offset; i++) if (bytes[i] === 0x0a) line++;
  return line;
}

/**
 * The text of a UTF-8 file, without a byte order mark.
 * @throws DataError where it cannot be read or is not UTF-8.
 */
export async function readTextFile(file: string, op: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new DataError(`${op}: ${file}: cannot be read: ${(cause as Error).message}`, {
      op,
      cause,
    });
  }
  if (!isUtf8(bytes)) {
    const offset = firstInvalidByte(bytes);
    const byte = bytes[offset]!.toString(16).padStart(2, "0");
    const utf16 = offset === 0 && (byte === "ff" || byte === "fe") ? " (looks like UTF-16)" : "";
    throw new DataError(
      `${op}: ${file}, line ${lineAt(bytes, offset)}: not UTF-8 — byte 0x${byte} at byte offset ` +
        `${offset}${utf16}`,
      { op },
    );
  }
  try {
    // The decoder takes the byte order mark off.
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(`${op}: ${file}: too large to be read at once: ${bytes.length} bytes`, {
      op,
      cause,
    });
  }
}
