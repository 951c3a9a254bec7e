// Reading elements out of tensors.

import type { Tensor } from "../core/tensor.js";
import { isHalfWidth, type DType, type TypedArray } from "../dtype.js";
import { ShapeError } from "../errors.js";
import { itemNative, toBytesAsyncNative, toBytesNative } from "../native.js";
import { formatShape, type Shape } from "../shape.js";
import { contiguous, to } from "./cast.js";
import { noGrad } from "../core/context.js";
import { checkTensor } from "./checks.js";

/** Nested lists of numbers, as deep as the tensor has dimensions. */
export type NestedNumbers = number | NestedNumbers[];

/**
 * The one element as a number; waits for the device. bool gives 0 or 1; int64 beyond 2^53 is
 * rounded.
 * @throws ShapeError unless there is exactly one element.
 */
export function item(x: Tensor): number {
  checkTensor(x, "item");
  x.assertUsable("item");
  if (x.numel !== 1) {
    throw new ShapeError(`item: expected one element, got shape ${formatShape(x.shape)}`, {
      op: "item",
    });
  }
  return itemNative(x.handle);
}

function denseBuffer(x: Tensor, op: string): ArrayBuffer {
  checkTensor(x, op);
  x.assertUsable(op);
  const dense = noGrad(() => contiguous(x));
  try {
    return toBytesNative(dense.handle);
  } finally {
    if (dense !== x) dense.dispose();
  }
}

/** The elements as raw little-endian bytes, row-major. */
export function bytes(x: Tensor): Uint8Array {
  return new Uint8Array(denseBuffer(x, "bytes"));
}

function typedArray(dtype: DType, buffer: ArrayBuffer): TypedArray {
  switch (dtype) {
    case "float64":
      return new Float64Array(buffer);
    case "float32":
      return new Float32Array(buffer);
    case "float16":
    case "bfloat16":
      return new Uint16Array(buffer);
    case "int64":
      return new BigInt64Array(buffer);
    case "int32":
      return new Int32Array(buffer);
    case "int8":
      return new Int8Array(buffer);
    case "uint8":
    case "bool":
      return new Uint8Array(buffer);
  }
}

/**
 * The elements, row-major, in the typed array of the dtype; 16-bit floats widen exactly to
 * Float32Array, bool is a Uint8Array of 0 and 1, int64 a BigInt64Array.
 */
export function dataSync(x: Tensor): TypedArray {
  checkTensor(x, "data");
  if (!isHalfWidth(x.dtype)) return typedArray(x.dtype, denseBuffer(x, "data"));
  const widened = noGrad(() => to(x, "float32"));
  try {
    return typedArray("float32", denseBuffer(widened, "data"));
  } finally {
    widened.dispose();
  }
}

/**
 * As {@link dataSync}, waiting for the device off the main thread. The elements are those at the time
 * of the call.
 */
export async function data(x: Tensor): Promise<TypedArray> {
  checkTensor(x, "data");
  x.assertUsable("data");
  const half = isHalfWidth(x.dtype);
  const dense = noGrad(() => (half ? to(x, "float32") : contiguous(x)));
  try {
    return typedArray(dense.dtype, await toBytesAsyncNative(dense.handle));
  } finally {
    if (dense !== x) dense.dispose();
  }
}

function nest(flat: ArrayLike<number>, shape: Shape, dim: number, start: number): NestedNumbers {
  if (dim === shape.length) return flat[start]!;
  let block = 1;
  for (let inner = dim + 1; inner < shape.length; inner++) block *= shape[inner]!;
  return Array.from({ length: shape[dim]! }, (_, i) =>
    nest(flat, shape, dim + 1, start + i * block),
  );
}

/** The elements as nested lists of numbers (a number for 0 dimensions); bool gives 0 and 1. */
export function toArray(x: Tensor): NestedNumbers {
  const elements = dataSync(x);
  const flat = elements instanceof BigInt64Array ? Array.from(elements, Number) : elements;
  return nest(flat, x.shape, 0, 0);
}
