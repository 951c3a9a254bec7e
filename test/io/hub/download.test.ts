import { execFileSync } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";

import { describe, expect, it } from "vitest";

import { sha256 } from "../../helpers/hub-server.js";
import {
  BIG,
  blobs,
  cacheDir,
  expectNothingWhole,
  failure,
  get,
  inRepo,
  open,
  server,
  TINY,
} from "./fixture.js";

describe("what goes wrong on the way", () => {
  it("is tried again after 429 and 5xx, as long as the server asks", async () => {
    server.refuse(/GET \/api/, 2, 503);
    server.refuse(/HEAD/, 1, 429, { "retry-after": "0" });
    server.refuse(/^cdn GET/, 1, 500);
    await get("model.safetensors");
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
    const later = new Date(Date.now() + 3_600_000).toUTCString();
    const answers: Record<string, string>[] = [
      { ratelimit: '"api";r=0;t=3600' },
      { "retry-after": "3600" },
      { "retry-after": later },
    ];
    for (const headers of answers) {
      server.refuse(/GET \/api/, 1, 429, headers);
      const limited = await failure(open());
      expect(limited.code).toBe("ERR_HUB_RATE_LIMITED");
      expect(limited.message).toMatch(/set HF_TOKEN/);
    }
    expect(server.count(/GET \/api/)).toBe(6);
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
