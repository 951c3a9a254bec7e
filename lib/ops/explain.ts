// How a product would be run, and why: the backend's own choice, asked for without making it.

import { matmulPrecisionCode, context, withFloat32MatmulPrecision } from "../core/context.js";
import type { MatmulPrecision } from "../core/context.js";
import { checkDevice, deviceCode } from "../core/device.js";
import { checkOptions } from "../core/options.js";
import { Tensor } from "../core/tensor.js";
import { checkDType, type Device, type DType } from "../dtype.js";
import { ArgumentError, describe as describeValue, DTypeError, ShapeError } from "../errors.js";
import { explainNative, type DescribedTensor } from "../native.js";
import { OP } from "../op-names.js";
import { broadcastShapes, contiguousStrides, formatShape, type Shape } from "../shape.js";
import {
  explanation,
  nameOf,
  type Explanation,
  type KernelEstimate,
  type RejectedKernel,
} from "./explanation.js";

/** An operand: a tensor, or the shape of a dense one. */
export type OperandOrShape = Tensor | readonly number[];

/** Options of {@link explain}. */
export interface ExplainOptions {
  /** Of operands that are given by their shape; default: the other's, or the default dtype. */
  dtype?: DType | undefined;
  /** Default: that of the tensors, or the default device. */
  device?: Device | undefined;
  /** Of float32 products; default: the present one. */
  precision?: MatmulPrecision | undefined;
}

interface NativeKernel extends Omit<KernelEstimate, "tile"> {
  readonly tileRows: number;
  readonly tileCols: number;
  readonly depth: number;
}

interface NativeExplanation {
  readonly products: number;
  readonly first: {
    readonly M: number;
    readonly N: number;
    readonly K: number;
    readonly batch: number;
    // Of the CPU:
    readonly kernel?: string;
    readonly isa?: string;
    readonly threads?: number;
    readonly tileRows?: number;
    readonly tileCols?: number;
    // Of CUDA:
    readonly device?: string;
    readonly measured?: boolean;
    readonly peakFlops?: number;
    readonly ranked?: readonly NativeKernel[];
    readonly rejected?: readonly RejectedKernel[];
  };
}

function whyChosen(
  chosen: KernelEstimate,
  next: KernelEstimate | undefined,
  given: boolean,
): string {
  const { compute, memory, cache, extra } = chosen;
  const most = Math.max(compute, memory, cache);
  const parts: [number, string][] = [
    [compute, "multiplying"],
    [memory, "memory"],
    [cache, "the second-level cache"],
  ];
  const bound = extra > most ? "launches" : parts.find(([time]) => time === most)![1];
  const source = given ? "measured as the fastest" : "expected to be the fastest";
  const lead =
    next === undefined
      ? "the only kernel for it"
      : `${source}, ${(next.seconds / chosen.seconds).toFixed(2)} times as fast as ${nameOf(next)}`;
  return `${lead}; bound by ${bound}`;
}

const CPU_REASONS: Readonly<Record<string, string>> = {
  blocked: "panels of both operands are packed, so that any layout and shape runs at full speed",
  vector: "a row or column times a matrix, which is read once where it lies",
  integer: "whole numbers are summed modulo 2^64",
  none: "there is nothing to multiply",
};

function kernelOf({ tileRows, tileCols, depth, ...rest }: NativeKernel): KernelEstimate {
  return { ...rest, tile: [tileRows, tileCols, depth] };
}

/** What the backend said, as it is handed out. */
function understand(
  op: string,
  device: Device,
  dtype: DType,
  found: NativeExplanation | null,
): Explanation {
  const first = found?.first;
  const { M = 0, N = 0, K = 0, batch = 0 } = first ?? {};
  const asked = { op, device, dtype, size: { M, N, K, batch }, calls: found?.products ?? 0 };
  const [chosen, ...others] = (first?.ranked ?? []).map(kernelOf);
  if (chosen === undefined) {
    const { kernel = "none", isa = null, threads = null, tileRows, tileCols } = first ?? {};
    return explanation({
      ...asked,
      kernel,
      instructionSet: isa,
      threads,
      tile: tileRows === undefined || tileCols === undefined ? null : [tileRows, tileCols],
      splits: 1,
      waves: null,
      seconds: null,
      shareOfPeak: null,
      estimate: null,
      measured: false,
      why: CPU_REASONS[kernel]!,
      alternatives: [],
      rejected: [],
    });
  }
  const { seconds, splits, waves, tile } = chosen;
  const measured = first?.measured === true;
  return explanation({
    ...asked,
    kernel: chosen.family,
    instructionSet: null,
    threads: null,
    tile: tile[0] > 0 ? tile : null,
    splits,
    waves,
    seconds,
    shareOfPeak: (2 * M * N * K * batch) / seconds / first!.peakFlops!,
    estimate: chosen,
    measured,
    why: whyChosen(chosen, others[0], measured),
    alternatives: others,
    rejected: first?.rejected ?? [],
  });
}

/** An operand as the backend is told of it; `dtype` of a shape. */
function described(role: string, given: OperandOrShape, dtype: DType): DescribedTensor {
  if (given instanceof Tensor) {
    given.assertUsable("explain");
    const { handle, shape, strides } = given;
    return { handle: handle.id, dtype: given.dtype, shape, strides };
  }
  const isShape =
    Array.isArray(given) && given.every((extent) => Number.isSafeInteger(extent) && extent >= 0);
  if (!isShape) {
    throw new ArgumentError(
      `explain: expected ${role} to be a Tensor or a shape, got ${describeValue(given)}`,
      { op: "explain" },
    );
  }
  return { handle: -1, dtype, shape: given, strides: contiguousStrides(given) };
}

function asMatrix(operand: DescribedTensor, isLhs: boolean): DescribedTensor {
  const { shape, strides } = operand;
  if (shape.length > 1) return operand;
  if (shape.length === 0) {
    throw new ShapeError("explain: expected operands of at least one dimension", { op: "explain" });
  }
  const [extent] = shape as [number];
  const [stride] = strides as [number];
  return isLhs
    ? { ...operand, handle: -1, shape: [1, extent], strides: [extent * stride, stride] }
    : { ...operand, handle: -1, shape: [extent, 1], strides: [stride, 1] };
}

/**
 * Tells how a product would be run: which kernel in which tile, what time the model of the device
 * expects and what share of the device's best speed that is, what else could run it, and what
 * cannot and why. Nothing is computed. `lhs` and `rhs` are tensors (whose layout counts) or shapes;
 * `op` is `matmul`, or `linear`, whose `rhs` is a weight [outFeatures, inFeatures].
 *
 * ```ts
 * console.log(String(mp.explain("matmul", [4096, 4096], [4096, 11008], { dtype: "bfloat16" })));
 * ```
 * @throws ArgumentError for another operation or option, ShapeError where K differs, DTypeError
 * where the dtypes do.
 */
export function explain(
  op: "matmul" | "linear",
  lhs: OperandOrShape,
  rhs: OperandOrShape,
  options: ExplainOptions = {},
): Explanation {
  if (!["matmul", "linear"].includes(op)) {
    throw new ArgumentError(`explain: expected "matmul" or "linear", got ${describeValue(op)}`, {
      op: "explain",
    });
  }
  checkOptions("explain", options, ["dtype", "device", "precision"]);
  const { precision } = options;
  if (precision !== undefined) {
    return withFloat32MatmulPrecision(precision, () =>
      explain(op, lhs, rhs, { ...options, precision: undefined }),
    );
  }
  const tensor = [lhs, rhs].find((given) => given instanceof Tensor);
  const dtype =
    options.dtype === undefined
      ? (tensor?.dtype ?? context.defaultDtype)
      : checkDType(options.dtype, "explain");
  const device =
    options.device === undefined
      ? (tensor?.device ?? context.defaultDevice)
      : checkDevice(options.device, "explain");
  const isLinear = op === "linear";
  const left = asMatrix(described("lhs", lhs, dtype), true);
  const right = asMatrix(described("rhs", rhs, dtype), isLinear);
  if (left.dtype !== right.dtype || left.dtype === "bool") {
    throw new DTypeError(`explain: expected one number dtype, got ${left.dtype}, ${right.dtype}`, {
      op: "explain",
    });
  }
  const [rows, features] = right.shape.slice(-2) as [number, number];
  const [inner, columns] = isLinear ? [features, rows] : [rows, features];
  const K = left.shape[left.shape.length - 1]!;
  if (K !== inner || (isLinear && right.shape.length > 2)) {
    throw new ShapeError(
      `explain: shape mismatch, lhs ${formatShape(left.shape)}, rhs ${formatShape(right.shape)}: ` +
        `K is ${K} and ${inner}`,
      { op: "explain" },
    );
  }
  const flat = right.shape.length === 2;
  const lead = flat
    ? left.shape.slice(0, -1)
    : [
        ...broadcastShapes(left.shape.slice(0, -2), right.shape.slice(0, -2), "explain"),
        left.shape[left.shape.length - 2]!,
      ];
  const output: { dtype: DType; shape: Shape } = { dtype: left.dtype, shape: [...lead, columns] };
  const attrs = [matmulPrecisionCode(), 0, 0, isLinear ? 1 : 0, flat ? 1 : 0];
  const code = deviceCode(device);
  const text = explainNative("explain", OP.matmul, code, [left, right], output, attrs);
  return understand(op, device, left.dtype, JSON.parse(text) as NativeExplanation | null);
}
