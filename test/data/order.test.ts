import { describe, expect, it } from "vitest";

import { groupedByLength } from "../../lib/data/order.js";
import { Random } from "../../lib/data/random.js";

describe("groupedByLength", () => {
  const order = (seed: number, count: number, batchSize: number): number[] => {
    const lengths = Array.from({ length: count }, (_, i) => 3 + ((i * 7) % 40));
    const indices = groupedByLength(lengths, batchSize, new Random(seed));
    expect([...indices].sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
    return indices.map((i) => lengths[i]!);
  };

  it("puts texts of about one length into a batch, in a random order of batches", () => {
    const grouped = order(1, 200, 8);
    const batches = Array.from({ length: 25 }, (_, i) => grouped.slice(8 * i, 8 * i + 8));
    for (const batch of batches) expect(Math.max(...batch) - Math.min(...batch)).toBeLessThan(8);
    const longest = batches.map((batch) => Math.max(...batch));
    expect(longest).not.toEqual([...longest].sort((a, b) => b - a));
    expect(order(1, 200, 8)).toEqual(grouped);
    expect(order(2, 200, 8)).not.toEqual(grouped);
  });

  it.each([0, 1, 7, 8, 9, 129, 300])("keeps all of %d texts", (count) => {
    order(3, count, 8);
  });
});
