// Text tables for the terminal, and the table of a comparison.

import type { Classification } from "./finetune/metrics.js";
import type { RunResult } from "./finetune/result.js";
import { printable } from "./terminal.js";

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

/** A terminal has room for this many columns, and patience for this many rows. */
const MOST_COLUMNS = 12;
const MOST_ROWS = 40;
const MOST_CHARACTERS = 16;

function shortName(name: string): string {
  // Names come from data files.
  const characters = [...printable(name.trim().replace(/\s+/g, " "))];
  if (characters.length <= MOST_CHARACTERS) return characters.join("");
  return `${characters.slice(0, MOST_CHARACTERS - 1).join("")}…`;
}

/** How each class was recognized, and for few classes what was taken for what. */
export function classificationTable({ classes, confusion }: Classification): string {
  const names = classes.map(({ name }) => shortName(name));
  const matrix = names.length <= MOST_COLUMNS;
  const columns: Column[] = [
    { title: "class" },
    { title: "precision (%)", align: "right" },
    { title: "recall (%)", align: "right" },
    { title: "F1 (%)", align: "right" },
    { title: "texts", align: "right" },
    ...(matrix ? names.map((name): Column => ({ title: `→ ${name}`, align: "right" })) : []),
  ];
  const rows = classes
    .slice(0, MOST_ROWS)
    .map(({ precision, recall, f1, support }, i) => [
      names[i]!,
      ...[precision, recall, f1].map(percent),
      String(support),
      ...(matrix ? confusion[i]!.map(String) : []),
    ]);
  const table = formatTable(columns, rows);
  const left = classes.length - rows.length;
  return left > 0 ? `${table}\n… and ${left} more classes` : table;
}
