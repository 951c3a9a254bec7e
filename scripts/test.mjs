#!/usr/bin/env node
// Runs every test this machine can run: the native ones, then vitest's. Ends with one line that sums
// both up. Arguments go to vitest (`npm test -- -t softmax`). With --package it runs only those of
// test/package, which pack the package and install it from the registry. With --emulated it builds the
// emulated CUDA backend and runs its native tests, and vitest's with it as the default device.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildNative, buildTypeScript, emulatedBuild } from "./build.mjs";
import { runNativeTests } from "./test-native.mjs";
import { addUp, closingLine, countVitest, recordResults, vitestReport } from "./test-results.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** Runs vitest and keeps its counts under the name `run`. */
function runVitest(run, args) {
  rmSync(vitestReport, { force: true });
  const manifest = createRequire(import.meta.url).resolve("vitest/package.json");
  const vitest = path.join(path.dirname(manifest), "vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${vitestReport}`];
  const command = [vitest, "run", ...reporters, ...args];
  const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: "inherit" });
  if (!existsSync(vitestReport)) throw new Error("vitest left no report");
  const counts = countVitest(JSON.parse(readFileSync(vitestReport, "utf8")));
  // An error outside any test, such as an unhandled rejection, fails the run, too.
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  recordResults(run, counts);
  return counts;
}

const packageTests = "test/package";

async function runTests(args) {
  if (args[0] === "--package") return runVitest("package", [packageTests, ...args.slice(1)]);
  if (args[0] === "--emulated") {
    const emulatedNative = await runNativeTests({ emulated: true });
    await buildNative(emulatedBuild);
    buildTypeScript();
    process.env.MIXPREC_TEST_DEVICE = "cuda-emulated";
    const exclude = ["--exclude", `${packageTests}/**`];
    return addUp([emulatedNative, runVitest("vitest-emulated", [...exclude, ...args.slice(1)])]);
  }
  const native = await runNativeTests();
  return addUp([native, runVitest("vitest", ["--exclude", `${packageTests}/**`, ...args])]);
}

try {
  const total = await runTests(process.argv.slice(2));
  console.log(closingLine(total));
  process.exitCode = total.failed > 0 ? 1 : 0;
} catch (error) {
  console.error(`test: ${error.message}`);
  process.exitCode = 1;
}
