import { execFileSync } from "node:child_process";
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  writeFile,
} from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import path from "node:path";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";

import * as mp from "../../../lib/index.js";
import { commitOf, gitHash, HubServer, sha256, type ServedRepo } from "../../helpers/hub-server.js";

const BIG = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 251));
const TINY: ServedRepo = {
  files: { "config.json": "{}\n", "model.safetensors": BIG, "onnx/a b.txt": "text" },
  large: ["model.safetensors"],
  revisions: ["v1", "refs/pr/3"],
};
const COMMIT = commitOf(TINY);

let server: HubServer;
let cacheDir: string;
beforeAll(async () => {
  server = await HubServer.start();
});
afterAll(() => server.stop());
beforeEach(async () => {
  server.reset();
  server.repos.set("org/tiny", TINY);
  cacheDir = await mkdtemp(path.join(tmpdir(), "mixprec-hub-"));
  for (const name of ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HUB_CACHE"]) {
    vi.stubEnv(name, undefined);
  }
  // No token file of whoever runs the tests.
  vi.stubEnv("HF_HOME", path.join(cacheDir, "home"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cacheDir, { recursive: true, force: true });
});

const open = (name = "org/tiny", options: mp.HubOptions = {}): Promise<mp.hub.HubRepo> =>
  mp.hub.openRepo(name, {
    endpoint: server.endpoint,
    cacheDir,
    retryDelay: 0.001,
    ...options,
  });

const get = async (file: string, options: mp.HubOptions = {}): Promise<string> =>
  (await open("org/tiny", options)).get(file);

async function failure(promise: Promise<unknown>): Promise<mp.HubError> {
  const error: unknown = await promise.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(mp.HubError);
  return error as mp.HubError;
}

const inRepo = (...parts: string[]): string => path.join(cacheDir, "models--org--tiny", ...parts);
const blobs = (): Promise<string[]> => readdir(inRepo("blobs")).catch(() => []);

/** All that a failed download may leave: nothing that has the name of a blob or a file. */
async function expectNothingWhole(): Promise<void> {
  expect((await blobs()).filter((name) => !name.endsWith(".incomplete"))).toEqual([]);
  const snapshot = await readdir(inRepo("snapshots", COMMIT)).catch(() => []);
  expect(snapshot).toEqual([]);
}

describe("openRepo", () => {
  it("lays files out as Hugging Face's libraries do, and asks once for each", async () => {
    const repo = await open();
    expect(repo.commit).toBe(COMMIT);
    expect(repo.files).toEqual(["config.json", "model.safetensors", "onnx/a b.txt"]);
    const file = await repo.get("model.safetensors");
    expect(file).toBe(inRepo("snapshots", COMMIT, "model.safetensors"));
    expect((await readFile(file)).equals(BIG)).toBe(true);
    expect(await readlink(file)).toBe(path.join("..", "..", "blobs", sha256(BIG)));
    const nested = await repo.get("onnx/a b.txt");
    expect(await readFile(nested, "utf8")).toBe("text");
    expect(await readlink(nested)).toBe(path.join("..", "..", "..", "blobs", gitHash("text")));
    expect((await blobs()).sort()).toEqual([sha256(BIG), gitHash("text")].sort());
    expect(await readFile(inRepo("refs", "main"), "utf8")).toBe(COMMIT);
    const asked = server.requests.length;
    expect(await (await open()).get("model.safetensors")).toBe(file);
    expect(server.requests.length).toBe(asked + 1);
  });

  it("takes a branch, a tag and a commit, and names without an owner", async () => {
    server.repos.set("tiny", TINY);
    expect((await open("tiny", { revision: "refs/pr/3" })).commit).toBe(COMMIT);
    await get("config.json", { revision: "refs/pr/3" });
    expect(await readFile(inRepo("refs", "refs", "pr", "3"), "utf8")).toBe(COMMIT);
    await get("config.json", { revision: COMMIT });
    expect(await readdir(inRepo("refs"))).toEqual(["refs"]);
    const error = await failure(open("org/tiny", { revision: "none" }));
    expect(error.code).toBe("ERR_HUB_REVISION_NOT_FOUND");
    expect(error.message).toMatch(/org\/tiny has no revision "none"/);
  });

  it("keeps data sets apart", async () => {
    server.repos.set("org/texts", { files: { "a.parquet": "PAR1" }, repoType: "dataset" });
    const repo = await open("org/texts", { repoType: "dataset" });
    const file = await repo.get("a.parquet");
    expect(file).toContain(path.join(cacheDir, "datasets--org--texts", "snapshots"));
    expect(await readFile(file, "utf8")).toBe("PAR1");
    expect((await failure(open("org/texts"))).code).toBe("ERR_HUB_REPO_NOT_FOUND");
  });

  it("uses a blob that is there, and not one of another size", async () => {
    await get("model.safetensors");
    await rm(inRepo("snapshots"), { recursive: true });
    await get("model.safetensors");
    expect(server.count(/^cdn/)).toBe(1);
    await rm(inRepo("snapshots"), { recursive: true });
    await writeFile(inRepo("blobs", sha256(BIG)), "short");
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
  });

  it("tells how far it is", async () => {
    const seen: mp.HubProgress[] = [];
    await get("model.safetensors", { onProgress: (progress) => seen.push(progress) });
    expect(seen[0]).toEqual({ file: "model.safetensors", loaded: 0, total: BIG.length });
    expect(seen.at(-1)!.loaded).toBe(BIG.length);
  });

  it("names a file that is missing, and those that are there", async () => {
    const error = await failure(get("pytorch_model.bin"));
    expect(error.code).toBe("ERR_HUB_FILE_NOT_FOUND");
    expect(error.message).toMatch(/no file pytorch_model.bin .*it has config.json, model/);
  });

  it.each(["../x", "/etc/passwd", "a/../../b", "a//b", "..", "a\\..\\b", "C:/x", "a\u0000b", ""])(
    "refuses a file called %j, also where the server lists it",
    async (name) => {
      server.repos.set("org/tiny", { files: { [name]: "x" } });
      const error = await failure(get(name));
      expect(error.code).toBe("ERR_HUB_UNSAFE_NAME");
      expect(await readdir(cacheDir)).toEqual([]);
    },
  );

  it("refuses an etag that is no file name, and a commit that is none", async () => {
    server.refuse(/HEAD .*config/, 1, 200, { etag: '"../../x"' });
    expect((await failure(get("config.json"))).message).toMatch(/ETag .*is .* a Hugging Face hub/);
    server.fail(/GET \/api/, 1, (_, response) => {
      response.end(JSON.stringify({ sha: "../main", siblings: [] }));
      return true;
    });
    expect((await failure(open())).message).toMatch(/expected a commit, got "..\/main"/);
    server.fail(/GET \/api/, 1, (_, response) => {
      response.end("<html>");
      return true;
    });
    expect((await failure(open())).message).toMatch(/the answer is not JSON/);
    await expectNothingWhole();
  });

  it.each(["", "a/b/c", "../x", "a b", "-x", "x.", "a--b", "a..b", "x.git", "é", "a/"])(
    "refuses %j as a name",
    async (name) => {
      await expect(open(name)).rejects.toThrow(mp.ArgumentError);
      expect(server.requests).toEqual([]);
    },
  );

  it("refuses options that are none", async () => {
    await expect(open("org/tiny", { revison: "x" } as object)).rejects.toThrow(
      /no option "revison/,
    );
    await expect(open("org/tiny", { endpoint: "hf.co" })).rejects.toThrow(/HF_ENDPOINT/);
    await expect(open("org/tiny", { retries: -1 })).rejects.toThrow(mp.ArgumentError);
    await expect(open("org/tiny", { repoType: "space" as "model" })).rejects.toThrow(/repoType/);
    expect((await failure(open("org/tiny", { revision: "../x" }))).code).toBe(
      "ERR_HUB_UNSAFE_NAME",
    );
  });
});

describe("the token", () => {
  beforeEach(() => {
    server.repos.set("org/tiny", { ...TINY, token: "good" });
  });

  it("comes from the option, HF_TOKEN or the token file, and goes to the hub alone", async () => {
    expect((await open("org/tiny", { token: "good" })).commit).toBe(COMMIT);
    vi.stubEnv("HF_TOKEN", " good\n");
    await get("model.safetensors");
    vi.stubEnv("HF_TOKEN", undefined);
    await mkdir(path.join(cacheDir, "home"));
    await writeFile(path.join(cacheDir, "home", "token"), "good\n");
    expect((await open()).commit).toBe(COMMIT);
    const sent = server.requests.map(({ host, authorization }) => `${host} ${authorization}`);
    expect(new Set(sent)).toEqual(new Set(["hub Bearer good", "cdn undefined"]));
    vi.stubEnv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    expect((await failure(open())).code).toBe("ERR_HUB_REPO_NOT_FOUND");
    expect((await failure(open("org/tiny", { token: false }))).code).toBe("ERR_HUB_REPO_NOT_FOUND");
  });

  it("says what to do where it is missing, wrong or not enough, and does not ask again", async () => {
    const missing = await failure(open());
    expect(missing.code).toBe("ERR_HUB_REPO_NOT_FOUND");
    expect(missing.message).toMatch(/no such model, or it is private.*set HF_TOKEN/);
    expect(server.requests).toHaveLength(1);
    const other = await failure(open("org/tiny", { token: "other" }));
    expect(other.message).toMatch(/the token that was sent gives no access/);
    const invalid = await failure(open("org/tiny", { token: "invalid" }));
    expect(invalid.code).toBe("ERR_HUB_UNAUTHORIZED");
    expect(server.requests).toHaveLength(3);
    const odd = await failure(open("org/tiny", { token: "secret words" }));
    expect(odd.code).toBe("ERR_HUB_UNAUTHORIZED");
    expect(odd.message).not.toContain("secret");
    server.repos.set("org/tiny", { ...TINY, gated: true });
    const gated = await failure(get("config.json", { token: "good" }));
    expect(gated.code).toBe("ERR_HUB_GATED");
    expect(gated.message).toContain(`accept them at ${server.endpoint}/org/tiny`);
    server.refuse(/HEAD/, 1, 403, { "x-error-message": "disabled" });
    const forbidden = await failure(get("config.json", { token: "good" }));
    expect(forbidden.code).toBe("ERR_HUB_FORBIDDEN");
    expect(forbidden.message).toContain("disabled");
    server.refuse(/HEAD/, 1, 404);
    expect((await failure(get("config.json"))).code).toBe("ERR_HUB_FILE_NOT_FOUND");
  });
});

describe("what goes wrong on the way", () => {
  it("is tried again after 429 and 5xx, as long as the server asks", async () => {
    server.refuse(/GET \/api/, 2, 503);
    server.refuse(/HEAD/, 1, 429, { "retry-after": "0.2" });
    server.refuse(/^cdn GET/, 1, 500);
    const start = performance.now();
    await get("model.safetensors");
    // No more than the server asked for is checked: an upper limit would depend on the machine.
    expect(performance.now() - start).toBeGreaterThan(190);
    expect(server.count(/GET \/api/)).toBe(3);
    expect(server.count(/HEAD/)).toBe(2);
    expect(server.count(/^cdn GET/)).toBe(2);
  });

  it("is an error where it stays, or where the server asks for much patience", async () => {
    server.refuse(/GET \/api/, 3, 500);
    const error = await failure(open("org/tiny", { retries: 2 }));
    expect(error.code).toBe("ERR_HUB_SERVER");
    expect(error.message).toMatch(/answered 500/);
    expect(server.count(/GET \/api/)).toBe(3);
    server.refuse(/GET \/api/, 1, 429, { ratelimit: '"api";r=0;t=3600' });
    const limited = await failure(open());
    expect(limited.code).toBe("ERR_HUB_RATE_LIMITED");
    expect(limited.message).toMatch(/set HF_TOKEN/);
  });

  it("goes on where a connection was cut, by range", async () => {
    server.cut(/^cdn GET/, 3, 70_000);
    const file = await get("model.safetensors");
    expect((await readFile(file)).equals(BIG)).toBe(true);
    const ranges = server.requests.filter(({ host }) => host === "cdn").map(({ range }) => range);
    expect(ranges[0]).toBeUndefined();
    expect(ranges).toHaveLength(4);
    // What had arrived when the cut was seen may be less than what was sent.
    for (const range of ranges.slice(1)) expect(range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(await blobs()).toEqual([sha256(BIG)]);
  });

  it("begins anew where the server does not know ranges, or answers another one", async () => {
    server.cut(/^cdn GET/, 1, 70_000);
    server.fail(/^cdn GET/, 1, (_, response, body) => {
      response.end(body);
      return true;
    });
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
    await rm(inRepo(), { recursive: true });
    server.cut(/^cdn GET/, 1, 70_000);
    server.fail(/^cdn GET/, 1, (_, response, body) => {
      response.writeHead(206, { "content-range": `bytes 5-${body.length - 1}/${body.length}` });
      response.end(body.subarray(5));
      return true;
    });
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
    await rm(inRepo(), { recursive: true });
    server.cut(/^cdn GET/, 1, 70_000);
    server.refuse(/^cdn GET/, 1, 416);
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
  });

  it("keeps a beginning for the next call, and nothing else", async () => {
    server.cut(/^cdn GET/, 99, 40_000);
    const error = await failure(get("model.safetensors", { retries: 0 }));
    expect(error.code).toBe("ERR_HUB_CONNECTION");
    await expectNothingWhole();
    expect(await blobs()).toHaveLength(1);
    server.reset();
    server.repos.set("org/tiny", TINY);
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
    expect(server.requests.at(-1)!.range).toMatch(/^bytes=[1-9]/);
    expect(await blobs()).toEqual([sha256(BIG)]);
  });

  it("takes over what a dead process left, and leaves alone what a living one writes", async () => {
    const dead = Number(
      execFileSync(process.execPath, ["-e", "console.log(process.pid)"]).toString(),
    );
    const host = hostname().replace(/[^\w-]/g, "_");
    const name = (pid: number): string => `${sha256(BIG)}.${host}.${pid}.0.incomplete`;
    const parent = name(process.ppid);
    await mkdir(inRepo("blobs"), { recursive: true });
    await writeFile(inRepo("blobs", name(dead)), BIG.subarray(0, 1000));
    await writeFile(inRepo("blobs", parent), "theirs");
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
    expect(server.requests.at(-1)!.range).toBe("bytes=1000-");
    expect((await blobs()).sort()).toEqual([sha256(BIG), parent].sort());
    // One that was broken is begun again.
    await rm(inRepo(), { recursive: true });
    await mkdir(inRepo("blobs"), { recursive: true });
    await writeFile(inRepo("blobs", name(dead)), Buffer.alloc(1000, 7));
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
    await rm(inRepo(), { recursive: true });
    await mkdir(inRepo("blobs"), { recursive: true });
    await writeFile(inRepo("blobs", name(dead)), Buffer.alloc(BIG.length + 1));
    expect((await readFile(await get("model.safetensors"))).equals(BIG)).toBe(true);
  });

  it.each<[string, (body: Buffer) => Buffer, RegExp]>([
    ["too few bytes", (body) => body.subarray(1), /expected 300000 bytes, the server sends 299999/],
    [
      "too many",
      (body) => Buffer.concat([body, body]),
      /expected 300000 .*the server sends 600000/,
    ],
    [
      "others",
      (body) => Buffer.alloc(body.length),
      /expected content with the hash \w{64}, got \w/,
    ],
  ])("refuses a large file of %s", async (_, change, message) => {
    server.fail(/^cdn GET/, 99, (__, response, body) => {
      const bytes = change(body);
      response.writeHead(200, { "content-length": String(bytes.length) }).end(bytes);
      return true;
    });
    const error = await failure(get("model.safetensors"));
    expect(error.code).toBe("ERR_HUB_BROKEN_FILE");
    expect(error.message).toMatch(message);
    expect(server.count(/^cdn GET/)).toBe(1);
    await expectNothingWhole();
    expect(await blobs()).toEqual([]);
  });

  it.each<[string, Buffer, RegExp]>([
    ["too many bytes", Buffer.alloc(400_000), /expected 300000 bytes, the server sends more/],
    ["too few", Buffer.alloc(200_000), /expected 300000 bytes, got 200000/],
  ])("refuses %s where no length was told", async (_, bytes, message) => {
    server.fail(/^cdn GET/, 99, (__, response) => {
      response.writeHead(200, { "transfer-encoding": "chunked" }).end(bytes);
      return true;
    });
    const error = await failure(get("model.safetensors", { retries: 1 }));
    expect(error.code).toBe("ERR_HUB_BROKEN_FILE");
    expect(error.message).toMatch(message);
    await expectNothingWhole();
    expect(await blobs()).toEqual([]);
  });

  it("refuses a small file whose content is another", async () => {
    server.fail(/GET .*config/, 2, (__, response, body) => {
      response.end(Buffer.alloc(body.length, 32));
      return true;
    });
    const error = await failure(get("config.json"));
    expect(error.message).toMatch(/config.json: expected content with the hash \w{40}, got \w{40}/);
    await expectNothingWhole();
  });

  it("is a cut where nothing comes for long, and ends with the caller's signal", async () => {
    server.fail(/^cdn GET/, 1, (_, response, body) => {
      response.writeHead(200, { "content-length": String(body.length) });
      response.write(body.subarray(0, 1000));
      return true;
    });
    expect((await readFile(await get("model.safetensors", { timeout: 0.2 }))).equals(BIG)).toBe(
      true,
    );
    await rm(inRepo(), { recursive: true });
    const controller = new AbortController();
    server.fail(/^cdn GET/, 1, (_, response, body) => {
      response.writeHead(200, { "content-length": String(body.length) });
      response.write(body.subarray(0, 1000), () => {
        controller.abort(new Error("enough"));
      });
      return true;
    });
    const stopped = get("model.safetensors", { signal: controller.signal });
    await expect(stopped).rejects.toThrow("enough");
    await expectNothingWhole();
    await expect(open("org/tiny", { signal: controller.signal })).rejects.toThrow("enough");
  });

  it.each(["file:///etc/passwd", "ftp://x/y", "http://", "/"])(
    "does not follow a redirect to %s",
    async (location) => {
      server.refuse(/HEAD/, 99, 302, { location });
      const error = await failure(get("config.json", { retries: 0 }));
      expect(error.code).toMatch(/ERR_HUB_(SERVER|REPO_NOT_FOUND|FILE_NOT_FOUND)/);
      await expectNothingWhole();
    },
  );

  it("gives up a redirect that goes round", async () => {
    server.fail(/GET \/api/, 99, ({ path: place }, response) => {
      response.writeHead(307, { location: place }).end();
      return true;
    });
    expect((await failure(open())).message).toMatch(/more than 10 redirects/);
  });

  it("says that the cache cannot be written", async () => {
    const file = path.join(cacheDir, "file");
    await writeFile(file, "");
    const error = await failure(get("config.json", { cacheDir: file }));
    expect(error.code).toBe("ERR_HUB_CACHE");
    expect(error.message).toMatch(/ENOTDIR.*HF_HUB_CACHE/);
  });

  it("serves several calls at once", async () => {
    const files = await Promise.all([1, 2, 3].map(() => get("model.safetensors")));
    expect(new Set(files).size).toBe(1);
    expect((await readFile(files[0]!)).equals(BIG)).toBe(true);
    expect(await blobs()).toEqual([sha256(BIG)]);
  });
});

describe("without the hub", () => {
  const nowhere = "http://127.0.0.1:9";

  it("offline uses the cache alone, and names what it lacks", async () => {
    vi.stubEnv("HF_HUB_CACHE", cacheDir);
    vi.stubEnv("HF_ENDPOINT", server.endpoint);
    await (await mp.hub.openRepo("org/tiny")).get("config.json");
    const asked = server.requests.length;
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    const repo = await mp.hub.openRepo("org/tiny");
    expect([repo.commit, repo.files, repo.notice]).toEqual([COMMIT, ["config.json"], null]);
    const file = await repo.get("config.json");
    expect((await lstat(file)).isSymbolicLink()).toBe(true);
    const missing = await failure(repo.get("model.safetensors"));
    expect(missing.code).toBe("ERR_HUB_OFFLINE");
    expect(missing.message).toMatch(/model.safetensors is not in the cache/);
    const other = await failure(mp.hub.openRepo("org/other"));
    expect(other.message).toMatch(/models--org--other, and nothing is downloaded while HF_HUB_OFF/);
    expect((await failure(open("org/tiny", { revision: "v1", offline: true }))).code).toBe(
      "ERR_HUB_OFFLINE",
    );
    expect(server.requests).toHaveLength(asked);
  });

  it("unreachable is an error, or with a cached commit a notice", async () => {
    const error = await failure(open("org/tiny", { endpoint: nowhere, retries: 1 }));
    expect(error.code).toBe("ERR_HUB_CONNECTION");
    expect(error.message).toMatch(/no connection to http:\/\/127.0.0.1:9: .*HF_HUB_OFFLINE=1/);
    await get("config.json");
    const repo = await open("org/tiny", { endpoint: nowhere });
    expect(repo.notice).toMatch(/the cached org\/tiny is used: hub: .*no connection/);
    expect(await readFile(await repo.get("config.json"), "utf8")).toBe("{}\n");
    const missing = await failure(repo.get("model.safetensors"));
    expect(missing.message).toMatch(/not in the cache.*no connection/);
  });

  it("a repository that is gone is gone, whatever the cache has", async () => {
    await get("config.json");
    server.repos.clear();
    expect((await failure(open())).code).toBe("ERR_HUB_REPO_NOT_FOUND");
  });
});

describe("defaultCacheDirectory", () => {
  it("follows the variables of Hugging Face's libraries", () => {
    const home = process.env.HF_HOME!;
    expect(mp.hub.defaultCacheDirectory()).toBe(path.join(home, "hub"));
    vi.stubEnv("HF_HOME", undefined);
    vi.stubEnv("XDG_CACHE_HOME", "/xdg");
    expect(mp.hub.defaultCacheDirectory()).toBe("/xdg/huggingface/hub");
    vi.stubEnv("XDG_CACHE_HOME", undefined);
    vi.stubEnv("HOME", "/me");
    expect(mp.hub.defaultCacheDirectory()).toBe("/me/.cache/huggingface/hub");
    vi.stubEnv("HF_HUB_CACHE", "~/models");
    expect(mp.hub.defaultCacheDirectory()).toBe("/me/models");
  });
});
