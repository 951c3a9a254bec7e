// Batches of a data set: order, shuffling, worker threads. One iteration is one epoch; the place in
// it can be saved and continued.

import { ArgumentError, describe } from "../errors.js";
import { groupedByLength, indicesTo, longestFirst } from "./order.js";
import { Random, shuffled, type RandomState } from "./random.js";
import { loadTask, WorkerPool, type WorkerTask } from "./worker-pool.js";

/** Items by index; an array is one, too. */
export interface Dataset<T> {
  readonly length: number;
  /** The item at an index from 0 to `length` - 1. */
  get(index: number): T;
}

/** A new order of indices, which the random numbers decide. */
export type Shuffle = (indices: readonly number[], random: Random) => readonly number[];

/** How a {@link DataLoader} makes batches. */
export interface DataLoaderOptions<T, B> {
  /** Default 1. */
  batchSize?: number;
  /** A new order in each epoch, any or the one that a function makes; default false. */
  shuffle?: boolean | Shuffle;
  /**
   * The length of each item, in any unit: items of about one length come into one batch, shuffled
   * or, without `shuffle`, the longest first. Left out, lengths change nothing, as a comparison of
   * batches needs.
   */
  lengths?: ArrayLike<number> | undefined;
  /** Leave out a last batch that is not full; default false. */
  dropLast?: boolean;
  /** Decides all orders; default 0. */
  seed?: number;
  /**
   * Makes a batch of its items: a function, or a module that worker threads can import; default: the
   * array of them.
   */
  collate?: ((items: T[]) => B) | WorkerTask<T[], Awaited<B>>;
  /** Threads that make batches ahead of the loop; default 0, which makes them in this one. */
  numWorkers?: number;
  /** Batches that each thread is ahead; default 2. */
  prefetchFactor?: number;
}

/** Where a {@link DataLoader} is; plain data. */
export interface DataLoaderState {
  /** State of the random numbers at the start of the epoch. */
  readonly random: RandomState;
  /** Batches of the epoch that were handed out; those that threads made ahead do not count. */
  readonly batch: number;
  readonly batchSize: number;
  /** Items of the data set. */
  readonly items: number;
}

const OP = "DataLoader";

function fail(what: string): never {
  throw new ArgumentError(`${OP}: ${what}`, { op: OP });
}

function checkWhole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  fail(`${name} — expected a whole number of at least ${least}, got ${describe(value)}`);
}

/**
 * Batches of the items of a data set. Every iteration goes once over all of them, in a new order
 * where `shuffle` is set; after {@link loadStateDict} the first one goes on where the state was
 * taken. `for await` works always; `for` where neither threads nor a module make the batches. The
 * batches are the same with any number of threads.
 *
 * Threads are started by the first iteration and stay until {@link close}, but keep no process
 * alive.
 * @throws ArgumentError for options out of range, or threads without a module as `collate`.
 */
export class DataLoader<T, B = T[]> implements Iterable<B>, AsyncIterable<Awaited<B>> {
  readonly batchSize: number;
  readonly numWorkers: number;
  private readonly dataset: Dataset<T>;
  private readonly reorder: (random: Random) => readonly number[];
  private readonly dropLast: boolean;
  private readonly collate: ((items: T[]) => B) | WorkerTask<T[], Awaited<B>>;
  private readonly ahead: number;
  private pool: WorkerPool<T[], Awaited<B>> | null = null;
  private random: Random;
  private epochStart: RandomState;
  private nextBatch = 0;
  private resume = false;

  constructor(items: readonly T[] | Dataset<T>, options: DataLoaderOptions<T, B> = {}) {
    const { batchSize = 1, shuffle = false, dropLast = false, seed = 0, lengths } = options;
    const { numWorkers = 0, prefetchFactor = 2, collate = (batch: T[]) => batch as B } = options;
    checkWhole("batchSize", batchSize, 1);
    checkWhole("numWorkers", numWorkers, 0);
    checkWhole("prefetchFactor", prefetchFactor, 1);
    this.dataset = "get" in items ? items : { length: items.length, get: (i) => items[i]! };
    const count = this.dataset.length;
    if (lengths !== undefined && lengths.length !== count) {
      fail(`lengths — expected one for each of ${count} items, got ${lengths.length}`);
    }
    if (lengths !== undefined && typeof shuffle === "function") {
      fail("lengths — do not go with a shuffle of one's own, which decides the order alone");
    }
    if (numWorkers > 0 && typeof collate === "function") {
      fail(
        `numWorkers ${numWorkers} — a function cannot go to another thread; expected collate to be ` +
          "{ module, options }, or numWorkers 0",
      );
    }
    this.batchSize = batchSize;
    this.numWorkers = numWorkers;
    this.ahead = numWorkers * prefetchFactor;
    this.dropLast = dropLast;
    this.collate = collate;
    this.reorder = (random) => {
      if (typeof shuffle === "function") return shuffle(indicesTo(count), random);
      if (lengths === undefined) {
        return shuffle ? shuffled(indicesTo(count), random) : indicesTo(count);
      }
      return shuffle
        ? groupedByLength(lengths, batchSize, random)
        : longestFirst(indicesTo(count), lengths);
    };
    this.random = new Random(seed);
    this.epochStart = this.random.state();
  }

  /** Batches in an epoch. */
  get length(): number {
    const batches = this.dataset.length / this.batchSize;
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /** Begins an epoch; the items of each of its batches. */
  private begin(): (batch: number) => T[] {
    // An epoch that was left early starts over in a new order, unless a state was loaded.
    const resumed = this.resume;
    this.resume = false;
    if (!resumed) this.nextBatch = 0;
    this.epochStart = this.random.state();
    const order = this.reorder(this.random);
    const { batchSize, dataset } = this;
    return (batch) =>
      order.slice(batch * batchSize, (batch + 1) * batchSize).map((index): T => dataset.get(index));
  }

  private end(): void {
    this.epochStart = this.random.state();
    this.nextBatch = 0;
  }

  *[Symbol.iterator](): Generator<B, void> {
    const { collate } = this;
    if (typeof collate !== "function") {
      fail("its batches are made by threads or a module — expected `for await`, got `for`");
    }
    const itemsOf = this.begin();
    while (this.nextBatch < this.length) {
      const batch = collate(itemsOf(this.nextBatch));
      this.nextBatch++;
      yield batch;
    }
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Awaited<B>, void> {
    const { collate } = this;
    if (this.numWorkers > 0 && typeof collate !== "function") {
      yield* this.iterateAhead((this.pool ??= new WorkerPool(this.numWorkers, collate)));
      return;
    }
    const run = typeof collate === "function" ? collate : await loadTask(collate);
    const itemsOf = this.begin();
    while (this.nextBatch < this.length) {
      const batch = await run(itemsOf(this.nextBatch));
      this.nextBatch++;
      yield batch;
    }
    this.end();
  }

  private async *iterateAhead(pool: WorkerPool<T[], Awaited<B>>): AsyncGenerator<Awaited<B>, void> {
    const itemsOf = this.begin();
    const results: Promise<Awaited<B>>[] = [];
    let next = this.nextBatch;
    const fill = (): void => {
      while (results.length < this.ahead && next < this.length) {
        results.push(pool.run(itemsOf(next++)));
      }
    };
    for (fill(); results.length > 0;) {
      const batch = await pool.wait(results.shift()!);
      fill();
      this.nextBatch++;
      yield batch;
    }
    this.end();
  }

  /** What {@link loadStateDict} continues from; plain data. */
  stateDict(): DataLoaderState {
    const { epochStart, nextBatch, batchSize, dataset } = this;
    return { random: epochStart, batch: nextBatch, batchSize, items: dataset.length };
  }

  /**
   * Makes the next iteration continue where the state was taken, with the same options and items;
   * the number of threads may be another.
   * @throws ArgumentError for a state that does not fit.
   */
  loadStateDict(state: DataLoaderState): void {
    const { random, batch, batchSize, items } = state;
    const restored = Random.fromState(random);
    for (const [name, own, other] of [
      ["batches of", this.batchSize, batchSize],
      ["items:", this.dataset.length, items],
    ] as const) {
      if (own !== other) fail(`state — expected ${name} ${own}, got ${describe(other)}`);
    }
    if (!Number.isSafeInteger(batch) || batch < 0 || batch > this.length) {
      fail(`state — expected a batch from 0 to ${this.length}, got ${describe(batch)}`);
    }
    this.random = restored;
    this.epochStart = restored.state();
    this.nextBatch = batch;
    this.resume = true;
  }

  /** Ends the threads; a loop that is under way fails. The next iteration starts new ones. */
  async close(): Promise<void> {
    const { pool } = this;
    this.pool = null;
    await pool?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
