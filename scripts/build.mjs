#!/usr/bin/env node
// Builds the native code with CMake, driven by cmake-js, and the TypeScript where its sources are
// (the packed tarball ships dist/ and has none). Incremental: does nothing where nothing changed.
// Usage: node scripts/build.mjs [--native | --ts] [--clean] [--target T] [--out DIR]
//   [--define NAME=VALUE]...
// In the environment: MIXPREC_CUDA=auto|on|off|emulated chooses whether the CUDA backend is built,
// MIXPREC_WERROR=on makes warnings errors.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

/** The build whose CUDA backend runs on the CPU: for tests only, kept apart from what ships. */
export const emulatedBuild = { out: "build/emulated", defines: { MIXPREC_CUDA: "emulated" } };

/** Two builds in one directory would write the same objects, so the second waits for the first. */
async function withLock(directory, body) {
  mkdirSync(directory, { recursive: true });
  const file = path.join(directory, ".lock");
  for (let announced = false; ; announced = true) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    if (!ownerIsAlive(file)) {
      rmSync(file, { force: true });
      continue;
    }
    if (!announced) console.log(`build: waiting for another build in ${directory}`);
    await sleep(250);
  }
  try {
    return await body();
  } finally {
    rmSync(file, { force: true });
  }
}

function ownerIsAlive(file) {
  try {
    process.kill(Number(readFileSync(file, "utf8")), 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** A cache made for another directory or generator makes CMake fail: start afresh. */
function dropForeignCache(out, generator) {
  const file = path.join(out, "CMakeCache.txt");
  if (!existsSync(file)) return;
  const cache = readFileSync(file, "utf8");
  const entry = (name) => new RegExp(`^${name}:\\w+=(.*)$`, "m").exec(cache)?.[1];
  const home = entry("CMAKE_HOME_DIRECTORY");
  if (home === root && (!generator || entry("CMAKE_GENERATOR") === generator)) return;
  rmSync(file);
  rmSync(path.join(out, "CMakeFiles"), { recursive: true, force: true });
}

/** The generator that cmake-js is going to choose; undefined on Windows, where it looks further. */
function expectedGenerator() {
  if (process.platform === "win32") return undefined;
  return spawnSync("ninja", ["--version"]).status === 0 ? "Ninja" : "Unix Makefiles";
}

/**
 * @param {{ out?: string, target?: string, config?: string,
 *           defines?: Record<string, string> }} [options] `defines` are CMake cache entries
 */
export async function buildNative(options = {}) {
  const { out = "build", target = "mixprec", config = "Release", defines = {} } = options;
  const directory = path.resolve(root, out);
  const fromEnvironment = ["MIXPREC_CUDA", "MIXPREC_WERROR"]
    .filter((name) => process.env[name])
    .map((name) => [name, process.env[name]]);
  await withLock(directory, () => {
    dropForeignCache(directory, expectedGenerator());
    const common = ["--directory", root, "--out", directory, "--log-level", "warn"];
    common.push("--config", config, "--target", target);
    const cacheEntries = { ...Object.fromEntries(fromEnvironment), ...defines };
    const cache = Object.entries(cacheEntries).map(([name, value]) => `--CD${name}=${value}`);
    // Configuring again takes a fraction of a second and makes a changed option count.
    cmakeJs(["configure", ...common, ...cache]);
    cmakeJs(["build", ...common, "--parallel", String(availableParallelism())]);
  });
}

function cmakeJs(args) {
  const command = [require.resolve("cmake-js/bin/cmake-js"), ...args];
  const { status, error } = spawnSync(process.execPath, command, { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) throw new Error(`cmake-js ${args[0]} failed`);
}

export function buildTypeScript({ clean = false } = {}) {
  // tsc leaves what it made of sources that are gone; a package must not ship that.
  if (clean) rmSync(path.join(root, "dist"), { recursive: true, force: true });
  const tsc = require.resolve("typescript/bin/tsc");
  const { status } = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], {
    cwd: root,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error("the TypeScript sources do not compile");
}

async function main() {
  const { values } = parseArgs({
    options: {
      native: { type: "boolean" },
      ts: { type: "boolean" },
      clean: { type: "boolean" },
      target: { type: "string" },
      out: { type: "string" },
      define: { type: "string", multiple: true },
    },
  });
  const defines = Object.fromEntries((values.define ?? []).map((pair) => pair.split(/=(.*)/s)));
  if (!values.ts) await buildNative({ out: values.out, target: values.target, defines });
  const hasSources = existsSync(path.join(root, "tsconfig.build.json"));
  if (!values.native && hasSources) buildTypeScript({ clean: values.clean });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  main().catch((error) => {
    console.error(`build: ${error.message}`);
    process.exitCode = 1;
  });
}
