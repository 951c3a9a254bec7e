// The loaders that `Fabric.setupDataloaders` gives back: they put each batch on the device.

import type { Device } from "../dtype.js";
import { ArgumentError, describe } from "../errors.js";
import { moveTo } from "./nested.js";

/** What yields batches. */
export type BatchSource = Iterable<unknown> | AsyncIterable<unknown>;

interface Sampler {
  setEpoch?(epoch: number): void;
}

const wrapped = new WeakSet();

/**
 * Wraps a loader: each iteration is an epoch, which its `sampler` is told, and its batches are
 * moved to `device` (null: left where they are).
 */
export function wrapLoader<L extends BatchSource>(loader: L, device: Device | null): L {
  const given = loader as unknown as Partial<Record<symbol, unknown>> | null;
  const iterates = (symbol: symbol): boolean => typeof given?.[symbol] === "function";
  const isObject = typeof given === "object" && given !== null;
  if (!isObject || (!iterates(Symbol.iterator) && !iterates(Symbol.asyncIterator))) {
    throw new ArgumentError(
      `setupDataloaders: expected a loader to iterate over, got ${describe(loader)}`,
      { op: "setupDataloaders" },
    );
  }
  if (wrapped.has(loader)) {
    throw new ArgumentError("setupDataloaders: the loader was set up already", {
      op: "setupDataloaders",
    });
  }
  const move = (batch: unknown): unknown => (device === null ? batch : moveTo(batch, device));
  let epoch = 0;
  const start = (): void => {
    (loader as { sampler?: Sampler }).sampler?.setEpoch?.(epoch++);
  };
  function* iterate(): Generator {
    start();
    for (const batch of loader as Iterable<unknown>) yield move(batch);
  }
  async function* iterateAsync(): AsyncGenerator {
    start();
    for await (const batch of loader as AsyncIterable<unknown>) yield move(batch);
  }
  const proxy = new Proxy(loader, {
    get(target, name): unknown {
      if (name === Symbol.iterator && iterates(name)) return iterate;
      if (name === Symbol.asyncIterator && iterates(name)) return iterateAsync;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" && name !== "constructor"
        ? (value.bind(target) as unknown)
        : value;
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });
  wrapped.add(proxy);
  return proxy;
}
