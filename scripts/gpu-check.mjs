#!/usr/bin/env node
// All that a machine with a GPU should do, in under 8 minutes: the tests on the device, the native
// ones under compute-sanitizer where that is installed, and the benchmarks with the rivals that are
// there. Leaves one JSON of results. Without a GPU it says so and fails.
// Usage: node scripts/gpu-check.mjs [--only tests|sanitize|bench]... [--prebuilt] [--out FILE]
//   [--minutes N]
// Builds first where nvcc is; with --prebuilt, or without nvcc, it takes what a build has left
// (`node scripts/gpu-check.mjs --build`, on a machine with nvcc but no GPU, makes that).
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { clearTimeout, setTimeout } from "node:timers";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { buildNative, buildTypeScript } from "./build.mjs";
import { countVitest } from "./test-results.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const addon = path.join(root, "build/Release/mixprec.node");
const parts = ["tests", "sanitize", "bench"];

/** Columns of nvidia-smi; the clocks are read again after every part. */
const columns = {
  name: "name",
  driver: "driver_version",
  memoryMiB: "memory.total",
  powerLimitW: "power.limit",
  smClockMHz: "clocks.sm",
  smClockMaxMHz: "clocks.max.sm",
  memoryClockMHz: "clocks.mem",
  temperatureC: "temperature.gpu",
};
const clockColumns = ["smClockMHz", "memoryClockMHz", "temperatureC"];

/**
 * The first line of nvidia-smi's CSV, by column; numbers where they are numbers.
 * @param {string} csv
 */
export function parseSmi(csv) {
  const values = csv.trim().split("\n")[0]?.split(",") ?? [];
  if (values.length !== Object.keys(columns).length) return null;
  return Object.fromEntries(
    Object.keys(columns).map((key, i) => {
      const text = values[i].trim();
      return [key, /^-?\d+(\.\d+)?$/.test(text) && key !== "driver" ? Number(text) : text];
    }),
  );
}

/** The GPU as nvidia-smi knows it, or else as the addon does; null if there is none. */
function readDevice() {
  return askSmi() ?? askAddon();
}

function askAddon() {
  if (!existsSync(addon)) return null;
  const { build, devices } = createRequire(import.meta.url)(addon).cudaDevices();
  return build === "cuda" && devices.length > 0
    ? { name: devices[0].name, driver: "unknown" }
    : null;
}

function askSmi() {
  const query = [
    `--query-gpu=${Object.values(columns).join(",")}`,
    "--format=csv,noheader,nounits",
  ];
  const { status, stdout } = spawnSync("nvidia-smi", query, { encoding: "utf8" });
  return status === 0 ? parseSmi(stdout) : null;
}

function readClocks() {
  const device = askSmi();
  return device && Object.fromEntries(clockColumns.map((key) => [key, device[key]]));
}

/** What is checked out; the tree may have come without its history. */
function readCommit() {
  if (process.env.MIXPREC_COMMIT) return process.env.MIXPREC_COMMIT;
  const git = (...args) => spawnSync("git", args, { cwd: root, encoding: "utf8" });
  const head = git("rev-parse", "HEAD");
  if (head.status !== 0) return "unknown";
  return (
    head.stdout.trim() + (git("status", "--porcelain").stdout.trim() === "" ? "" : ", changed")
  );
}

/** A program that is on the path, or in CUDA's own folder. */
function findTool(name) {
  const folders = [
    ...(process.env.PATH ?? "").split(path.delimiter),
    path.join(process.env.CUDA_HOME ?? "/usr/local/cuda", "bin"),
  ];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
}

const end = { at: Infinity };

/**
 * Runs a command, showing what it prints; ends it when the time is up. `judge` says what is wrong
 * with the output of one that ended well.
 */
function run(name, command, args, { env = {}, quiet = false, judge = () => "" } = {}) {
  const start = performance.now();
  const left = end.at - start;
  if (left <= 0) {
    return Promise.resolve({ name, passed: false, problem: "no time was left", output: "" });
  }
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env } });
    let output = "";
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, left);
    const keep = (data) => {
      output += data;
      if (!quiet) process.stdout.write(data);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const finish = (passed, problem) => {
      clearTimeout(timer);
      const seconds = Number(((performance.now() - start) / 1000).toFixed(2));
      console.log(` ${passed ? "✓" : "✗"} ${name} ${seconds} s${problem ? `, ${problem}` : ""}`);
      if (!passed && quiet) console.log(output.slice(-4000));
      resolve({ name, passed, seconds, ...(problem ? { problem } : {}), output });
    };
    child.on("error", (error) => finish(false, error.message));
    child.on("close", (code, signal) => {
      if (late) finish(false, "the time was up");
      else if (code !== 0) finish(false, signal ? `ended by ${signal}` : `exit code ${code}`);
      else finish(judge(output) === "", judge(output));
    });
  });
}

/** The result without what was printed. */
function brief({ output: _, ...rest }) {
  return rest;
}

function executables(folder) {
  const directory = path.join(root, "build", folder);
  return existsSync(directory) ? readdirSync(directory).sort() : [];
}

/** Runs a native test, and names the cases that the device cannot run. */
async function runNative(name, command, args) {
  const judge = (output) => (output.includes("lacks sm_80") ? "found no device to run on" : "");
  const result = await run(name, command, args, { quiet: true, judge });
  const notRun = [...result.output.matchAll(/^not run, (.*)$/gm)].map((match) => match[1]);
  return { ...brief(result), ...(notRun.length > 0 ? { notRun } : {}) };
}

/** Native tests that launch kernels, by the names of their sources. */
function deviceTests() {
  const folder = path.join(root, "test/native/cuda");
  const names = readdirSync(folder).filter((file) => file.endsWith("_test.cu"));
  const built = executables("native_tests");
  return names.map((file) => file.slice(0, -".cu".length)).filter((name) => built.includes(name));
}

async function checkTests() {
  const results = [];
  for (const name of executables("native_tests")) {
    const file = path.join(root, "build/native_tests", name);
    results.push(await runNative(`native ${name}`, file, []));
  }
  const report = path.join(root, "build/gpu-check.vitest.json");
  rmSync(report, { force: true });
  const manifest = createRequire(import.meta.url).resolve("vitest/package.json");
  const vitest = path.join(path.dirname(manifest), "vitest.mjs");
  const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const result = await run(
    "vitest on cuda",
    process.execPath,
    [vitest, ...args, "--exclude", "test/package/**"],
    { env: { MIXPREC_TEST_DEVICE: "cuda", MIXPREC_ADDON: addon } },
  );
  const counts = existsSync(report) ? countVitest(JSON.parse(readFileSync(report, "utf8"))) : null;
  results.push({ ...brief(result), ...(counts ? { counts } : {}) });
  return results;
}

async function checkSanitizers() {
  const tool = findTool("compute-sanitizer");
  if (!tool) {
    console.log("gpu-check: compute-sanitizer is not installed, its part is left out");
    return [{ name: "compute-sanitizer", skipped: "not installed" }];
  }
  const results = [];
  for (const name of deviceTests()) {
    for (const check of ["memcheck", "racecheck"]) {
      const file = path.join(root, "build/native_tests", name);
      const args = ["--tool", check, "--error-exitcode", "9", file];
      results.push(await runNative(`${check} ${name}`, tool, args));
    }
  }
  return results;
}

/** Lines that are JSON, of what a benchmark printed. */
export function jsonLines(output) {
  return output.split("\n").flatMap((line) => {
    if (!line.startsWith("{")) return [];
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

async function checkBenchmarks() {
  const benchmark = async (name, command, args, env) => {
    const judge = (output) => (jsonLines(output).length > 0 ? "" : "measured nothing");
    const result = await run(name, command, args, { env, judge });
    return { ...brief(result), measured: jsonLines(result.output) };
  };
  const results = [];
  for (const name of executables("native_bench").filter((file) => file.startsWith("cuda_"))) {
    results.push(
      await benchmark(name, path.join(root, "build/native_bench", name), ["--json", "--quick"]),
    );
  }
  const own = ["bench/cuda.bench.mjs", "--json"];
  results.push(await benchmark("mixprec", process.execPath, own, { MIXPREC_ADDON: addon }));
  const python = findTool("python3");
  const probe = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)";
  if (python && spawnSync(python, ["-c", probe]).status === 0) {
    results.push(await benchmark("PyTorch", python, ["bench/rivals/pytorch_cuda.py"]));
  } else {
    console.log("gpu-check: PyTorch with CUDA is not installed, no rival was measured");
    results.push({ name: "PyTorch", skipped: "not installed" });
  }
  return results;
}

async function build() {
  const defines = { MIXPREC_CUDA: "on", MIXPREC_NATIVE_TESTS: "ON", MIXPREC_NATIVE_BENCH: "ON" };
  for (const target of ["mixprec", "native_tests", "native_bench"]) {
    await buildNative({ target, defines });
  }
  buildTypeScript();
}

async function main() {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      prebuilt: { type: "boolean" },
      build: { type: "boolean" },
      out: { type: "string", default: "build/gpu-check.json" },
      minutes: { type: "string", default: "8" },
    },
  });
  const wanted = values.only ?? parts;
  const unknown = wanted.find((part) => !parts.includes(part));
  if (unknown !== undefined) {
    throw new Error(`--only: expected ${parts.join(", ")}, got "${unknown}"`);
  }
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error(`--minutes: expected a number, got "${values.minutes}"`);
  if (values.build) return build();

  const device = readDevice();
  if (device === null) {
    throw new Error(
      "there is no NVIDIA GPU here, so nothing was checked; " +
        "`npm run test:emulated` tests the CUDA backend without one",
    );
  }
  console.log(`gpu-check: ${device.name}, driver ${device.driver}`);
  if (!values.prebuilt && findTool("nvcc")) await build();
  if (!existsSync(addon)) throw new Error(`${addon} is missing; build with --build first`);

  end.at = performance.now() + minutes * 60_000;
  const results = {
    date: new Date().toISOString(),
    commit: readCommit(),
    device,
    host: { cpu: os.cpus()[0]?.model, cores: os.availableParallelism(), node: process.version },
    parts: {},
  };
  const checks = { tests: checkTests, sanitize: checkSanitizers, bench: checkBenchmarks };
  for (const part of parts.filter((name) => wanted.includes(name))) {
    console.log(`\n== ${part}`);
    const clocksBefore = readClocks();
    const found = await checks[part]();
    results.parts[part] = { clocksBefore, clocksAfter: readClocks(), results: found };
  }
  const all = Object.values(results.parts).flatMap((part) => part.results);
  const failed = all.filter((result) => result.passed === false);
  results.passed = failed.length === 0;
  const out = path.resolve(root, values.out);
  mkdirSync(path.dirname(out), { recursive: true });
  writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
  console.log(`\ngpu-check: ${all.length - failed.length} of ${all.length} passed, ${out}`);
  if (!results.passed) throw new Error(`failed: ${failed.map(({ name }) => name).join(", ")}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  main().catch((error) => {
    console.error(`gpu-check: ${error.message}`);
    process.exitCode = 1;
  });
}
