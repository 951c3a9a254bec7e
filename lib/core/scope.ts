// Scopes of memory: what a function made and did not return is released when it ends.

import { checkFunction, context, rejectPromise } from "./context.js";
import { Tensor } from "./tensor.js";

const kept = new WeakSet<Tensor>();

/** Exempts a tensor from every tidy scope: parameters, gradients of leaves, optimizer state. */
export function keep<T extends Tensor>(tensor: T): T {
  kept.add(tensor);
  return tensor;
}

/** Calls `visit` on every tensor inside nested arrays, maps and plain objects. */
export function forEachTensor(value: unknown, visit: (tensor: Tensor) => void): void {
  if (value instanceof Tensor) {
    visit(value);
  } else if (Array.isArray(value)) {
    for (const item of value) forEachTensor(item, visit);
  } else if (value instanceof Map) {
    for (const item of value.values()) forEachTensor(item, visit);
  } else if (value !== null && typeof value === "object") {
    const prototype = Object.getPrototypeOf(value) as unknown;
    if (prototype === Object.prototype || prototype === null) {
      for (const item of Object.values(value)) forEachTensor(item, visit);
    }
  }
}

/**
 * Runs a synchronous function and releases every tensor it made, except those it returns (also
 * inside arrays, maps and plain objects), parameters, gradients of leaves and optimizer state. What
 * backward still needs is held by the graph and released as backward passes it.
 * @throws GradError when `fn` returns a promise.
 */
export function tidy<T>(fn: () => T): T {
  checkFunction(fn, "tidy");
  const outer = context.scope;
  const scope: Tensor[] = [];
  context.scope = scope;
  const returned = new Set<Tensor>();
  try {
    const result = fn();
    rejectPromise(result, "tidy");
    forEachTensor(result, (tensor) => returned.add(tensor));
    return result;
  } finally {
    context.scope = outer;
    for (const tensor of scope) {
      if (returned.has(tensor)) outer?.push(tensor);
      else if (!kept.has(tensor)) tensor.dispose();
    }
  }
}

/** Runs `fn` with its tensors outside every tidy scope; their owner disposes them. */
export function outsideScopes<T>(fn: () => T): T {
  const outer = context.scope;
  context.scope = null;
  try {
    return fn();
  } finally {
    context.scope = outer;
  }
}
