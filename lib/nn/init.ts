// Initializers, with torch's names and formulas. They write in place, are not recorded, and draw
// from the library's generator, so that a seed gives the same weights on every device.

import { checkOptions } from "../core/options.js";
import { context, noGrad } from "../core/context.js";
import { describe } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import { Tensor } from "../core/tensor.js";
import { isFloating } from "../dtype.js";
import { ArgumentError, describe as describeValue, DTypeError, ShapeError } from "../errors.js";
import { copyFrom, erf, eye as identity, fill, fromTypedArray, tensor } from "../ops/index.js";
import { normalInto, rand, randn, uniformInto } from "../ops/create.js";
import { formatShape, numelOf } from "../shape.js";
import { normalQuantile } from "./quantile.js";

function checkTensor(op: string, x: unknown): asserts x is Tensor {
  if (!(x instanceof Tensor)) {
    throw new ArgumentError(`${op}: expected a tensor, got ${typeof x}`, { op });
  }
  x.assertUsable(op);
}

function checkFloating(op: string, x: unknown): asserts x is Tensor {
  checkTensor(op, x);
  if (isFloating(x.dtype)) return;
  throw new DTypeError(`${op}: expected a floating-point tensor, got ${describe(x)}`, { op });
}

function checkNumbers(op: string, values: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (Number.isFinite(value)) continue;
    throw new ArgumentError(
      `${op}: ${name} — expected a finite number, got ${describeValue(value)}`,
      {
        op,
      },
    );
  }
}

function checkSpread(op: string, std: number): void {
  if (Number.isFinite(std) && std >= 0) return;
  throw new ArgumentError(`${op}: std — expected a number from 0 up, got ${String(std)}`, { op });
}

function writeUniform<T extends Tensor>(x: T, low: number, high: number): T {
  if (context.initialize) uniformInto(x, low, high);
  return x;
}

function writeNormal<T extends Tensor>(x: T, mean: number, std: number): T {
  if (context.initialize) normalInto(x, mean, std);
  return x;
}

/** Settings as an object, or its values in the order of `names`, as torch takes them. */
type Settings<O> = [settings?: O] | [first: number, ...others: number[]];

function settingsOf<O extends object>(
  op: string,
  given: Settings<O>,
  names: readonly (keyof O & string)[],
): O {
  const [first] = given;
  if (typeof first !== "number") {
    checkOptions(op, first ?? {}, names);
    return first ?? ({} as O);
  }
  if (given.length > names.length) {
    throw new ArgumentError(`${op}: expected ${names.join(", ")}, got ${given.length} numbers`, {
      op,
    });
  }
  return Object.fromEntries(given.map((value, i) => [names[i]!, value])) as O;
}

/** Draws uniformly from `[a, b)`, by default [0, 1): `uniform(x, { a, b })`, `uniform(x, a, b)`. */
export function uniform<T extends Tensor>(x: T, ...given: Settings<{ a?: number; b?: number }>): T {
  checkFloating("uniform", x);
  const { a = 0, b = 1 } = settingsOf("uniform", given, ["a", "b"]);
  checkNumbers("uniform", { a, b });
  if (a > b)
    throw new ArgumentError(`uniform: expected a <= b, got ${a} and ${b}`, { op: "uniform" });
  return writeUniform(x, a, b);
}

/**
 * Draws from a normal distribution, by default of mean 0 and standard deviation 1:
 * `normal(x, { mean, std })` or `normal(x, mean, std)`.
 */
export function normal<T extends Tensor>(
  x: T,
  ...given: Settings<{ mean?: number; std?: number }>
): T {
  checkFloating("normal", x);
  const { mean = 0, std = 1 } = settingsOf("normal", given, ["mean", "std"]);
  checkNumbers("normal", { mean });
  checkSpread("normal", std);
  return writeNormal(x, mean, std);
}

/** Options of {@link truncNormal}. */
export interface TruncNormalOptions {
  /** Default 0. */
  mean?: number;
  /** Of the normal distribution before it is cut; default 1. */
  std?: number;
  /** Lowest value; default -2. */
  a?: number;
  /** Highest value; default 2. */
  b?: number;
}

/** Draws from a normal distribution cut to `[a, b]`; mean, std, a, b as options or in order. */
export function truncNormal<T extends Tensor>(x: T, ...given: Settings<TruncNormalOptions>): T {
  const op = "truncNormal";
  checkFloating(op, x);
  const { mean = 0, std = 1, a = -2, b = 2 } = settingsOf(op, given, ["mean", "std", "a", "b"]);
  checkNumbers(op, { mean, a, b });
  checkSpread(op, std);
  if (a > b) throw new ArgumentError(`${op}: expected a <= b, got ${a} and ${b}`, { op });
  if (std === 0) return constant(x, Math.min(b, Math.max(a, mean)));
  const cdf = (at: number): number => {
    const t = tensor((at - mean) / (std * Math.SQRT2), { dtype: "float64" });
    return (1 + erf(t).item()) / 2;
  };
  return noGrad(() =>
    tidy(() => {
      const [low, high] = [cdf(a), cdf(b)];
      const drawn = rand([x.numel], { dtype: "float64" }).dataSync() as Float64Array;
      const values = drawn.map((u) => {
        const z = normalQuantile(low + u * (high - low));
        return Math.min(b, Math.max(a, mean + std * z));
      });
      writeValues(x, values, x.shape);
      return x;
    }),
  );
}

function writeValues(x: Tensor, values: Float64Array, shape: readonly number[]): void {
  copyFrom(x, fromTypedArray(values, shape, { dtype: x.dtype, device: x.device }));
}

/** Writes one value everywhere. */
export function constant<T extends Tensor>(x: T, value: number): T {
  checkTensor("constant", x);
  noGrad(() => fill(x, value));
  return x;
}

/** Writes zeros. */
export function zeros<T extends Tensor>(x: T): T {
  return constant(x, 0);
}

/** Writes ones. */
export function ones<T extends Tensor>(x: T): T {
  return constant(x, 1);
}

function checkMatrix(op: string, x: Tensor, atLeast: boolean): void {
  if (atLeast ? x.shape.length >= 2 : x.shape.length === 2) return;
  const expected = atLeast ? "at least 2 dimensions" : "2 dimensions";
  throw new ShapeError(`${op}: expected ${expected}, got ${formatShape(x.shape)}`, { op });
}

/** Writes the identity matrix; entries outside the square are 0. */
export function eye<T extends Tensor>(x: T): T {
  checkTensor("eye", x);
  checkMatrix("eye", x, false);
  const [rows, cols] = x.shape as [number, number];
  noGrad(() =>
    tidy(() => {
      fill(x, 0);
      const square = Math.min(rows, cols);
      const corner = x.narrow(0, 0, square).narrow(1, 0, square);
      copyFrom(corner, identity(square, { dtype: x.dtype, device: x.device }));
    }),
  );
  return x;
}

/** Inputs and outputs of one unit; kernels of convolutions count every position. */
function fans(op: string, x: Tensor): { fanIn: number; fanOut: number } {
  checkMatrix(op, x, true);
  const field = numelOf(x.shape.slice(2));
  return { fanIn: x.shape[1]! * field, fanOut: x.shape[0]! * field };
}

/** What {@link calculateGain} knows. */
export type Nonlinearity = "linear" | "conv2d" | "sigmoid" | "tanh" | "relu" | "leakyRelu" | "selu";

/**
 * The recommended factor of the standard deviation before a nonlinearity; `param` is the negative
 * slope of leakyRelu, by default 0.01.
 * @throws ArgumentError for a nonlinearity it does not know.
 */
export function calculateGain(nonlinearity: Nonlinearity, param = 0.01): number {
  switch (nonlinearity) {
    case "linear":
    case "conv2d":
    case "sigmoid":
      return 1;
    case "tanh":
      return 5 / 3;
    case "relu":
      return Math.SQRT2;
    case "leakyRelu":
      checkNumbers("calculateGain", { param });
      return Math.sqrt(2 / (1 + param * param));
    case "selu":
      return 3 / 4;
    default:
      throw new ArgumentError(
        `calculateGain: unknown nonlinearity ${describeValue(nonlinearity)} — expected linear, ` +
          `conv2d, sigmoid, tanh, relu, leakyRelu or selu`,
        { op: "calculateGain" },
      );
  }
}

function xavierStd(op: string, x: Tensor, gain: number): number {
  checkFloating(op, x);
  checkNumbers(op, { gain });
  const { fanIn, fanOut } = fans(op, x);
  return gain * Math.sqrt(2 / (fanIn + fanOut));
}

/** Uniform with a variance that suits both directions (Glorot and Bengio, 2010). */
export function xavierUniform<T extends Tensor>(x: T, ...given: Settings<{ gain?: number }>): T {
  const { gain = 1 } = settingsOf("xavierUniform", given, ["gain"]);
  const bound = Math.sqrt(3) * xavierStd("xavierUniform", x, gain);
  return x.numel === 0 ? x : writeUniform(x, -bound, bound);
}

/** Normal with a variance that suits both directions (Glorot and Bengio, 2010). */
export function xavierNormal<T extends Tensor>(x: T, ...given: Settings<{ gain?: number }>): T {
  const { gain = 1 } = settingsOf("xavierNormal", given, ["gain"]);
  const std = xavierStd("xavierNormal", x, gain);
  return x.numel === 0 ? x : writeNormal(x, 0, std);
}

/** Options of {@link kaimingUniform} and {@link kaimingNormal}. */
export interface KaimingOptions {
  /** Negative slope of the rectifier that follows, used with leakyRelu; default 0. */
  a?: number;
  /** `fanIn` (default) keeps the variance in the forward pass, `fanOut` in the backward pass. */
  mode?: "fanIn" | "fanOut";
  /** Default leakyRelu. */
  nonlinearity?: Nonlinearity;
}

function kaimingStd(op: string, x: Tensor, options: KaimingOptions): number {
  checkFloating(op, x);
  checkOptions(op, options, ["a", "mode", "nonlinearity"]);
  const { a = 0, mode = "fanIn", nonlinearity = "leakyRelu" } = options;
  const fan = fans(op, x)[mode] as number | undefined;
  if (fan === undefined) {
    throw new ArgumentError(`${op}: mode — expected fanIn or fanOut, got ${JSON.stringify(mode)}`, {
      op,
    });
  }
  return calculateGain(nonlinearity, a) / Math.sqrt(fan);
}

/** Uniform with a variance that suits a rectifier (He et al., 2015). */
export function kaimingUniform<T extends Tensor>(x: T, options: KaimingOptions = {}): T {
  const bound = Math.sqrt(3) * kaimingStd("kaimingUniform", x, options);
  return x.numel === 0 ? x : writeUniform(x, -bound, bound);
}

/** Normal with a variance that suits a rectifier (He et al., 2015). */
export function kaimingNormal<T extends Tensor>(x: T, options: KaimingOptions = {}): T {
  const std = kaimingStd("kaimingNormal", x, options);
  return x.numel === 0 ? x : writeNormal(x, 0, std);
}

/** Makes the vectors (each of `length`) of `flat` orthonormal, one after the other. */
function orthonormalize(flat: Float64Array, count: number, length: number): void {
  const vector = (i: number): Float64Array => flat.subarray(i * length, (i + 1) * length);
  for (let i = 0; i < count; i++) {
    const v = vector(i);
    // Once removes most of the other directions, twice what rounding left of them.
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const u = vector(j);
        let dot = 0;
        for (let k = 0; k < length; k++) dot += u[k]! * v[k]!;
        for (let k = 0; k < length; k++) v[k] = v[k]! - dot * u[k]!;
      }
    }
    const norm = Math.sqrt(v.reduce((sum, value) => sum + value * value, 0));
    for (let k = 0; k < length; k++) v[k] = v[k]! / norm;
  }
}

/**
 * A random matrix with orthonormal rows or columns, whichever are fewer, times `gain` (Saxe et al.,
 * 2013); dimensions after the first count as columns.
 */
export function orthogonal<T extends Tensor>(x: T, ...given: Settings<{ gain?: number }>): T {
  const op = "orthogonal";
  checkFloating(op, x);
  checkMatrix(op, x, true);
  const { gain = 1 } = settingsOf("orthogonal", given, ["gain"]);
  checkNumbers(op, { gain });
  if (x.numel === 0) return x;
  const rows = x.shape[0]!;
  const cols = x.numel / rows;
  const [count, length] = [Math.min(rows, cols), Math.max(rows, cols)];
  noGrad(() =>
    tidy(() => {
      const flat = randn([count, length], { dtype: "float64" }).dataSync() as Float64Array;
      orthonormalize(flat, count, length);
      const scaled = fromTypedArray(flat, [count, length]).mul(gain);
      const matrix = rows > cols ? scaled.transpose(0, 1) : scaled;
      copyFrom(x, matrix.reshape(x.shape).to({ dtype: x.dtype, device: x.device }));
    }),
  );
  return x;
}
