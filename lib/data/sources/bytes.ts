// Reads files block by block and decodes UTF-8 strictly: a wrong byte is reported, never replaced.

import { isUtf8 } from "node:buffer";
import { open, type FileHandle } from "node:fs/promises";

import { failAt } from "./row.js";

const BLOCK = 256 * 1024;

/** Stands where bytes are no text. */
export class Undecodable {
  constructor(readonly fault: string) {}
}

/** Text of UTF-8 bytes, or what is wrong with them. */
export function decodeUtf8(bytes: Uint8Array): string | Undecodable {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isUtf8(buffer)) {
    const at = firstInvalidByte(buffer);
    const byte = buffer[at]!.toString(16).padStart(2, "0");
    return new Undecodable(`not UTF-8 — byte 0x${byte} at offset ${at}`);
  }
  try {
    return buffer.toString("utf8");
  } catch {
    return new Undecodable(`${bytes.length} bytes are too many for one text`);
  }
}

/** Offset of the first byte that is not UTF-8. */
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

/**
 * The blocks of a text file, without a byte order mark. A block is the reader's own.
 * @throws DataError where the file cannot be read, or begins as UTF-16 does.
 */
export async function* readBlocks(file: string, op: string): AsyncGenerator<Buffer, void> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(file, "r");
    let first = true;
    for (;;) {
      const block = Buffer.allocUnsafeSlow(BLOCK);
      let length = 0;
      // A pipe gives less than it is asked for; the mark has to be seen whole.
      do {
        const { bytesRead } = await handle.read(block, length, BLOCK - length);
        if (bytesRead === 0) break;
        length += bytesRead;
      } while (length < 3);
      if (length === 0) return;
      const content = block.subarray(0, length);
      yield first ? withoutMark(content, file, op) : content;
      first = false;
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause;
    failAt(op, file, `cannot be read: ${(cause as Error).message}`, cause);
  } finally {
    await handle?.close();
  }
}

function withoutMark(block: Buffer, file: string, op: string): Buffer {
  const [a, b, c] = block;
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
    const byte = `0x${a.toString(16)}`;
    failAt(op, file, `not UTF-8 — byte ${byte} at byte offset 0 (looks like UTF-16)`);
  }
  return a === 0xef && b === 0xbb && c === 0xbf ? block.subarray(3) : block;
}

/** The lines of a text file without their line feeds, as bytes. */
export async function* readLines(file: string, op: string): AsyncGenerator<Buffer, void> {
  let begun: Buffer[] = [];
  for await (const block of readBlocks(file, op)) {
    let start = 0;
    for (let end = block.indexOf(0x0a); end >= 0; end = block.indexOf(0x0a, start)) {
      const rest = block.subarray(start, end);
      yield begun.length === 0 ? rest : Buffer.concat([...begun, rest]);
      begun = [];
      start = end + 1;
    }
    if (start < block.length) begun.push(block.subarray(start));
  }
  if (begun.length > 0) yield Buffer.concat(begun);
}
