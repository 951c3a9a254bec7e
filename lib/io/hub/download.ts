// One file from a hub to a blob of the cache. It takes its name only when it is whole: of the size
// that the hub tells, and with the hash that names it.

import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";

import { HubError } from "../../errors.js";
import { onDisk } from "./cache.js";
import { claimPartial } from "./partial.js";
import {
  checkSignal,
  connectionFailure,
  request,
  stallGuard,
  TransientError,
  withRetries,
  type Subject,
} from "./request.js";
import type { HubSettings } from "./settings.js";

/** What the hub says of a file. */
export interface FileFacts {
  /** Names the content: SHA-256 of large files, git's SHA-1 of others. */
  readonly etag: string;
  /** Bytes; null where it is not told. */
  readonly size: number | null;
}

function broken(subject: Subject, what: string): HubError {
  return new HubError(
    "ERR_HUB_BROKEN_FILE",
    `hub: ${subject.repo}: ${subject.file!}: ${what}; nothing of it was kept`,
    { op: "hub" },
  );
}

function parseSize(text: string | null): number | null {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

/**
 * Asks for the etag and size of a file.
 * @throws HubError where the file is not to be had, or the answer does not name its content.
 */
export function fileFacts(url: URL, subject: Subject, settings: HubSettings): Promise<FileFacts> {
  return withRetries(settings, async () => {
    const guard = stallGuard(settings);
    try {
      const options = { method: "HEAD", signal: guard.signal } as const;
      const answer = await request(url, options, subject, settings);
      const { response } = answer;
      const told = answer.header("x-linked-etag") ?? answer.header("etag");
      const etag = told?.replace(/^W\//, "").replace(/^"(.*)"$/, "$1");
      // It becomes the name of a file.
      if (etag === undefined || !/^[\w][\w.-]{0,127}$/.test(etag)) {
        throw new HubError(
          "ERR_HUB_SERVER",
          `hub: ${subject.repo}: ${subject.file!}: expected an ETag that names the content, got ` +
            `${JSON.stringify(told)}; is ${settings.endpoint.origin} a Hugging Face hub?`,
          { op: "hub" },
        );
      }
      const plain = response.ok && response.headers.get("content-encoding") === null;
      const length = plain ? response.headers.get("content-length") : null;
      return { etag, size: parseSize(answer.header("x-linked-size") ?? length) };
    } finally {
      guard.stop();
    }
  });
}

/** Writes what an answer brings behind the bytes that are there. */
class Sink {
  loaded = 0;

  constructor(
    private readonly handle: FileHandle,
    private readonly size: number | null,
    private readonly subject: Subject,
    private readonly settings: HubSettings,
  ) {}

  report(): void {
    this.settings.onProgress({ file: this.subject.file!, loaded: this.loaded, total: this.size });
  }

  async restart(): Promise<void> {
    await onDisk(this.settings.cacheDir, () => this.handle.truncate(0));
    this.loaded = 0;
  }

  async write(block: Uint8Array): Promise<void> {
    if (this.size !== null && this.loaded + block.byteLength > this.size) {
      throw broken(this.subject, `expected ${this.size} bytes, the server sends more`);
    }
    await onDisk(this.settings.cacheDir, async () => {
      for (let at = 0; at < block.byteLength;) {
        const position = this.loaded + at;
        const length = block.byteLength - at;
        const { bytesWritten } = await this.handle.write(block, at, length, position);
        at += bytesWritten;
      }
    });
    this.loaded += block.byteLength;
    this.report();
  }
}

/** Where the bytes of an answer belong; null where they are no part of the file as it was asked. */
function beginningOf(response: Response, asked: number, size: number | null): number | null {
  if (response.status !== 206) return response.status === 416 ? null : 0;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  if (range === null || Number(range[1]) !== asked) return null;
  return size === null || range[2] === "*" || Number(range[2]) === size ? asked : null;
}

async function fetchInto(
  sink: Sink,
  url: URL,
  facts: FileFacts,
  subject: Subject,
  settings: HubSettings,
): Promise<void> {
  const guard = stallGuard(settings);
  const asked = sink.loaded;
  try {
    const headers: Record<string, string> = asked > 0 ? { range: `bytes=${asked}-` } : {};
    const options = { method: "GET", headers, signal: guard.signal } as const;
    const { response } = await request(url, options, subject, settings);
    const begin = beginningOf(response, asked, facts.size);
    if (begin === null) {
      await response.body?.cancel().catch(() => undefined);
      await sink.restart();
      const error = broken(subject, `the server does not go on at byte ${asked}`);
      throw new TransientError(error, 0);
    }
    if (begin < asked) await sink.restart();
    const encoded = response.headers.get("content-encoding") !== null;
    const length = encoded ? null : parseSize(response.headers.get("content-length"));
    if (length !== null && facts.size !== null && begin + length !== facts.size) {
      await response.body?.cancel().catch(() => undefined);
      const got = `the server sends ${begin + length}`;
      throw broken(subject, `expected ${facts.size} bytes, ${got}`);
    }
    try {
      for await (const block of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        guard.alive();
        await sink.write(block);
      }
    } catch (cause) {
      if (cause instanceof HubError) throw cause;
      throw connectionFailure(
        guard.signal.aborted ? guard.signal.reason : cause,
        subject,
        settings,
      );
    }
    const whole = facts.size ?? (length === null ? null : begin + length);
    if (whole !== null && sink.loaded < whole) {
      const error = broken(subject, `expected ${whole} bytes, got ${sink.loaded}`);
      throw new TransientError(error);
    }
  } finally {
    guard.stop();
  }
}

/** The hash that an etag of this form is; null where it is of another form. */
async function hashLike(etag: string, file: string, size: number): Promise<string | null> {
  const kind = /^[0-9a-f]{64}$/.test(etag) ? "sha256" : /^[0-9a-f]{40}$/.test(etag) ? "sha1" : null;
  if (kind === null) return null;
  const hash = createHash(kind);
  if (kind === "sha1") hash.update(`blob ${size}\0`);
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

/** Downloads into `file` and checks it; what fails the check is removed. */
async function downloadAndCheck(
  file: string,
  url: URL,
  facts: FileFacts,
  subject: Subject,
  settings: HubSettings,
): Promise<void> {
  const place = settings.cacheDir;
  const { O_RDWR, O_CREAT } = constants;
  const handle = await onDisk(place, () => open(file, O_RDWR | O_CREAT, 0o666));
  try {
    const sink = new Sink(handle, facts.size, subject, settings);
    sink.loaded = (await handle.stat()).size;
    if (facts.size !== null && sink.loaded > facts.size) await sink.restart();
    sink.report();
    if (facts.size === null || sink.loaded < facts.size) {
      await withRetries(
        settings,
        () => fetchInto(sink, url, facts, subject, settings),
        () => sink.loaded,
      );
    }
    await onDisk(place, () => handle.sync());
    const hash = await onDisk(place, () => hashLike(facts.etag, file, sink.loaded));
    if (hash !== null && hash !== facts.etag) {
      throw broken(subject, `expected content with the hash ${facts.etag}, got ${hash}`);
    }
  } catch (error) {
    const { code } = error as { code?: unknown };
    // A beginning is worth keeping after a cut, and only then.
    const { size } = await handle.stat();
    const cut = code === "ERR_HUB_CONNECTION" || settings.signal?.aborted === true;
    if (!cut || size === 0) await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Downloads a file to the blob that its etag names.
 * @returns the blob's path.
 * @throws HubError; then there is no such blob, at most a beginning to go on with.
 */
export async function downloadBlob(
  url: URL,
  facts: FileFacts,
  blobs: string,
  subject: Subject,
  settings: HubSettings,
): Promise<string> {
  const blob = path.join(blobs, facts.etag);
  for (;;) {
    checkSignal(settings.signal);
    const partial = await onDisk(settings.cacheDir, () => claimPartial(blobs, facts.etag));
    try {
      await downloadAndCheck(partial.file, url, facts, subject, settings);
      await onDisk(settings.cacheDir, () => rename(partial.file, blob));
      return blob;
    } catch (error) {
      // What somebody else began may have been broken: once more from the start.
      const retry = partial.resumed && (error as HubError).code === "ERR_HUB_BROKEN_FILE";
      if (!retry) throw error;
    } finally {
      partial.release();
    }
  }
}
