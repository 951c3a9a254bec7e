// What the benchmarks share: medians, the machine and versions that a figure belongs to, and saving.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of pairwise quotients: of steps that took turns, so that slow moments cancel. */
export function medianRatio(values, others) {
  return median(values.map((value, i) => value / others[i]));
}

/** The commit, with `+` where files differ from it; null outside a repository. */
function commit() {
  const git = (...args) =>
    execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no").trim() !== "";
    return git("rev-parse", "--short=10", "HEAD").trim() + (changed ? "+" : "");
  } catch {
    return null;
  }
}

/** Where and of what a figure was measured. */
export function environment() {
  const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    mixprec: version,
    node: process.versions.node,
    system: `${process.platform} ${release()} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    loadAverage: loadavg()[0],
  };
}

/** Where results are kept. */
export const resultsDirectory = path.join(root, "bench/results");

/** Writes a benchmark's figures, with the machine, to bench/results/NAME.json. */
export function save(name, figures) {
  mkdirSync(resultsDirectory, { recursive: true });
  const file = path.join(resultsDirectory, `${name}.json`);
  writeFileSync(file, `${JSON.stringify({ environment: environment(), ...figures }, null, 2)}\n`);
  console.log(`saved ${path.relative(process.cwd(), file)}`);
}

/** Rows of cells under titles; all columns but the first stand to the right. */
export function printTable(titles, rows) {
  const widths = titles.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => row[i].length)),
  );
  for (const row of [titles, ...rows]) {
    const cells = row.map((cell, i) =>
      i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]),
    );
    console.log(cells.join("  ").trimEnd());
  }
}
