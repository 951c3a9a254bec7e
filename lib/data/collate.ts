// Makes one padded batch of sequences of token ids, and of samples with labels.

import { DataError } from "../errors.js";

/** Token ids of several texts, padded to one length, row by row. */
export interface TokenBatch {
  /** [batch, length] */
  readonly shape: readonly [number, number];
  readonly inputIds: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly attentionMask: Int32Array;
}

/** A padded batch with the class of each row, where it has one. */
export interface LabelledBatch extends TokenBatch {
  readonly labels: Int32Array;
}

/** Token ids of one text, special tokens included, and its class. */
export interface TokenSample {
  readonly ids: ArrayLike<number>;
  readonly label: number;
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

/** Samples as one padded batch. */
export function collateTokens(
  samples: readonly TokenSample[],
  options: PadOptions = {},
): LabelledBatch {
  const batch = padBatch(
    samples.map(({ ids }) => ids),
    options,
  );
  return { ...batch, labels: Int32Array.from(samples, ({ label }) => label) };
}
