// Matrix products by the native benchmarks of bench/native: on the CPU next to OpenBLAS and oneDNN,
// and where there is a GPU next to cuBLASLt, with a roofline chart.
// Usage: node bench/gemm.bench.mjs [--device cpu|cuda]... [--part NAME]... [--save]
//   PART: of gemm_bench or cuda_gemm_bench; --save: leave JSON, and the chart, in bench/results

import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { chartOf, printSummary, readRows } from "./gemm-report.mjs";
import { printTable, resultsDirectory, save } from "./support/report.mjs";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", multiple: true, default: ["cpu", "cuda"] },
    part: { type: "string", multiple: true, default: [] },
    save: { type: "boolean", default: false },
  },
});

/** What an executable prints, shown as it comes; null where it is not there. */
function measure(name) {
  const file = fileURLToPath(new URL(`../build/native_bench/${name}`, import.meta.url));
  if (!existsSync(file)) return null;
  const { status, stdout } = spawnSync(file, ["--json", ...options.part], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) process.exitCode = 1;
  return stdout;
}

function measureCpu() {
  const text = measure("gemm_bench");
  if (text === null)
    throw new Error("build/native_bench/gemm_bench is missing: npm run bench gemm");
  const [machine, ...rows] = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  console.log(`${machine.threads} threads, ${machine.instructions}, OpenBLAS: ${machine.openblas}`);
  for (const part of new Set(rows.map((row) => row.part))) {
    const members = rows.filter((row) => row.part === part);
    const titles = [...new Set(members.flatMap((row) => Object.keys(row)))].slice(2);
    console.log();
    printTable(
      [part, ...titles],
      members.map((row) => [row.name, ...titles.map((title) => String(row[title] ?? "-"))]),
    );
  }
  if (options.save) save("gemm-cpu", { machine, rows });
}

function measureCuda() {
  const text = measure("cuda_gemm_bench");
  if (text === null || !text.includes("{")) {
    console.log(`\ncuda: ${text === null ? "there is no CUDA backend" : text.trim()}`);
    return;
  }
  const found = readRows(text);
  console.log();
  printSummary(found);
  if (!options.save) return;
  save("gemm-cuda", found);
  const chart = path.join(resultsDirectory, "gemm-cuda.svg");
  writeFileSync(chart, chartOf(found));
  console.log(`saved ${path.relative(process.cwd(), chart)}`);
}

if (options.device.includes("cpu")) measureCpu();
if (options.device.includes("cuda")) measureCuda();
