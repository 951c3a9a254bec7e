// Two-dimensional convolution: patches as columns (unfold), times the kernels as a matrix.

import { getFloat32MatmulPrecision, noGrad, withFloat32MatmulPrecision } from "../core/context.js";
import { defineOp, describe, run } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating, isHalfWidth, type DType } from "../dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { formatShape, type Shape } from "../shape.js";
import { add } from "./binary.js";
import { sumTo } from "./broadcast.js";
import { to } from "./cast.js";
import { checkOptions, checkTensor } from "./checks.js";
import { batchedProduct } from "./matmul.js";
import { reshape, squeeze, unsqueeze } from "./movement.js";
import { sum } from "./reduce.js";

/** A number for both, or [height, width]. */
export type Pair = number | readonly [number, number];

/** Options of {@link conv2d}. */
export interface Conv2dOptions {
  /** Distance between neighbouring windows. Default: 1. */
  stride?: Pair | undefined;
  /** Zeros around the input. `valid` is 0, `same` keeps the size (for a stride of 1). Default: 0. */
  padding?: Pair | "valid" | "same" | undefined;
  /** Distance between neighbouring elements of a window. Default: 1. */
  dilation?: Pair | undefined;
  /** Input and output channels fall into so many groups, convolved on their own. Default: 1. */
  groups?: number | undefined;
}

/** Kernel, stride, padding, dilation, each as height and width: attributes of unfold and fold. */
type Window = readonly number[];

const OP = "conv2d";

function unfold(x: Tensor, window: Window, positions: number): Tensor {
  const [batch, channels] = x.shape as [number, number];
  const shape = [batch, channels * window[0]! * window[1]!, positions];
  const y = run(OP, "unfold", [x], x.dtype, shape, window);
  const from = x.shape;
  record(OP, [x], [y], [], ([g]) => [fold(g!, window, from)]);
  return y;
}

function fold(columns: Tensor, window: Window, shape: Shape): Tensor {
  const y = run(OP, "fold", [columns], columns.dtype, shape, window);
  const positions = columns.shape[2]!;
  record(OP, [columns], [y], [], ([g]) => [unfold(g!, window, positions)]);
  return y;
}

function pairOf(value: Pair, role: string, least: number): [number, number] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value, value];
  const fits =
    list.length === 2 && list.every((item) => Number.isSafeInteger(item) && Number(item) >= least);
  if (fits) return [list[0] as number, list[1] as number];
  throw new ArgumentError(
    `${OP}: ${role} — expected a whole number from ${least} up, or two of them, got ` +
      JSON.stringify(value),
    { op: OP },
  );
}

interface Geometry {
  readonly window: Window;
  readonly groups: number;
  readonly height: number;
  readonly width: number;
}

function checkOperands(x: Tensor, weight: Tensor, bias: Tensor | null, groups: number): void {
  const operands = `input ${describe(x)}, weight ${describe(weight)}`;
  if (x.shape.length !== 4 || weight.shape.length !== 4) {
    throw new ShapeError(
      `${OP}: expected input [N, C, H, W] or [C, H, W] and weight [O, C / groups, kh, kw], got ` +
        operands,
      { op: OP },
    );
  }
  if (!isFloating(x.dtype) || weight.dtype !== x.dtype || (bias && bias.dtype !== x.dtype)) {
    throw new DTypeError(
      `${OP}: expected one floating dtype, got ${operands}` +
        (bias ? `, bias ${describe(bias)}` : ""),
      { op: OP },
    );
  }
  const [outChannels, inChannels] = weight.shape as [number, number];
  if (!Number.isSafeInteger(groups) || groups < 1 || outChannels % groups !== 0) {
    throw new ArgumentError(
      `${OP}: groups — expected a divisor of the ${outChannels} output channels, got ` +
        String(groups),
      { op: OP },
    );
  }
  if (x.shape[1] !== inChannels * groups) {
    throw new ShapeError(
      `${OP}: the input has ${x.shape[1]} channels, the weight takes ${inChannels} in each of ` +
        `${groups} groups: ${operands}`,
      { op: OP },
    );
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== outChannels)) {
    throw new ShapeError(
      `${OP}: expected a bias of shape [${outChannels}], got ${describe(bias)} with ${operands}`,
      { op: OP },
    );
  }
}

/** Padding that keeps the size: half of what the window reaches beyond its place, on either side. */
function samePadding(
  reach: readonly [number, number],
  stride: readonly [number, number],
): [number, number] {
  if (stride[0] !== 1 || stride[1] !== 1 || reach[0] % 2 !== 0 || reach[1] % 2 !== 0) {
    throw new ArgumentError(
      `${OP}: padding "same" takes a stride of 1 and kernels of odd height and width; give the ` +
        `padding in numbers`,
      { op: OP },
    );
  }
  return [reach[0] / 2, reach[1] / 2];
}

function geometryOf(x: Tensor, weight: Tensor, options: Conv2dOptions): Geometry {
  const [kh, kw] = [weight.shape[2]!, weight.shape[3]!];
  const stride = pairOf(options.stride ?? 1, "stride", 1);
  const dilation = pairOf(options.dilation ?? 1, "dilation", 1);
  const reach: [number, number] = [dilation[0] * (kh - 1), dilation[1] * (kw - 1)];
  const given = options.padding ?? 0;
  let padding: [number, number];
  if (given === "same") padding = samePadding(reach, stride);
  else padding = given === "valid" ? [0, 0] : pairOf(given, "padding", 0);
  const [height, width] = [0, 1].map(
    (i) => Math.floor((x.shape[i + 2]! + 2 * padding[i]! - reach[i]! - 1) / stride[i]!) + 1,
  ) as [number, number];
  if (kh === 0 || kw === 0 || height < 1 || width < 1) {
    throw new ShapeError(
      `${OP}: the window does not fit, input ${formatShape(x.shape)}, weight ` +
        `${formatShape(weight.shape)}, padding [${padding.join(", ")}], dilation ` +
        `[${dilation.join(", ")}]`,
      { op: OP },
    );
  }
  const window = [kh, kw, ...stride, ...padding, ...dilation];
  return { window, groups: options.groups ?? 1, height, width };
}

/** Columns [N, G, C/G * kh * kw, L] of an input [N, C, H, W]. */
function columnsOf(x: Tensor, { window, groups, height, width }: Geometry): Tensor {
  const columns = unfold(x, window, height * width);
  const [batch, rows, positions] = columns.shape as [number, number, number];
  return reshape(columns, [batch, groups, rows / groups, positions]);
}

/** Kernels [G, O/G, C/G * kh * kw] of a weight [O, C/G, kh, kw]. */
function kernelsOf(weight: Tensor, groups: number): Tensor {
  const [outChannels, inChannels, kh, kw] = weight.shape as [number, number, number, number];
  return reshape(weight, [groups, outChannels / groups, inChannels * kh * kw]);
}

/** The dtype of sums that are not rounded yet. */
const wideOf = (x: Tensor): DType => (isHalfWidth(x.dtype) ? "float32" : x.dtype);

function forward(x: Tensor, weight: Tensor, bias: Tensor | null, geometry: Geometry): Tensor {
  const { groups, height, width } = geometry;
  const outChannels = weight.shape[0]!;
  const columns = columnsOf(x, geometry);
  const kernels = kernelsOf(weight, groups);
  const dtype = bias ? wideOf(x) : x.dtype;
  const products = batchedProduct(OP, kernels, columns, { dtype });
  const y = reshape(products, [x.shape[0]!, outChannels, height, width]);
  if (!bias) return y;
  return to(add(y, reshape(bias, [outChannels, 1, 1])), x.dtype);
}

/** Gradients of input and weight, out of operations that can be differentiated again. */
function backward(
  g: Tensor,
  x: Tensor,
  weight: Tensor,
  geometry: Geometry,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const { window, groups, height, width } = geometry;
  const [batch, channels] = x.shape as [number, number];
  const positions = height * width;
  const dtype = wideOf(x);
  const grouped = reshape(g, [batch, groups, weight.shape[0]! / groups, positions]);
  let gradX: Tensor | null = null;
  let gradWeight: Tensor | null = null;
  if (needs[0] === true) {
    const options = { dtype, lhsTransposed: true };
    const columns = batchedProduct(OP, kernelsOf(weight, groups), grouped, options);
    const rows = channels * window[0]! * window[1]!;
    gradX = fold(reshape(columns, [batch, rows, positions]), window, x.shape);
  }
  if (needs[1] === true) {
    const options = { dtype, rhsTransposed: true };
    const each = batchedProduct(OP, grouped, columnsOf(x, geometry), options);
    gradWeight = reshape(sumTo(each, each.shape.slice(1)), weight.shape);
  }
  return [gradX, gradWeight];
}

// The columns, which hold every element once for each window it is in, are made again in backward.
function unrecorded(x: Tensor, weight: Tensor, bias: Tensor | null, geometry: Geometry): Tensor {
  return tidy(() => noGrad(() => forward(x, weight, bias, geometry)));
}

function convolve(x: Tensor, weight: Tensor, bias: Tensor | null, geometry: Geometry): Tensor {
  const y = unrecorded(x, weight, bias, geometry);
  const precision = getFloat32MatmulPrecision();
  record(OP, [x, weight, bias], [y], [x, weight], ([g], [input, kernels], needs) => [
    ...withFloat32MatmulPrecision(precision, () => backward(g!, input!, kernels!, geometry, needs)),
    needs[2] === true ? sum(g!, { dim: [0, 2, 3] }) : null,
  ]);
  return y;
}

/**
 * Cross-correlation, as torch's `conv2d`, of `x` [N, C, H, W] (or [C, H, W]) with `weight`
 * [O, C / groups, kh, kw], plus `bias` [O], all of one floating dtype: [N, O, H', W'] with
 * `H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1`. 16-bit floats accumulate in
 * float32 and round once; float32 follows `setFloat32MatmulPrecision`. Autocast runs it in its
 * dtype.
 * @throws ShapeError where shapes do not fit, DTypeError where dtypes differ, ArgumentError for
 * options out of range.
 */
export const conv2d: (
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options?: Conv2dOptions,
) => Tensor = defineOp(
  OP,
  (x: Tensor, weight: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor => {
    checkTensor(x, OP);
    checkTensor(weight, OP, "weight");
    if (bias !== null) checkTensor(bias, OP, "bias");
    checkOptions(OP, options, ["stride", "padding", "dilation", "groups"]);
    if (x.shape.length === 3) {
      return tidy(() => squeeze(conv2d(unsqueeze(x, 0), weight, bias, options), 0));
    }
    checkOperands(x, weight, bias, options.groups ?? 1);
    return convolve(x, weight, bias, geometryOf(x, weight, options));
  },
);
