#!/usr/bin/env node
// What cuda_gemm_bench --json measured, summed up: geometric means of the ratios to cuBLASLt by kind
// and group of shapes, the worst rows, and a roofline chart beside the file.
// Usage: node bench/gemm-report.mjs FILE   (lines of JSON, or the JSON that gpu-check leaves)

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { printTable } from "./support/report.mjs";
import { roofline } from "./support/roofline.mjs";

/** The rows and the head of a benchmark's output. */
export function readRows(text) {
  let lines;
  try {
    const { parts } = JSON.parse(text);
    lines = parts.bench.results.find(({ name }) => name === "cuda_gemm_bench").measured;
  } catch {
    lines = text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  }
  const head = lines.find((line) => line.device !== undefined);
  const rows = lines.filter((line) => line.kind !== undefined);
  if (!head || rows.length === 0) throw new Error("there are no rows of cuda_gemm_bench in it");
  return { head, rows };
}

export function geometricMean(values) {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** By kind and group: how many rows, geometric mean and least of the ratio to the better cuBLASLt. */
export function summarize(rows) {
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.kind}, ${row.group}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return [...groups].map(([name, members]) => {
    // Where cuBLASLt could not make the product there is nothing to compare.
    const ratios = members.filter((row) => row.toBest > 0);
    const better = ratios.map((row) => Math.min(row.toFirst, row.toBest));
    return {
      name,
      rows: members.length,
      failed: members.filter((row) => row.failed).length,
      best: Math.max(...members.map((row) => row.TFLOPs)),
      mean: better.length > 0 ? geometricMean(better) : null,
      least: better.length > 0 ? Math.min(...better) : null,
    };
  });
}

/** Prints the summary of what {@link readRows} gives. */
export function printSummary({ head, rows }) {
  console.log(`${head.device}, ${head.rival}, copy ${head.copyGBs} GB/s\n`);
  const ratio = (value) => (value === null ? "-" : value.toFixed(3));
  printTable(
    ["kind, shapes", "rows", "wrong", "best TFLOP/s", "mean ratio", "least"],
    summarize(rows).map((group) => [
      group.name,
      String(group.rows),
      String(group.failed),
      group.best.toFixed(1),
      ratio(group.mean),
      ratio(group.least),
    ]),
  );
}

/** The roofline of what {@link readRows} gives, as SVG. */
export function chartOf({ head, rows }) {
  const series = [...new Set(rows.map((row) => row.kind))].map((kind) => {
    const points = rows.filter((row) => row.kind === kind);
    return { name: kind, peakTFLOPs: points[0].TFLOPs / points[0].peakShare, points };
  });
  const title = `Matrix products, ${head.device}`;
  return roofline({ title, bandwidthGBs: head.copyGBs, series });
}

function main(file) {
  const found = readRows(readFileSync(file, "utf8"));
  printSummary(found);
  const chart = file.replace(/\.[^.]*$/, "") + ".svg";
  writeFileSync(chart, chartOf(found));
  console.log(`\n${chart}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  if (process.argv.length !== 3) {
    console.error("usage: node bench/gemm-report.mjs FILE");
    process.exitCode = 1;
  } else {
    main(process.argv[2]);
  }
}
