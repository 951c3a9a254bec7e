#!/usr/bin/env node
// Builds what is measured, and runs bench/*.bench.mjs: each uses the built package, or executables of
// bench/native. Usage: node scripts/bench.mjs [NAME...] [-- ARGUMENT...]
//   NAME: part of a benchmark's name; the arguments go to each of them (`-- --save`).
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildNative, buildTypeScript } from "./build.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const given = process.argv.slice(2);
const end = given.indexOf("--");
const filters = end < 0 ? given : given.slice(0, end);
const passed = end < 0 ? [] : given.slice(end + 1);

function run(name, command, args) {
  console.log(`\n== ${name}`);
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) {
    console.error(`bench: ${name} failed`);
    process.exitCode = 1;
  }
}

try {
  const scripts = readdirSync(path.join(root, "bench"))
    .filter((file) => file.endsWith(".bench.mjs"))
    .filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
    .sort();
  if (scripts.length === 0) throw new Error("no benchmark has such a name");
  await buildNative({ target: "native_bench", defines: { MIXPREC_NATIVE_BENCH: "ON" } });
  await buildNative();
  buildTypeScript();
  for (const file of scripts) run(file, process.execPath, [path.join("bench", file), ...passed]);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
