// SVG charts of a comparison: bars of time, memory and accuracy, lines of the loss over steps.
// Colours are readable on light and on dark ground, which stays transparent. Text only, no scripts.

import type { RunResult } from "./finetune/result.js";

/** One bar; without a finite value there is only its note. */
export interface Bar {
  readonly label: string;
  readonly value: number | null;
  /** Stands instead of, or behind, the value. */
  readonly note?: string;
}

/** One group of bars on an axis of its own. */
export interface BarPanel {
  readonly title: string;
  readonly bars: readonly Bar[];
  readonly format: (value: number) => string;
  /** End of the axis; default: the largest value. */
  readonly max?: number;
}

/** One line; points that are not finite leave a gap. */
export interface LineSeries {
  readonly name: string;
  /** The value at step 1, 2, …. */
  readonly values: readonly number[];
  /** Marked with a × here. */
  readonly divergedAt?: number | null;
}

const COLORS = [
  "#4e79a7",
  "#f28e2b",
  "#59a14f",
  "#e15759",
  "#9c6bb3",
  "#9c755f",
  "#d37295",
  "#3fa7a0",
] as const;
const INK = "#808080";
const GRID = "#80808040";
const FONT = "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\"";

function escapeText(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return (
    text
      // Control characters are not allowed in XML at all.
      // eslint-disable-next-line no-control-regex
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, "\ufffd")
      .replace(/[&<>"]/g, (c) => entities[c]!)
  );
}

const coordinate = (value: number): string => String(Math.round(value * 100) / 100);

function textAt(x: number, y: number, text: string, attributes = ""): string {
  const place = `x="${coordinate(x)}" y="${coordinate(y)}"`;
  const all = [place, `fill="${INK}"`, attributes].join(" ").trimEnd();
  return `<text ${all}>${escapeText(text)}</text>`;
}

function rule(x1: number, y1: number, x2: number, y2: number): string {
  const [a, b, c, d] = [x1, y1, x2, y2].map(coordinate);
  return `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" stroke="${GRID}"/>`;
}

function document(width: number, height: number, title: string, body: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}" role="img" ${FONT} font-size="12">`,
    `<title>${escapeText(title)}</title>`,
    textAt(16, 26, title, 'font-size="16" font-weight="600"'),
    ...body,
    "</svg>\n",
  ].join("\n");
}

const labelWidth = (labels: readonly string[]): number =>
  labels.reduce((most, label) => Math.max(most, [...label].length), 0) * 6.8;

/** Panels of horizontal bars, one below the other, with the same labels in the same colours. */
export function barChart(title: string, panels: readonly BarPanel[]): string {
  const width = 760;
  const rowHeight = 22;
  const left = 28 + labelWidth(panels.flatMap(({ bars }) => bars.map(({ label }) => label)));
  const plot = Math.max(120, width - left - 150);
  const body: string[] = [];
  let y = 44;
  for (const { title: panelTitle, bars, format, max } of panels) {
    body.push(textAt(16, y + 14, panelTitle, 'font-weight="600"'));
    y += 24;
    const finite = bars.map(({ value }) => value ?? 0).filter((value) => Number.isFinite(value));
    const end = max ?? finite.reduce((most, value) => Math.max(most, value), 0);
    bars.forEach(({ label, value, note }, index) => {
      const middle = y + rowHeight / 2;
      body.push(textAt(left - 8, middle + 4, label, 'text-anchor="end"'));
      const known = value !== null && Number.isFinite(value);
      const share = known && end > 0 ? Math.min(1, Math.max(0, value / end)) : 0;
      if (known) {
        const color = COLORS[index % COLORS.length];
        body.push(
          `<rect x="${coordinate(left)}" y="${coordinate(y + 3)}" ` +
            `width="${coordinate(share * plot)}" height="${rowHeight - 6}" rx="2" ` +
            `fill="${color}"/>`,
        );
      }
      const words = [known ? format(value) : "", note ?? ""].filter((word) => word !== "");
      body.push(textAt(left + share * plot + 6, middle + 4, words.join(", ") || "–"));
      y += rowHeight;
    });
    body.push(rule(left, y - bars.length * rowHeight, left, y));
    y += 16;
  }
  return document(width, y, title, body);
}

/** Round numbers that divide a range into about `count` parts. */
function ticks(low: number, high: number, count: number): number[] {
  const span = high - low;
  if (!(span > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => span / size <= count)!;
  const first = Math.ceil(low / step);
  const last = Math.floor(high / step);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

interface Axis {
  readonly low: number;
  readonly high: number;
  readonly log: boolean;
  readonly ticks: readonly number[];
}

/** A logarithmic axis where values differ so much that a linear one would show one line only. */
function valueAxis(values: readonly number[]): Axis {
  const finite = values.filter((value) => Number.isFinite(value));
  let low = finite.reduce((least, value) => Math.min(least, value), Infinity);
  let high = finite.reduce((most, value) => Math.max(most, value), -Infinity);
  if (finite.length === 0) [low, high] = [0, 1];
  const sorted = [...finite].sort((a, b) => a - b);
  const median = sorted[sorted.length >> 1] ?? 0;
  if (low > 0 && high > 20 * median) {
    const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const skip = Math.max(1, Math.ceil((to - from) / 8));
    const powers = Array.from(
      { length: Math.floor((to - from) / skip) + 1 },
      (_, i) => from + i * skip,
    );
    return { low: from, high: to, log: true, ticks: powers.map((p) => 10 ** p) };
  }
  // A loss of 0 or less has no logarithm: cut off what is far above the rest instead.
  if (high > 20 * Math.abs(median) && median !== 0) high = 20 * Math.abs(median);
  // Zero is always on the axis; the bounds keep its length a normal number.
  low = Math.max(-1e300, Math.min(0, low));
  high = Math.min(1e300, Math.max(0, high));
  if (high - low < 1e-300) high = low + 1;
  return { low, high, log: false, ticks: ticks(low, high, 6) };
}

/** Lines over steps, with a legend; a run that diverged ends in a ×. */
export function lineChart(
  title: string,
  series: readonly LineSeries[],
  labels = { x: "step", y: "loss" },
): string {
  const width = 760;
  const plot = { left: 64, top: 48, width: 660, height: 300 };
  const bottom = plot.top + plot.height;
  const steps = series.reduce((most, { values }) => Math.max(most, values.length), 1);
  // A run that exploded would leave the others a flat line; its own runs along the top instead.
  const whole = series.filter(({ divergedAt }) => divergedAt == null);
  const axis = valueAxis((whole.length > 0 ? whole : series).flatMap(({ values }) => values));
  const xOf = (step: number): number =>
    plot.left + (steps === 1 ? 0.5 : (step - 1) / (steps - 1)) * plot.width;
  const yOf = (value: number): number => {
    const at = axis.log ? Math.log10(Math.max(0, value)) : value;
    const share = Math.min(1, Math.max(0, (at - axis.low) / (axis.high - axis.low)));
    return bottom - share * plot.height;
  };
  const body: string[] = [];
  for (const tick of axis.ticks) {
    const label =
      tick !== 0 && (Math.abs(tick) >= 1e5 || Math.abs(tick) < 1e-3)
        ? tick.toExponential(0)
        : String(Number(tick.toPrecision(6)));
    body.push(rule(plot.left, yOf(tick), plot.left + plot.width, yOf(tick)));
    body.push(textAt(plot.left - 8, yOf(tick) + 4, label, 'text-anchor="end"'));
  }
  for (const tick of ticks(1, steps, 8).filter((step) => Number.isInteger(step))) {
    body.push(textAt(xOf(tick), bottom + 18, String(tick), 'text-anchor="middle"'));
  }
  const yTitle = `${labels.y}${axis.log ? " (logarithmic)" : ""}`;
  body.push(textAt(plot.left + plot.width / 2, bottom + 36, labels.x, 'text-anchor="middle"'));
  const middle = plot.top + plot.height / 2;
  body.push(
    textAt(16, middle, yTitle, `text-anchor="middle" transform="rotate(-90 16 ${middle})"`),
  );
  series.forEach(({ values, divergedAt }, index) => {
    const color = COLORS[index % COLORS.length]!;
    let path = "";
    values.forEach((value, i) => {
      if (!Number.isFinite(value)) return;
      const move = i === 0 || !Number.isFinite(values[i - 1]) ? "M" : "L";
      path += `${move}${coordinate(xOf(i + 1))} ${coordinate(yOf(value))}`;
    });
    const line = 'fill="none" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round"';
    if (path !== "") body.push(`<path d="${path}" ${line} stroke="${color}"/>`);
    if (divergedAt != null) {
      const last = values.slice(0, divergedAt).findLast((value) => Number.isFinite(value));
      const [x, y] = [xOf(divergedAt), last === undefined ? plot.top : yOf(last)].map(coordinate);
      body.push(
        `<path d="M-6 -6L6 6M-6 6L6 -6" transform="translate(${x} ${y})" stroke="${color}" ` +
          `stroke-width="3"/>`,
      );
    }
  });
  let [x, y] = [plot.left, bottom + 62];
  series.forEach(({ name, divergedAt }, index) => {
    const text = divergedAt == null ? name : `${name} (× diverged at step ${divergedAt})`;
    const size = 34 + labelWidth([text]);
    if (x > plot.left && x + size > width - 16) [x, y] = [plot.left, y + 20];
    const color = COLORS[index % COLORS.length];
    body.push(`<rect x="${x}" y="${y - 9}" width="14" height="10" rx="2" fill="${color}"/>`);
    body.push(textAt(x + 20, y, text));
    x += size;
  });
  return document(width, y + 20, title, body);
}

/**
 * Means over the last `window` values, at the start over those there are. Where a value is not
 * finite, so is its mean.
 */
export function trailingMean(values: readonly number[], window: number): number[] {
  return values.map((value, i) => {
    if (!Number.isFinite(value)) return value;
    const last = values.slice(Math.max(0, i - window + 1), i + 1).filter((v) => Number.isFinite(v));
    return last.reduce((sum, v) => sum + v / last.length, 0);
  });
}

/** Noise of single batches hides the course of a long run. */
const smoothingWindow = (steps: number): number => Math.max(1, Math.round(steps / 25));

/** The charts of a comparison: file name to SVG. */
export function comparisonCharts(results: readonly RunResult[]): Record<string, string> {
  const bars = (value: (run: RunResult) => number | null): Bar[] =>
    results.map((run) => ({
      label: run.name,
      value: value(run),
      ...(run.diverged === null ? {} : { note: `diverged at step ${run.diverged.step}` }),
    }));
  const panels: BarPanel[] = [
    { title: "training time (s)", bars: bars((r) => r.seconds), format: (v) => v.toFixed(1) },
    {
      title: "peak memory (MB)",
      bars: bars((r) => r.peakMemoryBytes / 1e6),
      format: (v) => v.toFixed(1),
    },
    {
      title: "test accuracy (%)",
      bars: bars((r) => (r.testAccuracy === null ? null : 100 * r.testAccuracy)),
      format: (v) => v.toFixed(1),
      max: 100,
    },
  ];
  const steps = results.reduce((most, { losses }) => Math.max(most, losses.length), 0);
  const window = smoothingWindow(steps);
  const lines = results.map((run) => ({
    name: run.name,
    values: trailingMean(run.losses, window),
    divergedAt: run.diverged?.step ?? null,
  }));
  return {
    "comparison.svg": barChart("The same fine-tuning at each precision", panels),
    "loss.svg": lineChart(
      window === 1 ? "Training loss" : `Training loss, mean of ${window} steps`,
      lines,
    ),
  };
}
