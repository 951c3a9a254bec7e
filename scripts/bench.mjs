#!/usr/bin/env node
// Builds and runs the benchmarks: bench/native/*.cc and, where there is a CUDA backend, *.cu, one
// executable each, then bench/*.bench.mjs, which use the built package. Usage: node scripts/bench.mjs [NAME...]   (NAME: part of a name)
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildNative, buildTypeScript } from "./build.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const filters = process.argv.slice(2);

function find(folder, suffix) {
  const directory = path.join(root, folder);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((file) => file.endsWith(suffix))
    .filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
    .sort();
}

function run(name, command, args) {
  console.log(`\n== ${name}`);
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) {
    console.error(`bench: ${name} failed`);
    process.exitCode = 1;
  }
}

try {
  const native = [".cc", ".cu"].flatMap((suffix) =>
    find("bench/native", suffix).map((file) => file.slice(0, -suffix.length)),
  );
  const scripts = find("bench", ".bench.mjs");
  if (native.length + scripts.length === 0) throw new Error("no benchmark has such a name");
  if (native.length > 0)
    await buildNative({ target: "native_bench", defines: { MIXPREC_NATIVE_BENCH: "ON" } });
  if (scripts.length > 0) {
    await buildNative();
    buildTypeScript();
  }
  for (const name of native) {
    const file = path.join(root, "build/native_bench", name);
    if (existsSync(file)) run(name, file, []);
    else console.log(`\n== ${name}: left out, it needs the CUDA backend`);
  }
  for (const file of scripts) run(file, process.execPath, [path.join("bench", file)]);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
