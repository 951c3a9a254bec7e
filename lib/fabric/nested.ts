// Conversion of the tensors inside nested values: arrays, maps and plain objects, as batches and
// outputs of models are. What holds nothing to convert stays the same object.

import { Tensor } from "../core/tensor.js";
import { isFloating, type Device, type FloatDType } from "../dtype.js";
import { Module } from "../nn/index.js";
import { to } from "../ops/index.js";

/**
 * Applies `fn` to every tensor and module in `value`; the rest is copied only where one changed.
 */
function mapNested(value: unknown, fn: (item: Tensor | Module) => unknown): unknown {
  if (value instanceof Tensor || value instanceof Module) return fn(value);
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) {
    const mapped = value.map((item) => mapNested(item, fn));
    return mapped.some((item, i) => item !== value[i]) ? mapped : value;
  }
  if (value instanceof Map) {
    const pairs = [...(value as Map<unknown, unknown>)];
    const mapped = pairs.map(([key, item]) => [key, mapNested(item, fn)] as const);
    return mapped.some(([, item], i) => item !== pairs[i]![1]) ? new Map(mapped) : value;
  }
  const prototype = Object.getPrototypeOf(value) as unknown;
  if (prototype !== Object.prototype && prototype !== null) return value;
  const entries = Object.entries(value);
  const mapped = entries.map(([key, item]) => [key, mapNested(item, fn)] as const);
  const changed = mapped.some(([, item], i) => item !== entries[i]![1]);
  return changed ? Object.fromEntries(mapped) : value;
}

/** `value` with `fn` applied to the tensors in it. */
export function mapTensors<T>(value: T, fn: (tensor: Tensor) => Tensor): T {
  return mapNested(value, (item) => (item instanceof Tensor ? fn(item) : item)) as T;
}

/** `value` with its floating-point tensors cast to `dtype`; itself where that is null. */
export function castFloating<T>(value: T, dtype: FloatDType | null): T {
  if (dtype === null) return value;
  return mapTensors(value, (tensor) => (isFloating(tensor.dtype) ? to(tensor, dtype) : tensor));
}

/** `value` with its tensors on a device; modules are moved as they are. */
export function moveTo<T>(value: T, device: Device): T {
  return mapNested(value, (item) =>
    item instanceof Module ? item.to({ device }) : to(item, { device }),
  ) as T;
}
