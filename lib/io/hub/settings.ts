// Which hub, whose token, which cache: options, then the environment variables that Hugging Face's
// own libraries read, then their defaults. Read at each call, so that a program may set them.

import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";

import { checkOptions } from "../../core/options.js";
import { ArgumentError, describe, HubError } from "../../errors.js";

/** How far the download of one file is. */
export interface HubProgress {
  readonly file: string;
  /** Bytes that are there; begins above 0 where a download is resumed. */
  readonly loaded: number;
  /** Bytes in all; null where the server does not say. */
  readonly total: number | null;
}

/** How to reach a repository on a hub. */
export interface HubOptions {
  /** A branch, a tag or a commit; default `main`. */
  revision?: string | undefined;
  repoType?: "model" | "dataset" | undefined;
  /** Default: HF_TOKEN, else the file that `hf auth login` writes; false sends none. */
  token?: string | false | undefined;
  /** Default: HF_HUB_CACHE, else `hub` in HF_HOME, else `huggingface/hub` in the user's cache. */
  cacheDir?: string | undefined;
  /** Uses the cache alone; default: whether HF_HUB_OFFLINE is set. */
  offline?: boolean | undefined;
  /** Address of the hub; default: HF_ENDPOINT, else `https://huggingface.co`. */
  endpoint?: string | undefined;
  /** How often a request is repeated after 429, 5xx or a cut connection; default 5. */
  retries?: number | undefined;
  /** Seconds before the first repetition, doubled each time up to 8 times as much; default 1. */
  retryDelay?: number | undefined;
  /** Seconds without a byte after which a connection counts as cut; default 30, 0 for never. */
  timeout?: number | undefined;
  /** Stops what is under way. */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: HubProgress) => void) | undefined;
}

/** Names of {@link HubOptions}, for those who pass them on. */
export const HUB_OPTIONS = [
  "revision",
  "repoType",
  "token",
  "cacheDir",
  "offline",
  "endpoint",
  "retries",
  "retryDelay",
  "timeout",
  "signal",
  "onProgress",
] as const satisfies readonly (keyof HubOptions)[];

/** The options with all that was left out. */
export interface HubSettings {
  readonly revision: string;
  readonly repoType: "model" | "dataset";
  readonly token: string | null;
  readonly cacheDir: string;
  readonly offline: boolean;
  readonly endpoint: URL;
  readonly retries: number;
  /** Milliseconds, as is `timeout`. */
  readonly retryDelay: number;
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (progress: HubProgress) => void;
}

const OP = "hub";
const DEFAULT_ENDPOINT = "https://huggingface.co";

function variable(...names: string[]): string | undefined {
  return names.map((name) => process.env[name]?.trim()).find((value) => value);
}

function isSet(...names: string[]): boolean {
  return names.some((name) => /^(1|on|yes|true)$/i.test(process.env[name]?.trim() ?? ""));
}

function expandHome(directory: string): string {
  return directory.replace(/^~(?=$|[/\\])/, () => homedir());
}

function hubHome(): string {
  const home = variable("HF_HOME");
  if (home !== undefined) return expandHome(home);
  const cache = variable("XDG_CACHE_HOME") ?? path.join(homedir(), ".cache");
  return path.join(expandHome(cache), "huggingface");
}

/** The cache directory that Hugging Face's own libraries use. */
export function defaultCacheDirectory(): string {
  const directory = variable("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE");
  return directory === undefined ? path.join(hubHome(), "hub") : expandHome(directory);
}

async function savedToken(): Promise<string | null> {
  const fromVariable = variable("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN");
  if (fromVariable !== undefined) return fromVariable;
  const file = expandHome(variable("HF_TOKEN_PATH") ?? path.join(hubHome(), "token"));
  try {
    return (await readFile(file, "utf8")).trim() || null;
  } catch (cause) {
    if (["ENOENT", "ENOTDIR"].includes((cause as NodeJS.ErrnoException).code ?? "")) return null;
    throw new HubError(
      "ERR_HUB_UNAUTHORIZED",
      `${OP}: the token in ${file} cannot be read: ${(cause as Error).message}`,
      { op: OP, cause },
    );
  }
}

async function chooseToken(given: string | false | undefined): Promise<string | null> {
  if (given === false) return null;
  const implicit = !isSet("HF_HUB_DISABLE_IMPLICIT_TOKEN");
  const token = given?.trim() ?? (implicit ? await savedToken() : null);
  // Never shown: it may be a good one with something behind it.
  if (token !== null && !/^[\x21-\x7e]+$/.test(token)) {
    throw new HubError(
      "ERR_HUB_UNAUTHORIZED",
      `${OP}: the token has characters that no token has; look at HF_TOKEN or the token file`,
      { op: OP },
    );
  }
  return token;
}

function chooseEndpoint(given: string | undefined): URL {
  const text = given ?? variable("HF_ENDPOINT") ?? DEFAULT_ENDPOINT;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url !== null && /^https?:$/.test(url.protocol)) return url;
  throw new ArgumentError(
    `${OP}: endpoint (HF_ENDPOINT) — expected an address such as ${DEFAULT_ENDPOINT}, got ` +
      describe(text),
    { op: OP },
  );
}

function checkAmount(name: string, value: number, whole: boolean): number {
  if (value >= 0 && (whole ? Number.isSafeInteger(value) : Number.isFinite(value))) return value;
  throw new ArgumentError(
    `${OP}: ${name} — expected a ${whole ? "whole " : ""}number from 0 up, got ${describe(value)}`,
    { op: OP },
  );
}

/**
 * Completes the options.
 * @throws ArgumentError for options that do not exist or have no such value, HubError for a token
 * that cannot be read or sent.
 */
export async function resolveSettings(options: HubOptions): Promise<HubSettings> {
  checkOptions(OP, options, HUB_OPTIONS);
  const { revision = "main", repoType = "model", retries = 5, retryDelay = 1 } = options;
  if ((repoType as unknown) !== "model" && (repoType as unknown) !== "dataset") {
    throw new ArgumentError(
      `${OP}: repoType — expected "model" or "dataset", got ${describe(repoType)}`,
      { op: OP },
    );
  }
  const patience = options.timeout ?? Number(variable("HF_HUB_DOWNLOAD_TIMEOUT") ?? 30);
  const offline = options.offline ?? isSet("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE");
  return {
    revision,
    repoType,
    token: offline ? null : await chooseToken(options.token),
    cacheDir: path.resolve(options.cacheDir ?? defaultCacheDirectory()),
    offline,
    endpoint: chooseEndpoint(options.endpoint),
    retries: checkAmount("retries", retries, true),
    retryDelay: 1000 * checkAmount("retryDelay", retryDelay, false),
    timeout: 1000 * checkAmount("timeout", patience, false),
    signal: options.signal,
    onProgress: options.onProgress ?? (() => undefined),
  };
}
