#!/usr/bin/env node
// Runs clang-tidy over the native sources (.clang-tidy holds the checks). Slower than the rest of the
// lint, so a command of its own. Usage: node scripts/tidy.mjs [NAME...]   (NAME: part of a path)
import { execFile, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { buildNative } from "./build.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const filters = process.argv.slice(2);
const execute = promisify(execFile);

/** The project's own sources among those that CMake compiles. */
function sources() {
  const commands = JSON.parse(readFileSync(path.join(root, "build/compile_commands.json"), "utf8"));
  return commands
    .map(({ file }) => path.relative(root, file))
    .filter((file) => file.startsWith("native") && file.endsWith(".cc"))
    .filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
    .sort();
}

async function tidy(file) {
  try {
    await execute("clang-tidy", ["-p", "build", "--quiet", file], { cwd: root });
    return true;
  } catch (error) {
    console.log(`${file}:\n${error.stdout}`);
    return false;
  }
}

if (spawnSync("clang-tidy", ["--version"]).error) {
  console.log("tidy: skipped, clang-tidy is not installed");
} else {
  await buildNative();
  const queue = sources();
  let failed = 0;
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift())
      if (!(await tidy(file))) failed += 1;
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  console.log(`tidy: ${failed} files with findings`);
  process.exitCode = failed > 0 ? 1 : 0;
}
