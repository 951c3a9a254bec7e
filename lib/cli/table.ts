// Text tables for the terminal, and the table of a comparison.

import type { RunResult } from "./finetune/result.js";

/** One column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers stand to the right; default: to the left. */
  readonly align?: "left" | "right";
}

/** Columns padded to the widest cell, under a line of titles. */
export function formatTable(columns: readonly Column[], rows: readonly string[][]): string {
  const widths = columns.map(({ title }, i) =>
    rows.reduce((most, row) => Math.max(most, [...(row[i] ?? "")].length), [...title].length),
  );
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, i) => {
        const cell = cells[i] ?? "";
        const space = " ".repeat(widths[i]! - [...cell].length);
        return align === "right" ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "─".repeat(width)).join("  ");
  return [line(columns.map(({ title }) => title)), rule, ...rows.map(line)].join("\n");
}

const percent = (share: number): string => (100 * share).toFixed(1);

/** Time, memory and accuracy of runs; the first is what the others are compared with. */
export function comparisonTable(results: readonly RunResult[]): string {
  const columns: Column[] = [
    { title: "precision" },
    { title: "time (s)", align: "right" },
    { title: "samples/s", align: "right" },
    { title: "speed-up", align: "right" },
    { title: "peak memory (MB)", align: "right" },
    { title: "memory", align: "right" },
    { title: "test accuracy (%)", align: "right" },
    { title: "" },
  ];
  const base = results[0];
  const rows = results.map((run) => [
    run.name,
    run.seconds.toFixed(1),
    run.samplesPerSecond.toFixed(0),
    // A run that broke off early was not faster.
    base === undefined || run.diverged !== null
      ? "–"
      : `${(run.samplesPerSecond / base.samplesPerSecond).toFixed(2)}×`,
    (run.peakMemoryBytes / 1e6).toFixed(1),
    base === undefined ? "–" : `${(run.peakMemoryBytes / base.peakMemoryBytes).toFixed(2)}×`,
    run.testAccuracy === null ? "–" : percent(run.testAccuracy),
    run.diverged === null ? "" : `diverged at step ${run.diverged.step}`,
  ]);
  return formatTable(columns, rows);
}
