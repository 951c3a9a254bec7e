// The cache on disk, laid out as Hugging Face's own libraries lay it out, and shared with them:
//   models--owner--name/blobs/ETAG                   contents, each once
//   models--owner--name/refs/REVISION                the commit that a branch or tag stands for
//   models--owner--name/snapshots/COMMIT/FILE        links to the blobs

import { randomBytes } from "node:crypto";
import {
  copyFile,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import path from "node:path";

import { HubError } from "../../errors.js";
import { writeFileAtomic } from "../atomic-write.js";
import { checkInside, isCommit } from "./names.js";
import type { HubSettings } from "./settings.js";

/** Runs work on the cache; what the file system refuses is a HubError. */
export async function onDisk<T>(place: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (typeof (cause as NodeJS.ErrnoException).code !== "string" || cause instanceof HubError) {
      throw cause;
    }
    throw new HubError(
      "ERR_HUB_CACHE",
      `hub: the cache at ${place} cannot be used: ${(cause as Error).message}; HF_HUB_CACHE or ` +
        `cacheDir chooses another directory`,
      { op: "hub", cause },
    );
  }
}

/** The part of the cache that belongs to one repository. */
export class RepoCache {
  readonly directory: string;

  constructor({ cacheDir, repoType }: HubSettings, repo: string) {
    this.directory = path.join(cacheDir, [`${repoType}s`, ...repo.split("/")].join("--"));
  }

  get blobs(): string {
    return path.join(this.directory, "blobs");
  }

  /** Where the files of a commit are. */
  snapshot(commit: string): string {
    return path.join(this.directory, "snapshots", commit);
  }

  /** The commit that the cache knows for a branch, tag or commit; null where it knows none. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    try {
      const text = await readFile(
        path.join(this.directory, "refs", ...revision.split("/")),
        "utf8",
      );
      return isCommit(text.trim()) ? text.trim() : null;
    } catch {
      return null;
    }
  }

  /** Remembers which commit a branch or tag stands for. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return;
    const file = path.join(this.directory, "refs", ...revision.split("/"));
    await onDisk(this.directory, async () => {
      await mkdir(path.dirname(file), { recursive: true });
      await writeFileAtomic(file, commit);
    });
  }

  /** Names of the files of a commit that are here whole. */
  async filesOf(commit: string): Promise<string[]> {
    const root = this.snapshot(commit);
    const found: string[] = [];
    const visit = async (folder: string): Promise<void> => {
      const entries = await readdir(path.join(root, folder)).catch(() => []);
      for (const entry of entries) {
        const name = folder === "" ? entry : `${folder}/${entry}`;
        const target = await stat(path.join(root, name)).catch(() => null);
        if (target?.isDirectory() === true) await visit(name);
        else if (target?.isFile() === true) found.push(name);
      }
    };
    await visit("");
    return found.sort();
  }

  /** The path of a file of a commit; null where it is not here. */
  async find(commit: string, name: string): Promise<string | null> {
    checkInside(name, "file");
    const file = path.join(this.snapshot(commit), ...name.split("/"));
    const found = await stat(file).catch(() => null);
    return found?.isFile() === true ? file : null;
  }

  /** Makes a file of a commit a link to a blob; where links are not allowed, a copy. */
  async link(commit: string, name: string, blob: string): Promise<string> {
    checkInside(name, "file");
    const file = path.join(this.snapshot(commit), ...name.split("/"));
    const target = path.relative(path.dirname(file), blob);
    await onDisk(this.directory, async () => {
      await mkdir(path.dirname(file), { recursive: true });
      if ((await readlink(file).catch(() => null)) === target) return;
      const temporary = `${file}.${randomBytes(6).toString("hex")}.tmp`;
      try {
        await symlink(target, temporary).catch(() => copyFile(blob, temporary));
        await rename(temporary, file);
      } finally {
        await rm(temporary, { force: true });
      }
    });
    return file;
  }
}
