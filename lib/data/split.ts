// Train, validation and test parts of a data set, with the same share of each class in all of them.

import { ArgumentError, DataError, describe } from "../errors.js";
import { Random, shuffled } from "./random.js";
import type { TextDataset } from "./text-dataset.js";

/** How to split. */
export interface SplitOptions {
  /** Share of the whole, default 0.1. */
  validation?: number;
  /** Share of the whole, default 0.1. */
  test?: number;
  /** Default 0. */
  seed?: number;
}

/** The three parts. */
export interface Split<T> {
  readonly train: T;
  readonly validation: T;
  readonly test: T;
}

const OP = "splitDataset";

function checkShare(name: string, share: number): void {
  if (!(share >= 0 && share < 1)) {
    throw new ArgumentError(`${OP}: ${name} — expected at least 0 and less than 1, got ${share}`, {
      op: OP,
    });
  }
}

/**
 * Indices of the three parts. Each class is dealt out by itself; rounding carries over from class
 * to class, so that the sizes are right for the whole too. The same seed gives the same split.
 * @throws ArgumentError for shares outside [0, 1), or that leave nothing to train on.
 * @throws DataError where a part that was asked for is empty.
 */
export function stratifiedSplit(
  labels: ArrayLike<number>,
  options: SplitOptions = {},
): Split<number[]> {
  const { validation = 0.1, test = 0.1, seed = 0 } = options;
  checkShare("validation", validation);
  checkShare("test", test);
  if (validation + test >= 1) {
    throw new ArgumentError(
      `${OP}: validation ${validation} and test ${test} leave nothing to train on`,
      { op: OP },
    );
  }
  const random = new Random(seed);
  const classes = new Map<number, number[]>();
  for (let index = 0; index < labels.length; index++) {
    const members = classes.get(labels[index]!);
    if (members === undefined) classes.set(labels[index]!, [index]);
    else members.push(index);
  }
  const parts: Split<number[]> = { train: [], validation: [], test: [] };
  let seen = 0;
  for (const label of [...classes.keys()].sort((a, b) => a - b)) {
    const members = shuffled(classes.get(label)!, random);
    seen += members.length;
    const toTest = Math.round(seen * test) - parts.test.length;
    const toValidation = Math.round(seen * validation) - parts.validation.length;
    parts.test.push(...members.splice(0, toTest));
    parts.validation.push(...members.splice(0, toValidation));
    parts.train.push(...members);
  }
  const empty = (["train", "validation", "test"] as const).find(
    (part) => parts[part].length === 0 && { train: 1, validation, test }[part] > 0,
  );
  if (empty !== undefined) {
    throw new DataError(`${OP}: too few samples — ${labels.length} leave none for ${empty}`, {
      op: OP,
    });
  }
  return {
    train: shuffled(parts.train, random),
    validation: shuffled(parts.validation, random),
    test: shuffled(parts.test, random),
  };
}

/**
 * Indices of the parts of rows that stand one behind the other: those to train on, `sizes.train` of
 * them, then `sizes.validation` that validate, then those that test. A part of no rows is taken from
 * the training rows by its share, as {@link stratifiedSplit} does.
 * @throws as {@link stratifiedSplit}.
 */
export function splitIndices(
  labels: ArrayLike<number>,
  sizes: { readonly train: number; readonly validation: number },
  options: SplitOptions = {},
): Split<number[]> {
  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, i) => from + i);
  const validation = range(sizes.train, sizes.train + sizes.validation);
  const test = range(sizes.train + sizes.validation, labels.length);
  if (validation.length > 0 && test.length > 0) {
    return { train: range(0, sizes.train), validation, test };
  }
  const own = Array.from({ length: sizes.train }, (_, i) => labels[i]!);
  const parts = stratifiedSplit(own, {
    ...options,
    ...(validation.length > 0 ? { validation: 0 } : {}),
    ...(test.length > 0 ? { test: 0 } : {}),
  });
  return {
    train: parts.train,
    validation: validation.length > 0 ? validation : parts.validation,
    test: test.length > 0 ? test : parts.test,
  };
}

/** The samples of a data set at the given indices, in that order. */
export function selectSamples(dataset: TextDataset, indices: readonly number[]): TextDataset {
  const at = <T>(items: readonly T[], index: number): T => {
    const item = items[index];
    if (item === undefined) {
      throw new ArgumentError(
        `selectSamples: index ${describe(index)} out of range — ${items.length} samples`,
        { op: "selectSamples" },
      );
    }
    return item;
  };
  return {
    texts: indices.map((index) => at(dataset.texts, index)),
    labels: indices.map((index) => at(dataset.labels, index)),
    labelNames: dataset.labelNames,
  };
}

/** {@link stratifiedSplit} of a data set by its labels. */
export function splitDataset(dataset: TextDataset, options: SplitOptions = {}): Split<TextDataset> {
  const { train, validation, test } = stratifiedSplit(dataset.labels, options);
  return {
    train: selectSamples(dataset, train),
    validation: selectSamples(dataset, validation),
    test: selectSamples(dataset, test),
  };
}
