// Writes a file so that its name always stands for a whole one, the old or the new: the content
// goes to a temporary file in the same directory, to the disk, and only then takes the name.

import { randomBytes } from "node:crypto";
import { chmod, open, realpath, rename, rm, stat, type FileHandle } from "node:fs/promises";
import path from "node:path";

import { CheckpointError, MixprecError } from "../errors.js";

/** What to write: a text, bytes, or blocks of bytes one after the other. */
export type FileContent = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function writeContent(handle: FileHandle, content: FileContent): Promise<void> {
  if (typeof content === "string" || content instanceof Uint8Array) {
    await handle.writeFile(content);
    return;
  }
  for await (const block of content) {
    // One call may write less than it was given.
    for (let at = 0; at < block.byteLength;) {
      const { bytesWritten } = await handle.write(block, at, block.byteLength - at);
      at += bytesWritten;
    }
  }
}

/** Makes the renaming itself last through a power failure; not every system can. */
async function syncDirectory(directory: string): Promise<void> {
  let handle: FileHandle;
  try {
    handle = await open(directory, "r");
  } catch {
    return;
  }
  try {
    await handle.sync();
  } catch {
    // The rename was done; a file system that does not sync directories keeps no promise to break.
  } finally {
    await handle.close();
  }
}

/** The file that a link stands for, so that the link stays one. */
async function resolveTarget(file: string): Promise<{ target: string; mode: number | null }> {
  try {
    const target = await realpath(file);
    return { target, mode: (await stat(target)).mode & 0o7777 };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { target: file, mode: null };
    throw error;
  }
}

async function replaceFile(file: string, content: FileContent): Promise<void> {
  const { target, mode } = await resolveTarget(file);
  const directory = path.dirname(target);
  const suffix = `${process.pid}-${randomBytes(6).toString("hex")}.tmp`;
  const temporary = path.join(directory, `.${path.basename(target)}.${suffix}`);
  try {
    const handle = await open(temporary, "wx");
    try {
      await writeContent(handle, content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (mode !== null) await chmod(temporary, mode);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncDirectory(directory);
}

/**
 * Writes or replaces a file as a whole. Where it fails, and even where the process is killed, the
 * old file is untouched; after a kill a temporary file `.NAME.*.tmp` may stay behind.
 * @throws CheckpointError where the file system refuses; errors of `content` itself pass through.
 */
export async function writeFileAtomic(file: string, content: FileContent): Promise<void> {
  try {
    await replaceFile(file, content);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (cause instanceof MixprecError || code === undefined) throw cause;
    throw new CheckpointError(`${file}: cannot be written: ${message}`, { op: "save", cause });
  }
}
