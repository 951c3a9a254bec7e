import { lstat, mkdir, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { beforeEach, describe, expect, it, vi } from "vitest";

import * as mp from "../../../lib/index.js";
import { gitHash, sha256 } from "../../helpers/hub-server.js";
import {
  BIG,
  blobs,
  cacheDir,
  COMMIT,
  expectNothingWhole,
  failure,
  get,
  inRepo,
  open,
  server,
  TINY,
} from "./fixture.js";

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
