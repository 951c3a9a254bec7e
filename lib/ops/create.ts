// Tensors from data, from constants and from the random generator.

import { context, drawRandom } from "../core/context.js";
import { checkDevice, deviceCode } from "../core/device.js";
import { runCreate, runInPlace } from "../core/dispatch.js";
import { checkOptions, isOptions } from "../core/options.js";
import { gradOps } from "../core/tape.js";
import { Tensor } from "../core/tensor.js";
import {
  checkDType,
  isFloating,
  itemSize,
  type Device,
  type DType,
  type TypedArray,
} from "../dtype.js";
import { ArgumentError, describe, DTypeError, ShapeError } from "../errors.js";
import { fromBytesNative } from "../native.js";
import { checkShape, formatShape, MAX_RANK, numelOf, type Shape } from "../shape.js";
import { to } from "./cast.js";

/** Nested lists of numbers or booleans. */
export type NestedArray = number | boolean | bigint | readonly NestedArray[];

/** What a new tensor is made as. */
export interface CreateOptions {
  /** Default: what the data suggests, the default dtype (float32) for numbers. */
  dtype?: DType;
  /** Default: `cpu`. */
  device?: Device;
  /** Default: false. */
  requiresGrad?: boolean;
}

interface Resolved {
  readonly dtype: DType;
  readonly device: Device;
  readonly requiresGrad: boolean;
}

const OPTIONS = ["dtype", "device", "requiresGrad"];

function resolve(
  op: string,
  options: CreateOptions,
  fallback: DType = context.defaultDtype,
): Resolved {
  checkOptions(op, options, OPTIONS);
  return {
    dtype: options.dtype === undefined ? fallback : checkDType(options.dtype, op),
    device: options.device === undefined ? context.defaultDevice : checkDevice(options.device, op),
    requiresGrad: options.requiresGrad ?? false,
  };
}

function finish(tensor: Tensor, { requiresGrad }: Resolved): Tensor {
  if (requiresGrad) tensor.requiresGrad = true;
  return tensor;
}

const ARRAY_DTYPES: readonly (readonly [new (length: number) => TypedArray, DType])[] = [
  [Float64Array, "float64"],
  [Float32Array, "float32"],
  [BigInt64Array, "int64"],
  [Int32Array, "int32"],
  [Int8Array, "int8"],
  [Uint8Array, "uint8"],
];

function dtypeOfArray(array: TypedArray, op: string): DType {
  for (const [ArrayClass, dtype] of ARRAY_DTYPES) if (array instanceof ArrayClass) return dtype;
  throw new DTypeError(
    `${op}: expected Float64Array, Float32Array, BigInt64Array, Int32Array, Int8Array, Uint8Array, ` +
      `or Uint16Array with dtype float16 or bfloat16 (raw bits), got ${array.constructor.name}`,
    { op },
  );
}

/**
 * A tensor of `shape` with the elements of a typed array, row-major, in the array's dtype or cast
 * to `dtype`. A Uint16Array holds raw bits and needs `dtype` float16 or bfloat16; a Uint8Array may
 * hold `bool`.
 * @throws ShapeError when the array's length is not the shape's product.
 */
export function fromTypedArray(
  array: TypedArray,
  shape: Shape,
  options: CreateOptions = {},
): Tensor {
  const op = "fromTypedArray";
  if (!ArrayBuffer.isView(array) || array instanceof DataView) {
    throw new DTypeError(`${op}: expected a typed array, got ${typeof array}`, { op });
  }
  checkShape(shape, op);
  checkOptions(op, options, OPTIONS);
  const raw = array instanceof Uint16Array;
  if (raw && options.dtype !== "float16" && options.dtype !== "bfloat16") {
    throw new DTypeError(
      `${op}: a Uint16Array holds raw 16-bit floats — expected dtype float16 or bfloat16, got ` +
        String(options.dtype),
      { op },
    );
  }
  let own = raw ? options.dtype! : dtypeOfArray(array, op);
  if (own === "uint8" && options.dtype === "bool" && array.every((byte) => Number(byte) <= 1)) {
    own = "bool";
  }
  const resolved = resolve(op, options, own);
  if (array.length !== numelOf(shape)) {
    throw new ShapeError(
      `${op}: shape ${formatShape(shape)} has ${numelOf(shape)} elements, the array has ` +
        String(array.length),
      { op },
    );
  }
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const handle = fromBytesNative(bytes, deviceCode(resolved.device), own, shape);
  const made = new Tensor(handle, [...shape], null, own, resolved.device);
  if (own === resolved.dtype) return finish(made, resolved);
  const converted = to(made, resolved.dtype);
  made.dispose();
  return finish(converted, resolved);
}

/** A tensor over raw little-endian bytes, as checkpoints hold them. */
export function fromBytes(bytes: Uint8Array, shape: Shape, options: CreateOptions = {}): Tensor {
  const op = "fromBytes";
  if (!((bytes as unknown) instanceof Uint8Array)) {
    throw new DTypeError(`${op}: expected a Uint8Array, got ${describe(bytes)}`, { op });
  }
  checkShape(shape, op);
  const resolved = resolve(op, options);
  const expected = numelOf(shape) * itemSize(resolved.dtype);
  if (bytes.byteLength !== expected) {
    throw new ShapeError(
      `${op}: shape ${formatShape(shape)} of ${resolved.dtype} takes ${expected} bytes, got ` +
        String(bytes.byteLength),
      { op },
    );
  }
  const handle = fromBytesNative(bytes, deviceCode(resolved.device), resolved.dtype, shape);
  return finish(new Tensor(handle, [...shape], null, resolved.dtype, resolved.device), resolved);
}

function nestedShape(data: NestedArray): number[] {
  const shape: number[] = [];
  let level: NestedArray = data;
  while (Array.isArray(level)) {
    shape.push(level.length);
    if (shape.length > MAX_RANK) {
      throw new ShapeError(`tensor: data is nested deeper than ${MAX_RANK} levels`, {
        op: "tensor",
      });
    }
    if (level.length === 0) break;
    level = level[0] as NestedArray;
  }
  return shape;
}

function flatten(data: NestedArray, shape: Shape): (number | boolean | bigint)[] {
  const flat: (number | boolean | bigint)[] = [];
  const visit = (item: NestedArray, depth: number): void => {
    if (depth === shape.length) {
      if (typeof item === "number" || typeof item === "boolean" || typeof item === "bigint") {
        flat.push(item);
        return;
      }
      if (Array.isArray(item)) {
        throw new ShapeError(`tensor: expected numbers at depth ${depth}, got a deeper list`, {
          op: "tensor",
        });
      }
      throw new DTypeError(`tensor: expected numbers at depth ${depth}, got ${describe(item)}`, {
        op: "tensor",
      });
    }
    if (!Array.isArray(item) || item.length !== shape[depth]) {
      const got = Array.isArray(item) ? `one of ${item.length}` : typeof item;
      throw new ShapeError(
        `tensor: data is ragged — expected a list of ${shape[depth]} at depth ${depth}, got ${got}`,
        { op: "tensor" },
      );
    }
    for (const inner of item) visit(inner as NestedArray, depth + 1);
  };
  visit(data, 0);
  return flat;
}

function dtypeOfValues(values: readonly (number | boolean | bigint)[]): DType {
  if (values.length > 0 && values.every((value) => typeof value === "boolean")) return "bool";
  if (values.length > 0 && values.every((value) => typeof value === "bigint")) return "int64";
  return context.defaultDtype;
}

/**
 * A tensor from a number, nested arrays or a typed array (then one-dimensional). Numbers make
 * the default dtype (float32), booleans bool, bigints int64, unless `dtype` says otherwise.
 * @throws ShapeError for ragged data, DTypeError for what is neither number nor list, ArgumentError
 * for numbers that do not fit in an integer dtype.
 */
export function tensor(data: NestedArray | TypedArray, options: CreateOptions = {}): Tensor {
  if (ArrayBuffer.isView(data)) {
    const array = data;
    return fromTypedArray(array, [array.length], options);
  }
  if (data instanceof Tensor) {
    throw new DTypeError("tensor: got a Tensor; use clone(), detach() or to()", { op: "tensor" });
  }
  const nested = data;
  const shape = nestedShape(nested);
  const values = flatten(nested, shape);
  const resolved = resolve("tensor", options, dtypeOfValues(values));
  for (const value of values) checkFits("tensor", value, resolved.dtype);
  // Numbers are float64; whole ones beyond 2^53 come as bigint.
  const exact = resolved.dtype === "int64";
  const array = exact
    ? BigInt64Array.from(values, (value) => toBigInt(value))
    : Float64Array.from(values, Number);
  return fromTypedArray(array, shape, { ...options, dtype: resolved.dtype });
}

function toBigInt(value: number | boolean | bigint): bigint {
  return BigInt(typeof value === "number" ? Math.trunc(value) : value);
}

/** The whole numbers that an integer dtype holds: from the first to before the second. */
const INTEGER_RANGES: Partial<Record<DType, readonly [low: number, high: number]>> = {
  int64: [-(2 ** 63), 2 ** 63],
  int32: [-(2 ** 31), 2 ** 31],
  int8: [-128, 128],
  uint8: [0, 256],
};

/** Throws ArgumentError for a number that an integer dtype does not hold; fractions are cut off. */
function checkFits(op: string, value: number | boolean | bigint, dtype: DType): void {
  const range = INTEGER_RANGES[dtype];
  if (range === undefined || typeof value === "boolean") return;
  const whole = typeof value === "number" ? Math.trunc(value) : value;
  if (whole >= range[0] && whole < range[1]) return;
  throw new ArgumentError(`${op}: ${String(value)} does not fit in ${dtype}`, { op });
}

/** A tensor whose elements are not set. */
export function empty(shape: Shape, options: CreateOptions = {}): Tensor {
  return filled("empty", shape, 0, options);
}

/** A tensor of zeros, of the default dtype (float32) unless `dtype` is given. */
export function zeros(shape: Shape, options: CreateOptions = {}): Tensor {
  return filled("zeros", shape, 0, options);
}

/** A tensor of ones, of the default dtype (float32) unless `dtype` is given. */
export function ones(shape: Shape, options: CreateOptions = {}): Tensor {
  return filled("ones", shape, 1, options);
}

/**
 * A tensor of one value: bool for a boolean, else of the default dtype (float32), unless `dtype` is
 * given.
 * @throws ArgumentError for a value that is neither number nor boolean.
 */
export function full(shape: Shape, value: number | boolean, options: CreateOptions = {}): Tensor {
  if (typeof value !== "number" && typeof value !== "boolean") {
    throw new ArgumentError(
      `full: value — expected a number or a boolean, got ${describe(value)}`,
      { op: "full" },
    );
  }
  return filled("full", shape, value, options);
}

function filled(op: string, shape: Shape, value: number | boolean, options: CreateOptions): Tensor {
  checkShape(shape, op);
  const natural = typeof value === "boolean" ? "bool" : context.defaultDtype;
  const resolved = resolve(op, options, natural);
  return finish(constant(op, [...shape], Number(value), resolved.dtype, resolved.device), resolved);
}

function constant(op: string, shape: Shape, value: number, dtype: DType, device: Device): Tensor {
  // arange with a step of 0 is a constant.
  return runCreate(op, "arange", device, dtype, shape, [value, 0]);
}

gradOps.full = (shape, value, dtype, device) => constant("backward", shape, value, dtype, device);

/**
 * `start, start + step, …` below (above for a negative step) `end`. `arange(end)` starts at 0, the
 * step is 1 where it is left out. int64 where all three are whole, else the default dtype
 * (float32).
 * @throws ArgumentError for a step of 0, one that leads away from `end`, or bounds that are not
 * finite.
 */
export function arange(end: number, options?: CreateOptions): Tensor;
export function arange(start: number, end: number, options?: CreateOptions): Tensor;
export function arange(start: number, end: number, step?: number, options?: CreateOptions): Tensor;
export function arange(
  first: number,
  ...rest: readonly (number | CreateOptions | undefined)[]
): Tensor {
  const numbers: unknown[] = [first, ...rest];
  const last = numbers.at(-1);
  const options: CreateOptions = isOptions(last) ? (numbers.pop() as CreateOptions) : {};
  while (numbers.length > 1 && numbers.at(-1) === undefined) numbers.pop();
  const [start, end, step = 1] = numbers.length === 1 ? [0, first] : (numbers as number[]);
  if (numbers.length > 3 || ![start, end, step].every(Number.isFinite) || step === 0) {
    throw new ArgumentError(
      `arange: expected finite bounds, a step other than 0 and options, got ` +
        [first, ...rest].map((given) => describe(given)).join(", "),
      { op: "arange" },
    );
  }
  const steps = (end! - start!) / step;
  if (steps < 0) {
    throw new ArgumentError(`arange: a step of ${step} does not lead from ${start!} to ${end!}`, {
      op: "arange",
    });
  }
  const whole = [start, end, step].every(Number.isInteger);
  const resolved = resolve("arange", options, whole ? "int64" : undefined);
  const shape = checkShape([Math.ceil(steps)], "arange");
  const { dtype, device } = resolved;
  return finish(runCreate("arange", "arange", device, dtype, shape, [start!, step]), resolved);
}

/** The identity matrix `[n, n]`. */
export function eye(n: number, options: CreateOptions = {}): Tensor {
  checkShape([n, n], "eye");
  const resolved = resolve("eye", options);
  const flat = new Float64Array(n * n);
  for (let i = 0; i < n; i++) flat[i * n + i] = 1;
  return fromTypedArray(flat, [n, n], { ...options, dtype: resolved.dtype });
}

function random(
  op: "rand" | "randn",
  native: "random_uniform" | "random_normal",
  shape: Shape,
  options: CreateOptions,
  low: number,
  high: number,
): Tensor {
  checkShape(shape, op);
  const resolved = resolve(op, options);
  if (!isFloating(resolved.dtype)) {
    throw new DTypeError(`${op}: expected a floating-point dtype, got ${resolved.dtype}`, { op });
  }
  const [seed, offset] = drawRandom(numelOf(shape) * 2);
  const attrs = [seed, offset, low, high];
  const { dtype, device } = resolved;
  return finish(runCreate(op, native, device, dtype, [...shape], attrs), resolved);
}

/** Uniform on `[0, 1)`: 24 random bits for float32 and below, 53 for float64. */
export function rand(shape: Shape, options: CreateOptions = {}): Tensor {
  return random("rand", "random_uniform", shape, options, 0, 1);
}

/** Standard normal. */
export function randn(shape: Shape, options: CreateOptions = {}): Tensor {
  return random("randn", "random_normal", shape, options, 0, 1);
}

/**
 * Whole numbers uniform on `[low, high)`, int64 unless `dtype` is given.
 * @throws ArgumentError unless low < high are safe whole numbers, of which an integer dtype holds
 * all.
 */
export function randint(
  low: number,
  high: number,
  shape: Shape,
  options: CreateOptions = {},
): Tensor {
  checkShape(shape, "randint");
  if (!Number.isSafeInteger(low) || !Number.isSafeInteger(high) || low >= high) {
    throw new ArgumentError(`randint: expected whole numbers low < high, got ${low}, ${high}`, {
      op: "randint",
    });
  }
  const resolved = resolve("randint", options, "int64");
  for (const bound of [low, high - 1]) checkFits("randint", bound, resolved.dtype);
  const [seed, offset] = drawRandom(numelOf(shape) * 2);
  const { dtype, device } = resolved;
  const attrs = [seed, offset, low, high];
  return finish(runCreate("randint", "random_int", device, dtype, [...shape], attrs), resolved);
}

/** Fills `destination` with uniform numbers on `[low, high)`. Not recorded. */
export function uniformInto(destination: Tensor, low: number, high: number): void {
  fillFrom(destination, "random_uniform", low, high);
}

/** Fills `destination` with normal numbers. Not recorded. */
export function normalInto(destination: Tensor, mean: number, std: number): void {
  fillFrom(destination, "random_normal", mean, std);
}

function fillFrom(
  destination: Tensor,
  native: "random_uniform" | "random_normal",
  a: number,
  b: number,
): void {
  const { shape, dtype, device } = destination;
  const [seed, offset] = drawRandom(destination.numel * 2);
  const values = runCreate("init", native, device, dtype, shape, [seed, offset, a, b]);
  runInPlace("init", "copy_into", [destination, values], [destination], []);
  values.dispose();
}
