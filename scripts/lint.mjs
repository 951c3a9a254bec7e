#!/usr/bin/env node
// All static checks, each to its end: formatting, lint rules, types, floors. With --fix it formats
// and applies the fixes that eslint knows, instead of complaining.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const fix = process.argv.includes("--fix");
// Releases of clang-format break lines differently; this is the one that .clang-format was made for.
const clangFormatVersion = 14;

/** The script behind a package's command, so that no shell has to find it. */
function binOf(packageName, command = packageName) {
  const manifestPath = require.resolve(`${packageName}/package.json`);
  const { bin } = require(manifestPath);
  return path.join(path.dirname(manifestPath), typeof bin === "string" ? bin : bin[command]);
}

function run(label, command, args) {
  console.log(`lint: ${label}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error) console.error(error.message);
  return status === 0;
}

const node = (label, args) => run(label, process.execPath, args);

function findClangFormat() {
  const names = [`clang-format-${clangFormatVersion}`, "clang-format"];
  return names.find((name) => {
    const { stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
    return new RegExp(`version ${clangFormatVersion}\\.`).test(stdout ?? "");
  });
}

function nativeSources() {
  return ["native", "test/native", "bench/native"]
    .filter((folder) => existsSync(path.join(root, folder)))
    .flatMap((folder) =>
      readdirSync(path.join(root, folder), { recursive: true }).map((name) =>
        path.join(folder, name),
      ),
    )
    .filter((file) => /\.(h|cc|cu|cuh)$/.test(file));
}

function clangFormat() {
  const command = findClangFormat();
  if (!command) {
    console.log(`lint: clang-format skipped: version ${clangFormatVersion} is not installed`);
    return true;
  }
  const files = nativeSources();
  if (files.length === 0) return true;
  return run("clang-format", command, [...(fix ? ["-i"] : ["--dry-run", "-Werror"]), ...files]);
}

const checks = {
  prettier: () =>
    node("prettier", [binOf("prettier"), fix ? "--write" : "--check", "--log-level=warn", "."]),
  eslint: () => node("eslint", [binOf("eslint"), ...(fix ? ["--fix"] : []), "."]),
  "clang-format": clangFormat,
  types: () => node("types", [binOf("typescript", "tsc"), "--noEmit", "-p", "tsconfig.json"]),
  floors: () => node("floors", ["scripts/check-floors.mjs"]),
};

const failed = Object.entries(checks)
  .filter(([name]) => !fix || ["prettier", "eslint", "clang-format"].includes(name))
  .filter(([, check]) => !check())
  .map(([name]) => name);
console.log(failed.length > 0 ? `lint: failed: ${failed.join(", ")}` : "lint: all checks passed");
process.exitCode = failed.length > 0 ? 1 : 0;
