// What the tests of the hub share: a server, a cache of their own, no variables of whoever runs them.

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from "vitest";

import * as mp from "../../../lib/index.js";
import { commitOf, HubServer, type ServedRepo } from "../../helpers/hub-server.js";

export const BIG = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 251));
export const TINY: ServedRepo = {
  files: { "config.json": "{}\n", "model.safetensors": BIG, "onnx/a b.txt": "text" },
  large: ["model.safetensors"],
  revisions: ["v1", "refs/pr/3"],
};
export const COMMIT = commitOf(TINY);

export let server: HubServer;
export let cacheDir: string;
beforeAll(async () => {
  server = await HubServer.start();
});
afterAll(() => server.stop());
beforeEach(async () => {
  server.reset();
  server.repos.set("org/tiny", TINY);
  cacheDir = await mkdtemp(path.join(tmpdir(), "mixprec-hub-"));
  for (const name of Object.keys(process.env)) {
    if (/^(HF_|HUGGING_?FACE|TRANSFORMERS_|XDG_CACHE)/.test(name)) vi.stubEnv(name, undefined);
  }
  // No token file of whoever runs the tests.
  vi.stubEnv("HF_HOME", path.join(cacheDir, "home"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cacheDir, { recursive: true, force: true });
});

export const open = (name = "org/tiny", options: mp.HubOptions = {}): Promise<mp.hub.HubRepo> =>
  mp.hub.openRepo(name, {
    endpoint: server.endpoint,
    cacheDir,
    retryDelay: 0.001,
    ...options,
  });

export const get = async (file: string, options: mp.HubOptions = {}): Promise<string> =>
  (await open("org/tiny", options)).get(file);

export async function failure(promise: Promise<unknown>): Promise<mp.HubError> {
  const error: unknown = await promise.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(mp.HubError);
  return error as mp.HubError;
}

export const inRepo = (...parts: string[]): string =>
  path.join(cacheDir, "models--org--tiny", ...parts);
export const blobs = (): Promise<string[]> => readdir(inRepo("blobs")).catch(() => []);

/** All that a failed download may leave: nothing that has the name of a blob or a file. */
export async function expectNothingWhole(): Promise<void> {
  expect((await blobs()).filter((name) => !name.endsWith(".incomplete"))).toEqual([]);
  const snapshot = await readdir(inRepo("snapshots", COMMIT)).catch(() => []);
  expect(snapshot).toEqual([]);
}
