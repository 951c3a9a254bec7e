// A hub on this machine that speaks Hugging Face's protocol, with a second host for large files, and
// that can be told to misbehave.

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A repository as the server has it. */
export interface ServedRepo {
  /** By name; those of `large` are given by the other host. */
  readonly files: Readonly<Record<string, Buffer | string>>;
  readonly large?: readonly string[];
  /** Beside `main`. */
  readonly revisions?: readonly string[];
  /** The token without which it looks as if it were not there. */
  readonly token?: string;
  readonly gated?: boolean;
  readonly repoType?: "dataset";
}

/** One request that came. */
export interface SeenRequest {
  readonly host: "hub" | "cdn";
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** Does something else instead of the right answer; false gives the right one. */
export type Fault = (request: SeenRequest, response: ServerResponse, body: Buffer) => boolean;

export const sha256 = (bytes: Buffer | string): string =>
  createHash("sha256").update(bytes).digest("hex");

/** Git's hash of a file. */
export const gitHash = (bytes: Buffer | string): string =>
  createHash("sha1")
    .update(`blob ${Buffer.byteLength(bytes)}\0`)
    .update(bytes)
    .digest("hex");

/** The commit that stands for what a repository holds. */
export const commitOf = (repo: ServedRepo): string =>
  createHash("sha1")
    .update(JSON.stringify(Object.entries(repo.files).map(([name, text]) => [name, sha256(text)])))
    .digest("hex");

function listen(server: Server): Promise<string> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.closeAllConnections();
    server.close(() => {
      resolve();
    });
  });
}

/** Both hosts. */
export class HubServer {
  readonly repos = new Map<string, ServedRepo>();
  readonly requests: SeenRequest[] = [];
  endpoint = "";
  cdn = "";
  private faults: { readonly when: RegExp; times: number; readonly fault: Fault }[] = [];
  private readonly hubHost = createServer((request, response) => {
    this.answer("hub", request, response);
  });
  private readonly cdnHost = createServer((request, response) => {
    this.answer("cdn", request, response);
  });

  static async start(): Promise<HubServer> {
    const server = new HubServer();
    server.endpoint = await listen(server.hubHost);
    server.cdn = await listen(server.cdnHost);
    return server;
  }

  async stop(): Promise<void> {
    await close(this.hubHost);
    await close(this.cdnHost);
  }

  /** Forgets repositories, faults and requests. */
  reset(): void {
    this.repos.clear();
    this.faults = [];
    this.requests.length = 0;
  }

  /** Misbehaves at the next `times` requests whose "host METHOD /path" matches. */
  fail(when: RegExp, times: number, fault: Fault): void {
    this.faults.push({ when, times, fault });
  }

  /** Answers the next `times` requests with a status. */
  refuse(when: RegExp, times: number, status: number, headers: Record<string, string> = {}): void {
    this.fail(when, times, (_, response) => {
      response.writeHead(status, headers).end();
      return true;
    });
  }

  /** Cuts the connection of the next `times` answers after `bytes` of the body. */
  cut(when: RegExp, times: number, bytes: number): void {
    this.fail(when, times, ({ range }, response, body) => {
      const begin = Number(/\d+/.exec(range ?? "0")![0]);
      const status = begin > 0 ? 206 : 200;
      const headers: Record<string, string> = { "content-length": String(body.length - begin) };
      if (begin > 0) headers["content-range"] = `bytes ${begin}-${body.length - 1}/${body.length}`;
      response.writeHead(status, headers);
      response.write(body.subarray(begin, begin + bytes), () => response.destroy());
      return true;
    });
  }

  /** How many requests matched. */
  count(when: RegExp): number {
    return this.requests.filter((seen) => when.test(`${seen.host} ${seen.method} ${seen.path}`))
      .length;
  }

  private answer(host: "hub" | "cdn", request: IncomingMessage, response: ServerResponse): void {
    const { method = "GET", url = "/", headers } = request;
    const { range, authorization } = headers;
    const seen = { host, method, path: decodeURIComponent(url), range, authorization };
    this.requests.push(seen);
    const body = this.bodyOf(seen);
    const line = `${host} ${method} ${seen.path}`;
    const fault = this.faults.find(({ when, times }) => times > 0 && when.test(line));
    if (fault !== undefined) {
      fault.times--;
      if (fault.fault(seen, response, body)) return;
    }
    if (host === "cdn") this.answerLarge(seen, response, body);
    else this.answerHub(seen, response);
  }

  private bodyOf({ host, path }: SeenRequest): Buffer {
    const hash = host === "cdn" ? path.slice(1) : null;
    for (const [name, repo] of this.repos) {
      for (const [file, content] of Object.entries(repo.files)) {
        const bytes = Buffer.from(content);
        if (hash === sha256(bytes) || (path.includes(name) && path.endsWith(`/${file}`))) {
          return bytes;
        }
      }
    }
    return Buffer.alloc(0);
  }

  private answerLarge(seen: SeenRequest, response: ServerResponse, body: Buffer): void {
    // As S3 does: a signed address and a token are too much.
    if (seen.authorization !== undefined) {
      response.writeHead(400).end();
      return;
    }
    sendBytes(seen, response, body, { etag: `"${sha256(body).slice(0, 32)}"` });
  }

  private answerHub(seen: SeenRequest, response: ServerResponse): void {
    const refuse = (status: number, code: string, message = ""): void => {
      response.writeHead(status, { "x-error-code": code, "x-error-message": message }).end();
    };
    if (seen.authorization === "Bearer invalid") {
      refuse(401, "", "Invalid credentials in Authorization header");
      return;
    }
    const listing = /^\/api\/(models|datasets)\/(.+?)\/revision\/(.+)$/.exec(seen.path);
    const file = /^\/(datasets\/)?(.+?)\/resolve(-cache)?\/([^/]+)\/(.+)$/.exec(seen.path);
    const name = listing?.[2] ?? file?.[2] ?? "";
    const repo = this.repos.get(name);
    const dataset = listing?.[1] === "datasets" || file?.[1] !== undefined;
    const authorized = repo?.token === undefined || seen.authorization === `Bearer ${repo.token}`;
    if (repo === undefined || !authorized || dataset !== (repo.repoType === "dataset")) {
      refuse(seen.authorization === undefined ? 401 : 404, "RepoNotFound", "Repository not found");
      return;
    }
    const commit = commitOf(repo);
    const revision = listing?.[3] ?? file![4]!;
    if (![commit, "main", ...(repo.revisions ?? [])].includes(revision)) {
      refuse(404, "RevisionNotFound");
    } else if (listing !== null) {
      const siblings = Object.keys(repo.files).map((rfilename) => ({ rfilename }));
      response.end(JSON.stringify({ sha: commit, siblings }));
    } else if (repo.gated === true) {
      refuse(403, "GatedRepo");
    } else {
      this.answerFile(seen, response, repo, name, file![5]!, file![3] !== undefined);
    }
  }

  private answerFile(
    seen: SeenRequest,
    response: ServerResponse,
    repo: ServedRepo,
    name: string,
    file: string,
    direct: boolean,
  ): void {
    const content = repo.files[file];
    if (content === undefined) {
      response.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
      return;
    }
    const bytes = Buffer.from(content);
    const commit = { "x-repo-commit": commitOf(repo) };
    if (repo.large?.includes(file) === true) {
      const hash = sha256(bytes);
      response.writeHead(302, {
        ...commit,
        location: `${this.cdn}/${hash}`,
        "x-linked-etag": `"${hash}"`,
        "x-linked-size": String(bytes.length),
        etag: '"of-the-pointer"',
      });
      response.end(seen.method === "HEAD" ? undefined : "Found. Redirecting");
    } else if (!direct) {
      const prefix = repo.repoType === "dataset" ? "datasets/" : "";
      const location = `/${prefix}${name}/resolve-cache/${commitOf(repo)}/${file}`;
      response.writeHead(307, { ...commit, location: encodeURI(location) }).end();
    } else {
      sendBytes(seen, response, bytes, { ...commit, etag: `W/"${gitHash(bytes)}"` });
    }
  }
}

function sendBytes(
  { method, range }: SeenRequest,
  response: ServerResponse,
  bytes: Buffer,
  headers: Record<string, string>,
): void {
  const begin = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  if (begin > 0 && begin >= bytes.length) {
    response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
    return;
  }
  const part = bytes.subarray(begin);
  response.writeHead(begin > 0 ? 206 : 200, {
    ...headers,
    "accept-ranges": "bytes",
    "content-length": String(part.length),
    ...(begin > 0 ? { "content-range": `bytes ${begin}-${bytes.length - 1}/${bytes.length}` } : {}),
  });
  response.end(method === "HEAD" ? undefined : part);
}
