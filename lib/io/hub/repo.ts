// A repository on a hub at one commit: which files it has, and their places in the cache.

import { mkdir, stat } from "node:fs/promises";
import path from "node:path";

import { HubError } from "../../errors.js";
import { onDisk, RepoCache } from "./cache.js";
import { downloadBlob, fileFacts } from "./download.js";
import { checkInside, checkRepoName, isCommit } from "./names.js";
import { connectionFailure, request, stallGuard, withRetries, type Subject } from "./request.js";
import { resolveSettings, type HubOptions, type HubSettings } from "./settings.js";

const MAX_LISTED = 10;

/** What the hub, or the cache, has of a repository. */
interface Listing {
  readonly commit: string;
  readonly files: readonly string[];
  readonly notice: string | null;
}

function address(settings: HubSettings, ...parts: readonly string[]): URL {
  const base = settings.endpoint.href.replace(/\/*$/, "");
  return new URL(`${base}/${parts.join("/")}`);
}

function serverFault(repo: string, what: string, settings: HubSettings): HubError {
  return new HubError(
    "ERR_HUB_SERVER",
    `hub: ${repo}: ${what}; is ${settings.endpoint.origin} a Hugging Face hub?`,
    { op: "hub" },
  );
}

function parseListing(json: unknown, repo: string, settings: HubSettings): Listing {
  const { sha, siblings } = (json ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== "string" || !isCommit(sha)) {
    throw serverFault(repo, `expected a commit, got ${JSON.stringify(sha)}`, settings);
  }
  if (!Array.isArray(siblings)) {
    throw serverFault(repo, "expected a list of files", settings);
  }
  const files = siblings.map(
    (entry: unknown) => (entry as { rfilename?: unknown } | null)?.rfilename,
  );
  return { commit: sha, files: files.filter((name) => typeof name === "string"), notice: null };
}

async function askHub(repo: string, settings: HubSettings, retries: number): Promise<Listing> {
  const { revision, repoType } = settings;
  const subject: Subject = { repo, revision };
  const url = address(
    settings,
    "api",
    `${repoType}s`,
    repo,
    "revision",
    encodeURIComponent(revision),
  );
  return withRetries({ ...settings, retries }, async () => {
    const guard = stallGuard(settings);
    try {
      const options = { method: "GET", signal: guard.signal } as const;
      const { response } = await request(url, options, subject, settings);
      let text: string;
      try {
        text = await response.text();
      } catch (cause) {
        const reason: unknown = guard.signal.aborted ? guard.signal.reason : cause;
        throw connectionFailure(reason, subject, settings);
      }
      let json: unknown;
      try {
        json = JSON.parse(text);
      } catch {
        throw serverFault(repo, "the answer is not JSON", settings);
      }
      return parseListing(json, repo, settings);
    } finally {
      guard.stop();
    }
  });
}

/** Failures of the server, after which what the cache has is better than nothing. */
const UNREACHABLE: readonly string[] = [
  "ERR_HUB_CONNECTION",
  "ERR_HUB_RATE_LIMITED",
  "ERR_HUB_SERVER",
];

async function listFiles(repo: string, settings: HubSettings, cache: RepoCache): Promise<Listing> {
  const { revision } = settings;
  const known = await cache.commitOf(revision);
  const files = known === null ? [] : await cache.filesOf(known);
  const cached = known !== null && files.length > 0 ? { commit: known, files } : null;
  if (settings.offline) {
    if (cached !== null) return { ...cached, notice: null };
    throw new HubError(
      "ERR_HUB_OFFLINE",
      `hub: ${repo} (revision ${revision}) is not in the cache, ${cache.directory}, and nothing ` +
        `is downloaded while HF_HUB_OFFLINE or the option offline is set`,
      { op: "hub" },
    );
  }
  try {
    // With something to fall back on nobody has to wait for long.
    const { retries } = settings;
    return await askHub(repo, settings, cached === null ? retries : Math.min(retries, 1));
  } catch (error) {
    if (cached === null || !UNREACHABLE.includes((error as HubError).code)) throw error;
    return { ...cached, notice: `the cached ${repo} is used: ${(error as HubError).message}` };
  }
}

/** A repository on a hub, at one commit. */
export class HubRepo {
  readonly commit: string;
  /** All files of the commit; where the hub was not asked, those in the cache. */
  readonly files: readonly string[];
  /** Why the hub could not be asked and the cache has to do; null where it was, or offline. */
  readonly notice: string | null;
  /** Where the files of the commit are, or come to be. */
  readonly directory: string;

  /** Made by {@link openRepo}. */
  constructor(
    readonly name: string,
    private readonly settings: HubSettings,
    private readonly cache: RepoCache,
    listing: Listing,
  ) {
    this.commit = listing.commit;
    this.files = listing.files;
    this.notice = listing.notice;
    this.directory = cache.snapshot(listing.commit);
  }

  get revision(): string {
    return this.settings.revision;
  }

  /** Whether `files` are those in the cache alone. */
  get isPartial(): boolean {
    return this.settings.offline || this.notice !== null;
  }

  /** Whether the commit has a file of this name. */
  has(file: string): boolean {
    return this.files.includes(file);
  }

  /**
   * The path of a file in the cache, downloaded where it is not there yet.
   * @throws HubError where the repository has no such file, its name leads outside the directory,
   * or it cannot be had; then the cache has no such file either.
   */
  async get(file: string): Promise<string> {
    checkInside(file, "file");
    const found = await this.cache.find(this.commit, file);
    if (found === null && !this.has(file)) this.failMissing(file);
    const place = found ?? (await this.download(file));
    if (this.notice === null) await this.cache.writeRef(this.revision, this.commit);
    return place;
  }

  private failMissing(file: string): never {
    const { files } = this;
    if (this.isPartial) {
      const why = this.notice ?? "nothing is downloaded while HF_HUB_OFFLINE is set";
      throw new HubError(
        "ERR_HUB_OFFLINE",
        `hub: ${this.name}: ${file} is not in the cache, ${this.directory}; ${why}`,
        { op: "hub" },
      );
    }
    const listed = files.slice(0, MAX_LISTED).join(", ");
    const more = files.length > MAX_LISTED ? ` and ${files.length - MAX_LISTED} more` : "";
    throw new HubError(
      "ERR_HUB_FILE_NOT_FOUND",
      `hub: ${this.name} has no file ${file} (revision ${this.revision}); it has ${listed}${more}`,
      { op: "hub" },
    );
  }

  private async download(file: string): Promise<string> {
    const { name, settings, cache, commit } = this;
    const subject: Subject = { repo: name, revision: settings.revision, file };
    const prefix = settings.repoType === "dataset" ? ["datasets"] : [];
    const parts = file.split("/").map(encodeURIComponent);
    const url = address(settings, ...prefix, name, "resolve", commit, ...parts);
    const facts = await fileFacts(url, subject, settings);
    await onDisk(cache.directory, () => mkdir(cache.blobs, { recursive: true }));
    let blob = path.join(cache.blobs, facts.etag);
    const there = await stat(blob).catch(() => null);
    // Of another size it is not what it is called.
    const usable = there?.isFile() === true && (facts.size === null || there.size === facts.size);
    if (!usable) blob = await downloadBlob(url, facts, cache.blobs, subject, settings);
    return cache.link(commit, file, blob);
  }
}

/**
 * Finds a repository (`owner/name`, or `name`) on the hub, or offline in the cache. Where the hub
 * cannot be reached, a cached commit of the revision is used, and `notice` says so.
 * @throws HubError that says what to do: sign in, accept conditions, correct the name;
 * ArgumentError for a name that none has.
 */
export async function openRepo(name: string, options: HubOptions = {}): Promise<HubRepo> {
  checkRepoName(name);
  const settings = await resolveSettings(options);
  checkInside(settings.revision, "revision");
  const cache = new RepoCache(settings, name);
  return new HubRepo(name, settings, cache, await listFiles(name, settings, cache));
}
