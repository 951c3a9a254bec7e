// What is told of a kernel that was chosen, and how it reads.

import type { Device, DType } from "../dtype.js";

/** A kernel that could make the product, with the times that the model expects, in seconds. */
export interface KernelEstimate {
  readonly family: string;
  readonly variant: number;
  /** Rows, columns and depth; rows and columns are 0 for a kernel without tiles. */
  readonly tile: readonly [rows: number, columns: number, depth: number];
  readonly cluster: number;
  readonly splits: number;
  readonly swapped: boolean;
  readonly blocks: number;
  readonly waves: number;
  readonly seconds: number;
  readonly compute: number;
  readonly memory: number;
  readonly cache: number;
  readonly extra: number;
}

/** Kernels that cannot make the product; `variant` is -1 for a whole family. */
export interface RejectedKernel {
  readonly family: string;
  readonly variant: number;
  readonly reason: string;
}

function microseconds(seconds: number): string {
  const us = seconds * 1e6;
  return us >= 1000 ? `${(us / 1000).toPrecision(3)} ms` : `${us.toPrecision(3)} µs`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** What {@link explain} returns; `String(explanation)` is a text to read. */
export interface Explanation {
  readonly op: string;
  readonly device: Device;
  readonly dtype: DType;
  /** Of the products that the operation is made of, `batch` of them in a call of the kernel. */
  readonly size: { readonly M: number; readonly N: number; readonly K: number; batch: number };
  /** How many calls the operation makes. */
  readonly calls: number;
  /**
   * Family of the kernel: `wgmma_sm90`, `mma_sm80`, `gemv`, `simt`, on the CPU `blocked`, `vector`,
   * `integer`; `none` where there is nothing to compute.
   */
  readonly kernel: string;
  /** The instructions that it is made of, on the CPU; else null. */
  readonly instructionSet: string | null;
  /** Threads it may use, on the CPU; else null. */
  readonly threads: number | null;
  /** Rows and columns of the output that are made together, and on a GPU steps of K; or null. */
  readonly tile: readonly number[] | null;
  /** Shares of K that are summed apart. */
  readonly splits: number;
  /** Tiles by how many are made at a time; null on the CPU, as are the next three. */
  readonly waves: number | null;
  /** Expected time of a call. */
  readonly seconds: number | null;
  /** Of the device's best speed for such operands, from 0 to 1. */
  readonly shareOfPeak: number | null;
  /** All that the model expects. */
  readonly estimate: KernelEstimate | null;
  /** Whether the choice was measured (MIXPREC_GEMM_AUTOTUNE=1), and not the model's. */
  readonly measured: boolean;
  readonly why: string;
  /** The other kernels that could, the fastest first. */
  readonly alternatives: readonly KernelEstimate[];
  readonly rejected: readonly RejectedKernel[];
  toString: () => string;
}

function textOf(given: Explanation): string {
  const { M, N, K, batch } = given.size;
  const size = `${batch > 1 ? `${batch} x ` : ""}[${M}, ${K}] x [${K}, ${N}]`;
  const calls = given.calls > 1 ? `, ${given.calls} calls` : "";
  const lines = [
    `${given.op} ${size} of ${given.dtype} on ${given.device}: ${given.kernel}${calls}`,
  ];
  const line = (title: string, text: string): void => {
    lines.push(`  ${title.padEnd(14)}${text}`);
  };
  if (given.instructionSet !== null) {
    line("instructions", `${given.instructionSet}, up to ${given.threads} threads`);
  }
  if (given.tile !== null) line("tile", given.tile.join(" x "));
  if (given.estimate !== null) {
    const { splits, swapped, waves, blocks, seconds } = given.estimate;
    const ways = [
      `${blocks} blocks, ${waves.toPrecision(3)} waves`,
      splits > 1 ? `K in ${splits} shares` : "",
      swapped ? "operands swapped" : "",
    ];
    line("schedule", ways.filter((way) => way !== "").join(", "));
    line("expected", `${microseconds(seconds)}, ${percent(given.shareOfPeak ?? 0)} of peak`);
  }
  line("why", given.why);
  for (const other of given.alternatives) {
    line("slower", `${nameOf(other)}: ${microseconds(other.seconds)}`);
  }
  for (const { family, variant, reason } of given.rejected) {
    line("not possible", `${family}${variant < 0 ? "" : ` ${variant}`}: ${reason}`);
  }
  return lines.join("\n");
}

/** An explanation that shows itself as its text. */
export function explanation(facts: Omit<Explanation, "toString">): Explanation {
  const made: Explanation = { ...facts, toString: () => textOf(made) };
  const hidden = { value: made.toString, enumerable: false };
  Object.defineProperty(made, "toString", hidden);
  Object.defineProperty(made, Symbol.for("nodejs.util.inspect.custom"), hidden);
  return made;
}

/** A kernel in a few words. */
export function nameOf({ family, tile, splits }: KernelEstimate): string {
  const size = tile[0] > 0 ? ` ${tile.join(" x ")}` : "";
  return `${family}${size}${splits > 1 ? ` in ${splits} shares` : ""}`;
}
