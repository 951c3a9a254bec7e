#!/usr/bin/env node
// Builds test/native/*_test.cc, one executable each, and runs them: exit code 0 is a pass. With
// --sanitize under AddressSanitizer and UndefinedBehaviorSanitizer, with --emulated those of
// test/native/emulator, against the emulated CUDA backend; each in a build directory of its own.
// test/native/cuda/*_test.cu run emulated, and where nvcc has built the CUDA backend: without a GPU
// that only shows that they compile.
// Usage: node scripts/test-native.mjs [--sanitize | --emulated] [NAME...]   (NAME: part of a name)
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { buildNative, emulatedBuild } from "./build.mjs";
import { canCheckIsaSymbols, checkIsaSymbols } from "./check-isa-symbols.mjs";
import { closingLine, recordResults } from "./test-results.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const timeoutMs = 300_000;

const sanitizerEnvironment = {
  ASAN_OPTIONS: "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
};

/** Names of the tests in a folder of test/native, or in itself. */
function testNames(filters, folder = "") {
  const directory = path.join(root, "test/native", folder);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((file) => /_test\.(cc|cu)$/.test(file))
    .map((file) => file.replace(/\.c[cu]$/, ""))
    .filter((name) => filters.length === 0 || filters.some((part) => name.includes(part)))
    .sort();
}

/** Runs one test and says how it went; its output is shown where it failed. */
function report(name, run) {
  const start = performance.now();
  const { passed, output } = run();
  const ms = (performance.now() - start).toFixed(0);
  console.log(` ${passed ? "✓" : "✗"} native ${name} ${ms} ms`);
  if (!passed) console.log(output.replace(/^/gm, "   "));
  return passed;
}

function runExecutable(file, sanitize) {
  const { status, signal, error, stdout, stderr } = spawnSync(file, [], {
    encoding: "utf8",
    timeout: timeoutMs,
    maxBuffer: 1 << 26,
    env: { ...process.env, ...(sanitize ? sanitizerEnvironment : {}) },
  });
  const end = error ? error.message : signal ? `killed by ${signal}` : `exit code ${status}`;
  return { passed: status === 0, output: `${stdout ?? ""}${stderr ?? ""}${end}` };
}

/** @returns {Promise<import("./test-results.mjs").Counts>} */
export async function runNativeTests({ sanitize = false, emulated = false, filters = [] } = {}) {
  const out = sanitize ? "build/sanitize" : emulated ? emulatedBuild.out : "build";
  const defines = { MIXPREC_NATIVE_TESTS: "ON", ...(emulated ? emulatedBuild.defines : {}) };
  // The host side of the CUDA backend does nothing without a GPU; nvcc would take its time.
  if (sanitize)
    Object.assign(defines, { MIXPREC_SANITIZE: "address,undefined", MIXPREC_CUDA: "off" });
  await buildNative({ out, target: "native_tests", defines });
  const executable = (name) => path.join(root, out, "native_tests", name);
  const names = [
    ...testNames(filters, emulated ? "emulator" : ""),
    // Those of a build without CUDA do not exist.
    ...testNames(filters, "cuda").filter((name) => existsSync(executable(name))),
  ];
  const results = names.map((name) =>
    report(name, () => runExecutable(executable(name), sanitize)),
  );
  if (!sanitize && !emulated && filters.length === 0 && canCheckIsaSymbols())
    results.push(
      report("instruction sets stay apart", () => checkIsaSymbols(path.join(root, out))),
    );
  const passed = results.filter(Boolean).length;
  const counts = { passed, failed: results.length - passed, skipped: 0 };
  recordResults(sanitize ? "sanitize" : emulated ? "native-emulated" : "native", counts);
  return counts;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { values, positionals } = parseArgs({
    options: { sanitize: { type: "boolean" }, emulated: { type: "boolean" } },
    allowPositionals: true,
  });
  try {
    const counts = await runNativeTests({ ...values, filters: positionals });
    console.log(closingLine(counts));
    process.exitCode = counts.failed > 0 ? 1 : 0;
  } catch (error) {
    console.error(`test: ${error.message}`);
    process.exitCode = 1;
  }
}
