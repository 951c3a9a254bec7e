import { describe, expect, it } from "vitest";

import { padBatch } from "../../lib/data/collate.js";
import { DataLoader } from "../../lib/data/data-loader.js";
import { Random, shuffled } from "../../lib/data/random.js";
import { splitDataset, stratifiedSplit } from "../../lib/data/split.js";
import { ArgumentError, DataError } from "../../lib/errors.js";

const numbers = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

describe("Random", () => {
  it("repeats for a seed, differs between seeds, also 2^32 apart", () => {
    const draw = (seed: number): number[] => {
      const random = new Random(seed);
      return numbers(5).map(() => random.uint32());
    };
    expect(draw(3)).toEqual(draw(3));
    expect(draw(3)).not.toEqual(draw(4));
    expect(draw(3)).not.toEqual(draw(3 + 2 ** 32));
  });

  it("continues from a state that went through JSON", () => {
    const random = new Random(1);
    random.uint32();
    const copy = Random.fromState(JSON.parse(JSON.stringify(random.state())));
    expect(numbers(9).map(() => copy.uint32())).toEqual(numbers(9).map(() => random.uint32()));
  });

  it("draws each number below a bound equally often", () => {
    const random = new Random(5);
    const counts = [0, 0, 0, 0, 0, 0, 0];
    for (let i = 0; i < 70_000; i++) counts[random.below(7)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  it("rejects bad seeds and states", () => {
    expect(() => new Random(-1)).toThrow(ArgumentError);
    expect(() => new Random(NaN)).toThrow(ArgumentError);
    expect(() => Random.fromState([0, 0, 0, 0])).toThrow(ArgumentError);
    expect(() => Random.fromState([1, 2, 3])).toThrow(ArgumentError);
  });

  it("shuffles into every order", () => {
    const random = new Random(2);
    const orders = new Set(numbers(200).map(() => shuffled([1, 2, 3], random).join("")));
    expect(orders.size).toBe(6);
  });
});

describe("stratifiedSplit", () => {
  const labels = numbers(200).map((i) => (i % 4 === 0 ? 1 : 0));

  it("keeps sizes and the share of each class, and uses each sample once", () => {
    const { train, validation, test } = stratifiedSplit(labels, { seed: 1 });
    expect([train.length, validation.length, test.length]).toEqual([160, 20, 20]);
    for (const part of [train, validation, test]) {
      expect(part.filter((i) => labels[i] === 1)).toHaveLength(part.length / 4);
    }
    expect([...train, ...validation, ...test].sort((a, b) => a - b)).toEqual(numbers(200));
  });

  it("repeats for a seed", () => {
    expect(stratifiedSplit(labels, { seed: 1 })).toEqual(stratifiedSplit(labels, { seed: 1 }));
    expect(stratifiedSplit(labels, { seed: 1 })).not.toEqual(stratifiedSplit(labels, { seed: 2 }));
  });

  it("keeps texts and labels together", () => {
    const dataset = { texts: labels.map((l, i) => `${i}:${l}`), labels, labelNames: ["a", "b"] };
    const { train, validation, test } = splitDataset(dataset);
    for (const part of [train, validation, test]) {
      part.texts.forEach((text, i) => expect(text.endsWith(`:${part.labels[i]}`)).toBe(true));
    }
  });

  it("rejects bad shares and too few samples", () => {
    expect(() => stratifiedSplit(labels, { test: NaN })).toThrow(ArgumentError);
    expect(() => stratifiedSplit(labels, { test: 0.5, validation: 0.5 })).toThrow(ArgumentError);
    expect(() => stratifiedSplit([0, 1])).toThrow(DataError);
    expect(() => stratifiedSplit([])).toThrow(DataError);
  });
});

describe("DataLoader", () => {
  it("takes the order that a function makes, and goes on in it", () => {
    const options = {
      batchSize: 3,
      seed: 4,
      shuffle: (indices: readonly number[], random: Random) => {
        const at = random.below(indices.length);
        return [...indices.slice(at), ...indices.slice(0, at)];
      },
    };
    const loader = new DataLoader(numbers(8), options);
    const [first, second] = [[...loader], [...loader]];
    expect(first.flat()).not.toEqual(second.flat());
    expect(first.flat().map((n) => (n - first[0]![0]! + 8) % 8)).toEqual(numbers(8));
    const stopped = new DataLoader(numbers(8), options);
    stopped[Symbol.iterator]().next();
    const resumed = new DataLoader(numbers(8), options);
    resumed.loadStateDict(stopped.stateDict());
    expect([...resumed]).toEqual(first.slice(1));
  });

  it("hands out all items in order, the last batch short or left out", () => {
    const loader = new DataLoader(numbers(7), { batchSize: 3 });
    expect([...loader]).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
    expect(loader.length).toBe(3);
    const full = new DataLoader(numbers(7), { batchSize: 3, dropLast: true });
    expect([...full]).toHaveLength(full.length);
    expect(full.length).toBe(2);
  });

  it("shuffles anew in each epoch, the same for the same seed", () => {
    const make = (seed: number) =>
      new DataLoader(numbers(20), { shuffle: true, batchSize: 4, seed });
    const loader = make(1);
    const first = [...loader].flat();
    const second = [...loader].flat();
    expect(first).not.toEqual(second);
    expect([...second].sort((a, b) => a - b)).toEqual(numbers(20));
    const again = make(1);
    expect([[...again].flat(), [...again].flat()]).toEqual([first, second]);
    expect([...make(2)].flat()).not.toEqual(first);
  });

  it.each([0, 1, 3, 5])("continues after %i batches of the second epoch", (taken) => {
    const make = () => new DataLoader(numbers(20), { shuffle: true, batchSize: 4, seed: 9 });
    const loader = make();
    expect([...loader]).toHaveLength(5);
    const epoch = loader[Symbol.iterator]();
    for (let i = 0; i < taken; i++) epoch.next();
    const state = JSON.parse(JSON.stringify(loader.stateDict())) as never;
    const rest = [...epoch];
    const resumed = make();
    resumed.loadStateDict(state);
    expect([...resumed]).toEqual(rest);
    expect([...resumed]).toEqual([...loader]);
  });

  it("rejects a bad batch size and state", () => {
    for (const batchSize of [0, -1, 1.5, NaN]) {
      expect(() => new DataLoader([1], { batchSize })).toThrow(ArgumentError);
    }
    const loader = new DataLoader([1, 2]);
    const state = { random: [1, 2, 3, 4] as const, batch: 3, batchSize: 1, items: 2 };
    expect(() => loader.loadStateDict(state)).toThrow(/a batch from 0 to 2, got 3/);
    const fits = { ...state, batch: 1 };
    expect(() => loader.loadStateDict({ ...fits, items: 3 })).toThrow(/items: 2, got 3/);
    expect(() => loader.loadStateDict({ ...fits, batchSize: 4 })).toThrow(/batches of 1, got 4/);
    expect(() => loader.loadStateDict({ ...fits, random: [0, 0, 0, 0] })).toThrow(ArgumentError);
  });

  it("puts items of about one length into a batch where it knows the lengths", () => {
    const lengths = numbers(200).map((i) => 3 + ((i * 7) % 40));
    const make = (seed: number) =>
      new DataLoader(lengths, { batchSize: 8, shuffle: true, seed, lengths });
    const batches = [...make(1)];
    for (const batch of batches) expect(Math.max(...batch) - Math.min(...batch)).toBeLessThan(8);
    expect(batches.flat().sort()).toEqual([...lengths].sort());
    expect([...make(1)]).toEqual(batches);
    expect([...make(2)]).not.toEqual(batches);
    const still = [...new DataLoader(lengths, { batchSize: 8, lengths })].flat();
    expect(still).toEqual([...lengths].sort((a, b) => b - a));
    expect(() => new DataLoader([1], { lengths: [1, 2] })).toThrow(
      /one for each of 1 items, got 2/,
    );
    const shuffle = (indices: readonly number[]) => indices;
    expect(() => new DataLoader([1], { lengths: [1], shuffle })).toThrow(ArgumentError);
  });

  it("takes items from a data set by index, only those of the batch", () => {
    const asked: number[] = [];
    const get = (i: number) => {
      asked.push(i);
      return i * i;
    };
    const loader = new DataLoader({ length: 5, get }, { batchSize: 2 });
    const epoch = loader[Symbol.iterator]();
    expect(epoch.next().value).toEqual([0, 1]);
    expect(asked).toEqual([0, 1]);
    expect([...epoch]).toEqual([[4, 9], [16]]);
  });

  it("awaits a collate that returns promises", async () => {
    const collate = (items: number[]) => Promise.resolve(items.length);
    const loader = new DataLoader(numbers(5), { batchSize: 2, collate });
    const lengths: number[] = [];
    for await (const batch of loader) lengths.push(batch);
    expect(lengths).toEqual([2, 2, 1]);
  });

  it("wants a module where threads make the batches", () => {
    expect(() => new DataLoader([1], { numWorkers: 1 })).toThrow(
      /expected collate to be \{ module/,
    );
    const task = { module: "file:///none.js" };
    const loader = new DataLoader([1], { numWorkers: 1, collate: task });
    expect(() => [...loader]).toThrow(/expected `for await`/);
    expect(() => new DataLoader([1], { numWorkers: -1 })).toThrow(ArgumentError);
    expect(() => new DataLoader([1], { prefetchFactor: 0 })).toThrow(ArgumentError);
  });
});

describe("padBatch", () => {
  it("pads to the longest, or to a length, with a mask", () => {
    const batch = padBatch([[5, 6], [7], [1, 2, 3]], { padId: 9 });
    expect(batch.shape).toEqual([3, 3]);
    expect([...batch.inputIds]).toEqual([5, 6, 9, 7, 9, 9, 1, 2, 3]);
    expect([...batch.attentionMask]).toEqual([1, 1, 0, 1, 0, 0, 1, 1, 1]);
    expect(padBatch([[1]], { length: 4 }).shape).toEqual([1, 4]);
    expect(() => padBatch([[1, 2]], { length: 1 })).toThrow(DataError);
    expect(() => padBatch([])).toThrow(DataError);
  });
});
