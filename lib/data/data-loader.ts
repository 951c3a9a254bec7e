// Batches of a data set: order, shuffling, padding. One iteration is one epoch; the place in it can
// be saved and continued.

import { ArgumentError, DataError, describe } from "../errors.js";
import { Random, shuffled, type RandomState } from "./random.js";

/** All of the items in a new order, which the random numbers decide. */
export type Shuffle<T> = (items: readonly T[], random: Random) => readonly T[];

/** How a {@link DataLoader} makes batches. */
export interface DataLoaderOptions<T, B> {
  /** Default 1. */
  batchSize?: number;
  /** A new order in each epoch, any or the one that a function makes of the items; default false. */
  shuffle?: boolean | Shuffle<T>;
  /** Leave out a last batch that is not full; default false. */
  dropLast?: boolean;
  /** Decides all orders; default 0. */
  seed?: number;
  /** Makes a batch of its items; default: the array of them. */
  collate?: (items: T[]) => B;
}

/** Where a {@link DataLoader} is. */
export interface DataLoaderState {
  /** State of the random numbers at the start of the epoch. */
  readonly random: RandomState;
  /** Batches of the epoch that were handed out. */
  readonly batch: number;
}

/**
 * Batches of the items of an array. Every iteration goes once over all of them, in a new order where
 * `shuffle` is set; after {@link loadStateDict} the first one goes on where the state was taken.
 * @throws ArgumentError for a batch size that is not a whole number of at least 1.
 */
export class DataLoader<T, B = T[]> implements Iterable<B> {
  readonly batchSize: number;
  private readonly reorder: Shuffle<T>;
  private readonly dropLast: boolean;
  private readonly collate: (items: T[]) => B;
  private random: Random;
  private epochStart: RandomState;
  private nextBatch = 0;
  private resume = false;

  constructor(
    readonly items: readonly T[],
    options: DataLoaderOptions<T, B> = {},
  ) {
    const { batchSize = 1, shuffle = false, dropLast = false, seed = 0, collate } = options;
    if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
      throw new ArgumentError(
        `DataLoader: batchSize — expected a whole number of at least 1, got ${describe(batchSize)}`,
        { op: "DataLoader" },
      );
    }
    this.batchSize = batchSize;
    if (typeof shuffle === "function") this.reorder = shuffle;
    else this.reorder = shuffle ? shuffled : (unchanged) => unchanged;
    this.dropLast = dropLast;
    this.collate = collate ?? ((batch) => batch as B);
    this.random = new Random(seed);
    this.epochStart = this.random.state();
  }

  /** Batches in an epoch. */
  get length(): number {
    const batches = this.items.length / this.batchSize;
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  *[Symbol.iterator](): Generator<B, void> {
    // An epoch that was left early starts over in a new order, unless a state was loaded.
    const resumed = this.resume;
    this.resume = false;
    if (!resumed) this.nextBatch = 0;
    this.epochStart = this.random.state();
    const order = this.reorder(this.items, this.random);
    while (this.nextBatch < this.length) {
      const start = this.nextBatch * this.batchSize;
      this.nextBatch++;
      yield this.collate(order.slice(start, start + this.batchSize));
    }
    this.epochStart = this.random.state();
    this.nextBatch = 0;
  }

  /** What {@link loadStateDict} continues from; plain data. */
  stateDict(): DataLoaderState {
    return { random: this.epochStart, batch: this.nextBatch };
  }

  /**
   * Makes the next iteration continue where the state was taken, with the same options and items.
   * @throws ArgumentError for a state that does not fit.
   */
  loadStateDict(state: DataLoaderState): void {
    const { random, batch } = state;
    const restored = Random.fromState(random);
    if (!Number.isSafeInteger(batch) || batch < 0 || batch > this.length) {
      throw new ArgumentError(
        `DataLoader: state — expected a batch from 0 to ${this.length}, got ${describe(batch)}`,
        { op: "DataLoader" },
      );
    }
    this.random = restored;
    this.epochStart = restored.state();
    this.nextBatch = batch;
    this.resume = true;
  }
}

/** Token ids of several texts, padded to one length, row by row. */
export interface TokenBatch {
  /** [batch, length] */
  readonly shape: readonly [number, number];
  readonly inputIds: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly attentionMask: Int32Array;
}

/** To which length a batch is padded. */
export interface PadOptions {
  /** Id of the padding token; default 0. */
  padId?: number;
  /** Length of each row; default: that of the longest sequence. */
  length?: number | undefined;
}

/**
 * Sequences of token ids as one padded batch.
 * @throws DataError where a sequence is longer than `length`, or there is none.
 */
export function padBatch(
  sequences: readonly ArrayLike<number>[],
  options: PadOptions = {},
): TokenBatch {
  const { padId = 0 } = options;
  if (sequences.length === 0) throw new DataError("padBatch: no sequences", { op: "padBatch" });
  const longest = sequences.reduce((most, ids) => Math.max(most, ids.length), 0);
  const length = options.length ?? longest;
  if (longest > length) {
    throw new DataError(`padBatch: a sequence of ${longest} tokens — expected at most ${length}`, {
      op: "padBatch",
    });
  }
  const inputIds = new Int32Array(sequences.length * length).fill(padId);
  const attentionMask = new Int32Array(sequences.length * length);
  sequences.forEach((ids, row) => {
    inputIds.set(ids, row * length);
    attentionMask.fill(1, row * length, row * length + ids.length);
  });
  return { shape: [sequences.length, length], inputIds, attentionMask };
}
