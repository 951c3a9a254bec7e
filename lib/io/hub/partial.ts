// Unfinished downloads. Each has a name of its own that says which process writes it, so that two
// never write one file; one that a dead process left behind is taken over and gone on with.

import { randomBytes } from "node:crypto";
import { readdir, rename } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";

const SUFFIX = ".incomplete";

/** Names in use in this process. */
const active = new Set<string>();

function hostTag(): string {
  return hostname().replace(/[^\w-]/g, "_");
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is one, too.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Whether an unfinished download of `etag` has nobody who writes it. */
function isAbandoned(name: string, etag: string): boolean {
  if (!name.startsWith(`${etag}.`) || !name.endsWith(SUFFIX) || active.has(name)) return false;
  const [host, pid] = name.slice(etag.length + 1, -SUFFIX.length).split(".");
  if (host !== hostTag() || !/^\d+$/.test(pid ?? "")) return false;
  return Number(pid) === process.pid || !isAlive(Number(pid));
}

/** A file to download into, which may hold a beginning already. */
export interface Partial {
  readonly file: string;
  /** Whether it was begun by somebody else. */
  readonly resumed: boolean;
  /** Lets others go on with it. */
  release(): void;
}

/** The file for an unfinished download of `etag` in a directory. */
export async function claimPartial(directory: string, etag: string): Promise<Partial> {
  const name = `${etag}.${hostTag()}.${process.pid}.${randomBytes(4).toString("hex")}${SUFFIX}`;
  const file = path.join(directory, name);
  active.add(name);
  const release = (): void => {
    active.delete(name);
  };
  for (const other of await readdir(directory)) {
    if (!isAbandoned(other, etag)) continue;
    try {
      // Only one process can rename it.
      await rename(path.join(directory, other), file);
      return { file, resumed: true, release };
    } catch {
      // Another one did.
    }
  }
  return { file, resumed: false, release };
}
