// Requests to a hub: redirects, of which only those on the hub itself see the token; repetition
// where that can help; and what the answers that refuse mean.

import { setTimeout as delay } from "node:timers/promises";

import { HubError, type HubErrorCode } from "../../errors.js";
import type { HubSettings } from "./settings.js";

const OP = "hub";
const MAX_REDIRECTS = 10;
/** The waits double up to this many times the first. */
const MAX_BACKOFF = 8;
/** A server that asks for more patience is not waited for. */
const MAX_WAIT_MS = 120_000;

/** What was asked for, as errors call it. */
export interface Subject {
  readonly repo: string;
  readonly revision: string;
  /** Absent where it is the repository itself. */
  readonly file?: string;
}

/** A failure that may be gone at the next try. */
export class TransientError extends Error {
  constructor(
    /** What is thrown where it does not go away. */
    readonly final: HubError,
    /** For how many milliseconds the server asked to wait. */
    readonly wait: number | null = null,
  ) {
    super(final.message, { cause: final });
  }
}

/** Throws what a signal was aborted with. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw signal.reason;
}

/**
 * Runs `attempt` until it succeeds, fails for good, or has failed `retries` times in a row. Tries
 * that brought something, as `progress` tells, do not count.
 */
export async function withRetries<T>(
  settings: Pick<HubSettings, "retries" | "retryDelay" | "signal">,
  attempt: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  const { retries, retryDelay, signal } = settings;
  let failures = 0;
  for (;;) {
    checkSignal(signal);
    const before = progress();
    try {
      return await attempt();
    } catch (error) {
      checkSignal(signal);
      if (!(error instanceof TransientError)) throw error;
      failures = progress() > before ? 1 : failures + 1;
      if (failures > retries || (error.wait ?? 0) > MAX_WAIT_MS) throw error.final;
      const backoff = retryDelay * Math.min(2 ** (failures - 1), MAX_BACKOFF);
      // Apart from each other, so that many clients do not come back at the same time.
      await delay(error.wait ?? backoff * (0.75 + Math.random() / 2), undefined, { signal });
    }
  }
}

/** Seconds that `Retry-After` or `RateLimit` ask for, in milliseconds. */
function waitOf(headers: Headers): number | null {
  const after = headers.get("retry-after")?.trim();
  if (after !== undefined) {
    const wait = /^\d+(\.\d+)?$/.test(after)
      ? Number(after) * 1000
      : Date.parse(after) - Date.now();
    if (Number.isFinite(wait)) return Math.max(0, wait);
  }
  const reset = /(?:^|;)\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "");
  return reset === null ? null : Number(reset[1]) * 1000;
}

function nameOf({ repo, revision, file }: Subject): string {
  return `${repo}${file === undefined ? "" : `: ${file}`} (revision ${revision})`;
}

function hubError(code: HubErrorCode, message: string, cause?: unknown): HubError {
  return new HubError(code, `${OP}: ${message}`, { op: OP, cause });
}

/** What an answer that is no success means, and what to do about it. */
function refusal(response: Response, subject: Subject, settings: HubSettings): HubError {
  const { status, headers } = response;
  const { repo, revision, file } = subject;
  const code = headers.get("x-error-code");
  const said = headers.get("x-error-message");
  const page = new URL(repo, `${settings.endpoint.href.replace(/\/*$/, "")}/`).href;
  const what = settings.repoType === "dataset" ? "data set" : "model";
  const signIn =
    settings.token === null
      ? `set HF_TOKEN to a token from ${settings.endpoint.origin}/settings/tokens`
      : "the token that was sent gives no access to it";
  if (code === "GatedRepo") {
    return hubError(
      "ERR_HUB_GATED",
      `${repo} is given to those who accepted its conditions: accept them at ${page}, and ${
        settings.token === null ? signIn : "use a token of the same account"
      }`,
    );
  }
  if (status === 401 && /invalid (credentials|.*token)/i.test(said ?? "")) {
    return hubError(
      "ERR_HUB_UNAUTHORIZED",
      `${nameOf(subject)}: the hub does not take the token; set HF_TOKEN to a valid one from ` +
        `${settings.endpoint.origin}/settings/tokens, or remove it for public repositories`,
    );
  }
  if (code === "RevisionNotFound") {
    return hubError(
      "ERR_HUB_REVISION_NOT_FOUND",
      `${repo} has no revision "${revision}": expected a branch, a tag or a whole commit`,
    );
  }
  if (code === "EntryNotFound" || (status === 404 && file !== undefined && code === null)) {
    return hubError("ERR_HUB_FILE_NOT_FOUND", `${nameOf(subject)}: there is no such file`);
  }
  if (code === "RepoNotFound" || status === 401 || status === 404) {
    return hubError(
      "ERR_HUB_REPO_NOT_FOUND",
      `${repo}: there is no such ${what}, or it is private: check the name; for a private one ` +
        signIn,
    );
  }
  if (status === 403) {
    const reason = said === null ? "" : ` (${said})`;
    return hubError("ERR_HUB_FORBIDDEN", `${nameOf(subject)}: access refused${reason}: ${signIn}`);
  }
  if (status === 429) {
    return hubError(
      "ERR_HUB_RATE_LIMITED",
      `${nameOf(subject)}: too many requests, try again later` +
        (settings.token === null ? `; with a token more are allowed: ${signIn}` : ""),
    );
  }
  const reason = said === null ? "" : `: ${said}`;
  return hubError(
    "ERR_HUB_SERVER",
    `${nameOf(subject)}: ${settings.endpoint.origin} answered ${status}${reason}`,
  );
}

/** Faults of certificates, which no repetition mends. */
const UNTRUSTED = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|HOSTNAME/;

/** A connection that could not be made, or was cut, as an error that says so. */
export function connectionFailure(
  cause: unknown,
  subject: Subject,
  settings: HubSettings,
): TransientError | HubError {
  const inner = (cause as { cause?: unknown }).cause ?? cause;
  const { code, message } = inner as NodeJS.ErrnoException;
  const why = typeof message === "string" && message !== "" ? message : (code ?? String(inner));
  const error = hubError(
    "ERR_HUB_CONNECTION",
    `${nameOf(subject)}: no connection to ${settings.endpoint.origin}: ${why}; HF_ENDPOINT names ` +
      `another hub, HF_HUB_OFFLINE=1 uses what the cache has`,
    cause,
  );
  return UNTRUSTED.test(code ?? "") ? error : new TransientError(error);
}

/** An answer, and the headers of it and of the redirects that led there. */
export interface HubResponse {
  readonly response: Response;
  /** A header of the last answer that has it. */
  header(name: string): string | null;
}

function nextAddress(response: Response, from: URL, subject: Subject): URL | null {
  if (![301, 302, 303, 307, 308].includes(response.status)) return null;
  const location = response.headers.get("location") ?? "";
  const url = URL.canParse(location, from.href) ? new URL(location, from) : null;
  const downgrade = from.protocol === "https:" && url?.protocol === "http:";
  if (url !== null && /^https?:$/.test(url.protocol) && !downgrade) return url;
  throw hubError(
    "ERR_HUB_SERVER",
    `${nameOf(subject)}: redirected to ${JSON.stringify(location)}, which is not followed`,
  );
}

/** How to ask. */
export interface RequestOptions {
  readonly method: "GET" | "HEAD";
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends this try, in addition to the settings' signal. */
  readonly signal: AbortSignal;
}

/**
 * One try. The token goes to the hub alone. A HEAD that is sent on to another host ends there: the
 * hub's own answer says what is asked for, and the other's address is made for GET.
 * @throws TransientError, or HubError for what no repetition mends.
 */
export async function request(
  url: URL,
  options: RequestOptions,
  subject: Subject,
  settings: HubSettings,
): Promise<HubResponse> {
  const { method, signal } = options;
  const seen: Headers[] = [];
  let address = url;
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const own = address.origin === settings.endpoint.origin;
    const headers: Record<string, string> = {
      "accept-encoding": "identity",
      "user-agent": `mixprec; node/${process.versions.node}`,
      ...options.headers,
      ...(own && settings.token !== null ? { authorization: `Bearer ${settings.token}` } : {}),
    };
    let response: Response;
    try {
      response = await fetch(address, { method, headers, redirect: "manual", signal });
    } catch (cause) {
      throw connectionFailure(signal.aborted ? signal.reason : cause, subject, settings);
    }
    seen.unshift(response.headers);
    const header = (name: string): string | null =>
      seen.map((each) => each.get(name)).find((value) => value !== null) ?? null;
    const next = nextAddress(response, address, subject);
    const told = header("x-linked-etag") !== null || header("etag") !== null;
    if (next === null || (method === "HEAD" && told && next.origin !== address.origin)) {
      if (response.ok || next !== null || response.status === 416) return { response, header };
      await response.body?.cancel().catch(() => undefined);
      const error = refusal(response, subject, settings);
      const again = response.status === 429 || response.status === 408 || response.status >= 500;
      throw again ? new TransientError(error, waitOf(response.headers)) : error;
    }
    await response.body?.cancel().catch(() => undefined);
    address = next;
  }
  throw hubError("ERR_HUB_SERVER", `${nameOf(subject)}: more than ${MAX_REDIRECTS} redirects`);
}

/** A limit of time that begins anew with every sign of life. */
export function stallGuard(settings: HubSettings): {
  signal: AbortSignal;
  alive: () => void;
  stop: () => void;
} {
  const controller = new AbortController();
  const { timeout, signal } = settings;
  const expire = (): void => {
    controller.abort(new Error(`no byte for ${timeout / 1000} s`));
  };
  const timer = timeout === 0 ? undefined : setTimeout(expire, timeout);
  return {
    signal: signal === undefined ? controller.signal : AbortSignal.any([controller.signal, signal]),
    alive: () => {
      timer?.refresh();
    },
    stop: () => {
      clearTimeout(timer);
    },
  };
}
