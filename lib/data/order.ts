// Orders in which the items of a data set are dealt out: random ones, and ones that put items of
// about one length into a batch, so that little of it is padding.

import { shuffled, type Random } from "./random.js";

/** Items are sorted by length within this many batches. */
const GROUPED_BATCHES = 16;

/** `0 … count - 1`. */
export function indicesTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** Indices sorted by length, the longest first; equal ones stay as they are. */
export function longestFirst(indices: readonly number[], lengths: ArrayLike<number>): number[] {
  return [...indices].sort((a, b) => lengths[b]! - lengths[a]!);
}

/**
 * A random order in which items of about one length stand in one batch: shuffled, sorted by length
 * within groups of batches, and the batches shuffled. A batch that is not full stays the last.
 * @param lengths length of each item, in any unit
 */
export function groupedByLength(
  lengths: ArrayLike<number>,
  batchSize: number,
  random: Random,
): number[] {
  const order = shuffled(indicesTo(lengths.length), random);
  const group = GROUPED_BATCHES * batchSize;
  const sorted = Array.from({ length: Math.ceil(order.length / group) }, (_, i) =>
    longestFirst(order.slice(i * group, (i + 1) * group), lengths),
  ).flat();
  const full = Math.floor(sorted.length / batchSize);
  const batches = Array.from({ length: full }, (_, i) =>
    sorted.slice(i * batchSize, (i + 1) * batchSize),
  );
  return [...shuffled(batches, random).flat(), ...sorted.slice(full * batchSize)];
}
