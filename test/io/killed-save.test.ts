// A process that is killed while it saves, again and again, always leaves a whole file.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { compileLibrary } from "../helpers/compiled-lib.js";

let directory: string;
let library: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-killed-"));
  library = await compileLibrary(directory);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const COUNT = 6;
const SIZE = 2 ** 18;

/** Saves tensors full of 1, of 2, and so on from `first`, without end. */
function saveForever(file: string, first: number): ChildProcess {
  const script = `
    const mp = await import(${JSON.stringify(library)});
    for (let round = ${first}; ; round++) {
      const state = {};
      for (let i = 0; i < ${COUNT}; i++) state["w" + i] = mp.full([${SIZE}], round);
      const saved = mp.saveSafetensors(${JSON.stringify(file)}, state, {
        metadata: { round: String(round) },
      });
      if (round === ${first + 1}) process.stdout.write("saving\\n");
      await saved;
      for (const tensor of Object.values(state)) tensor.dispose();
    }`;
  return spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** The round whose save a file holds; fails where it holds less or more than one. */
async function roundOf(file: string): Promise<number> {
  const { metadata } = await mp.inspectSafetensors(file);
  const loaded = Object.values(await mp.loadSafetensors(file));
  expect(loaded).toHaveLength(COUNT);
  const round = Number(metadata.round);
  for (const tensor of loaded) {
    expect(mp.sum(mp.ne(tensor, round)).item()).toBe(0);
    tensor.dispose();
  }
  return round;
}

it("leaves the old file or the new one, whole, wherever the process is killed", async () => {
  const folder = await mkdtemp(path.join(directory, "saves-"));
  const file = path.join(folder, "model.safetensors");
  let round = 0;
  for (let kill = 0; kill < 6; kill++) {
    const child = saveForever(file, round + 1);
    await once(child.stdout!, "data");
    // Another moment of the save each time.
    const exited = once(child, "exit");
    await new Promise((resolve) => setTimeout(resolve, kill * 4));
    child.kill("SIGKILL");
    expect((await exited)[1]).toBe("SIGKILL");
    const found = await roundOf(file);
    expect(found).toBeGreaterThan(round);
    round = found;
  }
  // Saves were under way when the process ended: their temporary files are there.
  const left = (await readdir(folder)).filter((name) => name.endsWith(".tmp"));
  expect(left.length).toBeGreaterThan(0);
  await mp.saveSafetensors(file, {}, { metadata: { round: "last" } });
  expect((await mp.inspectSafetensors(file)).metadata).toEqual({ round: "last" });
}, 60_000);
