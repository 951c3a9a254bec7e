// What counts of layers mean, in words: which layer left its number format first, and what to do.
// Pure.

import { finfo, type FloatDType } from "../dtype.js";
import type { PrecisionName } from "./precision.js";

/** How well a number format held what one layer computed. */
export interface TensorHealth {
  readonly dtype: FloatDType;
  /** Tensors that were looked at. */
  readonly tensors: number;
  readonly elements: number;
  /** The largest magnitude among finite elements. */
  readonly largest: number;
  /** Share of elements that are infinite or not a number. */
  readonly overflow: number;
  /**
   * Share of elements that are 0 in tensors where others are subnormal, that is below the format's
   * smallest normal number: there zeros come from rounding. Zeros of a ReLU or a mask do not count.
   */
  readonly underflow: number;
  /** Share of elements that are subnormal: on their way to 0, and held with fewer digits. */
  readonly subnormal: number;
  /** Share of elements that are 0, for whatever reason. */
  readonly zeros: number;
}

/** One layer; null where nothing was seen. */
export interface LayerHealth {
  /** Its path in the model; "" for the model itself. */
  readonly name: string;
  /** The name of its class. */
  readonly kind: string;
  /** Of what its forward pass gave. */
  readonly activations: TensorHealth | null;
  /** Of the gradients of that; with loss scaling they are scaled, as they are stored. */
  readonly gradients: TensorHealth | null;
}

/** What was found. */
export interface WatchReport {
  readonly precision: PrecisionName;
  /** In the order of the model. */
  readonly layers: readonly LayerHealth[];
  /** Where an infinity or NaN was seen first; null where there was none. */
  readonly firstOverflow: {
    readonly layer: string;
    readonly in: "activations" | "gradients";
  } | null;
  /** Sentences that say what is wrong and what to do, the most important first. */
  readonly findings: readonly string[];
}

/** Shares of gradients from which on underflow is worth a sentence. */
const UNDERFLOW = 0.01;
/** How near the largest number of its format, as a share of it, a magnitude is worth one. */
const NEAR = 1 / 8;
const MOST_NAMED = 3;

const percent = (share: number): string =>
  share === 0 || share >= 0.001 ? `${(100 * share).toFixed(1)} %` : "< 0.1 %";

/** `a`, `a and b` or `a, b, c and 4 more`. */
function named(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMED).map((name) => (name === "" ? "the model" : name));
  const more = names.length - shown.length;
  if (more > 0) return `${shown.join(", ")} and ${more} more`;
  return shown.length < 2
    ? shown.join("")
    : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)!}`;
}

/** How to compute one layer in float32; its weights are float32 in mixed precisions only. */
function orKeep(precision: PrecisionName): string {
  if (precision.endsWith("-true")) return "";
  return (
    ", or keep such a layer in float32: " +
    `autocast({ enabled: false }, () => layer.forward(x.to("float32")))`
  );
}

function mixedOf(precision: PrecisionName): string {
  return precision.endsWith("-true") ? "bf16-true or bf16-mixed" : "bf16-mixed";
}

function overflowFindings(
  precision: PrecisionName,
  layers: readonly LayerHealth[],
  first: WatchReport["firstOverflow"],
): string[] {
  if (first === null) return [];
  const place = first.layer === "" ? "the model" : first.layer;
  const health = layers.find(({ name }) => name === first.layer)![first.in]!;
  const what =
    `${first.in} of ${place} left ${health.dtype} first: ${percent(health.overflow)} are infinite ` +
    `or NaN, the largest finite one is ${health.largest.toExponential(1)} of at most ` +
    finfo(health.dtype).max.toExponential(1);
  if (health.dtype !== "float16") {
    return [
      `${what}. The range of ${health.dtype} is not the cause: lower the learning rate, clip ` +
        `gradients, look for a division by 0 or a logarithm of 0, and at the data`,
    ];
  }
  const advice =
    first.in === "activations"
      ? `Use ${mixedOf(precision)}, whose range is float32's${orKeep(precision)}. Loss scaling does ` +
        `not help`
      : precision === "16-mixed"
        ? `The loss scale was too large: the scaler leaves such a step out and lowers the scale by ` +
          `itself. Where that goes on, clip gradients or use bf16-mixed`
        : `Use ${mixedOf(precision)}, whose range is float32's`;
  return [`${what}. ${advice}`];
}

function underflowFinding(precision: PrecisionName, layers: readonly LayerHealth[]): string[] {
  const bad = layers
    .filter(({ gradients }) => gradients !== null && gradients.underflow >= UNDERFLOW)
    .sort((a, b) => b.gradients!.underflow - a.gradients!.underflow);
  if (bad.length === 0) return [];
  const { dtype, underflow } = bad[0]!.gradients!;
  const advice =
    precision === "16-mixed"
      ? `Raise the loss scale (scaler: { initScale }; it grows by itself while no step overflows) ` +
        `or use bf16-mixed`
      : `Scale the loss, as 16-mixed does, or use ${mixedOf(precision)}`;
  return [
    `up to ${percent(underflow)} of the gradients underflowed to 0 in ${dtype}, in ` +
      `${named(bad.map(({ name }) => name))}. ${advice}`,
  ];
}

/** Activations that float16 holds just about, or would not hold. */
function nearFinding(precision: PrecisionName, layers: readonly LayerHealth[]): string[] {
  const most = finfo("float16").max;
  const near = layers.filter(({ activations }) => {
    if (activations === null || activations.overflow > 0) return false;
    if (activations.dtype === "float16") return activations.largest > NEAR * most;
    return activations.largest > most;
  });
  if (near.length === 0) return [];
  const largest = Math.max(...near.map(({ activations }) => activations!.largest));
  const names = named(near.map(({ name }) => name));
  const size = `${largest.toExponential(1)}, float16 ends at ${most.toExponential(1)}`;
  return near[0]!.activations!.dtype === "float16"
    ? [
        `activations of ${names} are near overflow: ${size}. Use ` +
          mixedOf(precision) +
          orKeep(precision),
      ]
    : [`activations of ${names} would overflow in float16: ${size}. Stay with ${precision}`];
}

/** What is wrong and what to do; empty where nothing is. */
export function findingsOf(
  precision: PrecisionName,
  layers: readonly LayerHealth[],
  first: WatchReport["firstOverflow"],
): string[] {
  return [
    ...overflowFindings(precision, layers, first),
    ...underflowFinding(precision, layers),
    ...nearFinding(precision, layers),
  ];
}

function cells(health: TensorHealth | null): string[] {
  if (health === null) return ["–", "–", "–", "–"];
  const { dtype, largest, underflow, overflow } = health;
  return [dtype, largest.toExponential(1), percent(underflow), percent(overflow)];
}

/** A report as text: a table of the layers, then the findings. */
export function formatWatchReport({ precision, layers, findings }: WatchReport): string {
  const titles = ["largest", "to zero", "inf/nan"];
  const rows = [
    ["layer", "activations", ...titles, "gradients", ...titles],
    ...layers.map(({ name, kind, activations, gradients }) => [
      name === "" ? kind : name,
      ...cells(activations),
      ...cells(gradients),
    ]),
  ];
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
  const said =
    findings.length > 0
      ? findings.map((finding) => `- ${finding}.`)
      : [layers.length === 0 ? "Nothing was seen yet." : `No trouble found in ${precision}.`];
  return [...(layers.length > 0 ? [...lines, ""] : []), ...said].join("\n");
}
