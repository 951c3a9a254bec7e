// A data set in token ids: its parts, out of one or more stores, and the samples that are trained on.

import { checkLabelNames, numberLabels, type LabelList } from "./classes.js";
import type { TokenSample } from "./collate.js";
import type { Dataset } from "./data-loader.js";
import { SPLIT_NAMES, type DataFiles, type RowPlace, type SplitName } from "./sources/index.js";
import { splitIndices, type Split, type SplitOptions } from "./split.js";
import { classNamesOf } from "./text-dataset.js";
import { BadRows, streamTexts, type BadRowReport, type Label } from "./text-stream.js";
import { encodeFile, type EncodedFile, type EncodeFileOptions } from "./token-cache.js";
import type { TokenStore } from "./token-store.js";
import type { TextTokenizer } from "./tokenizer.js";

/** Rows of stores one behind the other. */
class Stores implements LabelList {
  private readonly ends: number[] = [];
  readonly list: TokenStore[] = [];

  get length(): number {
    return this.ends.at(-1) ?? 0;
  }

  add(store: TokenStore): void {
    this.ends.push(this.length + store.length);
    this.list.push(store);
  }

  find(index: number): { readonly store: TokenStore; readonly row: number } {
    let [low, high] = [0, this.ends.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (index < this.ends[middle]!) high = middle;
      else low = middle + 1;
    }
    return { store: this.list[low]!, row: index - (low === 0 ? 0 : this.ends[low - 1]!) };
  }

  label(index: number): Label {
    const { store, row } = this.find(index);
    return store.label(row)!;
  }

  place(index: number): RowPlace {
    const { store, row } = this.find(index);
    return store.place(row);
  }
}

/** Samples of one part, cut off at a length. */
export class TokenDataset implements Dataset<TokenSample> {
  /** Tokens of each sample, special ones included, at most the length it is cut off at. */
  readonly lengths: Int32Array;
  /** Samples that are cut off. */
  readonly truncated: number;

  constructor(
    private readonly stores: { find(index: number): { store: TokenStore; row: number } },
    private readonly indices: readonly number[],
    private readonly labels: ArrayLike<number>,
    private readonly special: {
      readonly before: readonly number[];
      readonly after: readonly number[];
    },
    private readonly maxLength: number,
  ) {
    const added = special.before.length + special.after.length;
    let truncated = 0;
    this.lengths = Int32Array.from(indices, (index) => {
      const { store, row } = stores.find(index);
      const length = store.lengthOf(row) + added;
      if (length > maxLength) truncated++;
      return Math.min(length, maxLength);
    });
    this.truncated = truncated;
  }

  get length(): number {
    return this.indices.length;
  }

  get(at: number): TokenSample {
    const index = this.indices[at]!;
    const { store, row } = this.stores.find(index);
    const { before, after } = this.special;
    const content = store.content(row, this.maxLength - before.length - after.length);
    const ids = new Int32Array(before.length + content.length + after.length);
    ids.set(before);
    ids.set(content, before.length);
    ids.set(after, before.length + content.length);
    return { ids, label: this.labels[index]! };
  }
}

/** How a data set is encoded and parted. */
export interface EncodeDatasetOptions extends EncodeFileOptions, SplitOptions {
  /** The classes that are allowed, in order; default: those that the files have. */
  readonly labelNames?: readonly string[];
  /** Numbers the classes as this list does, where it has just the same names. */
  readonly preferNames?: readonly string[] | null;
}

/** A data set in token ids. */
export interface EncodedDataset {
  readonly labelNames: readonly string[];
  /** Rows that were left out. */
  readonly badRows: BadRowReport;
  /** The largest token id, special ones included. */
  readonly maxId: number;
  /** Where the ids of each file came from. */
  readonly caches: readonly EncodedFile["cache"][];
  /** The parts, every sample cut off at `maxLength` tokens, special ones included. */
  samples(maxLength: number): Split<TokenDataset>;
  /** Closes the files that hold the ids. */
  close(): void;
}

const OP = "encodeDataset";

/** The classes as `preferred` has them, where the names are the same. */
function preferredOrder(
  names: readonly string[],
  preferred: readonly string[] | null | undefined,
): readonly string[] {
  const same = preferred?.length === names.length && names.every((n) => preferred.includes(n));
  return same ? preferred : names;
}

/**
 * Encodes a data set in its parts, file by file. A part that has no file is taken from the training
 * rows by its share, the same share of each class.
 * @param source what errors about all of it call the data.
 * @throws DataError as `encodeFile`, and for labels that make no classes.
 */
export async function encodeDataset(
  source: string,
  files: DataFiles,
  tokenizer: TextTokenizer,
  options: EncodeDatasetOptions = {},
): Promise<EncodedDataset> {
  const { labelColumn = "label", op = OP } = options;
  checkLabelNames(options.labelNames, op);
  const stores = new Stores();
  const bad = new BadRows();
  const caches: EncodedFile["cache"][] = [];
  const sizes: Record<SplitName, number> = { train: 0, validation: 0, test: 0 };
  const close = (): void => {
    for (const store of stores.list) store.close();
  };
  try {
    for (const part of SPLIT_NAMES) {
      for (const file of files[part]) {
        const { store, cache } = await encodeFile(file, tokenizer, { ...options, op });
        stores.add(store);
        caches.push(cache);
        bad.addReport(store.facts.bad);
        sizes[part] += store.length;
      }
    }
    const given = options.labelNames ?? (await classNamesOf(files.train, labelColumn ?? "", op));
    const found = numberLabels(stores, source, op, given);
    const labelNames = preferredOrder(found.labelNames, options.preferNames);
    const number = found.labelNames.map((name) => labelNames.indexOf(name));
    const split = splitIndices(found.labels, sizes, options);
    const labels = found.labels.map((label) => number[label]!);
    const part = (name: SplitName, maxLength: number): TokenDataset =>
      new TokenDataset(stores, split[name], labels, tokenizer.specialIds, maxLength);
    return {
      labelNames,
      badRows: bad.report(),
      maxId: Math.max(
        ...tokenizer.specialIds.before,
        ...tokenizer.specialIds.after,
        ...stores.list.map(({ maxId }) => maxId),
      ),
      caches,
      samples: (maxLength) => ({
        train: part("train", maxLength),
        validation: part("validation", maxLength),
        test: part("test", maxLength),
      }),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * The texts that {@link encodeDataset} with the same options trains on, one after the other, to train
 * a tokenizer from; the files are read twice where parts have to be taken from the training rows.
 * @throws as {@link encodeDataset}.
 */
export async function* trainingTexts(
  source: string,
  files: DataFiles,
  options: EncodeDatasetOptions = {},
): AsyncGenerator<string, void> {
  const { op = OP, labelColumn = "label" } = options;
  let taken: Set<number> | null = null;
  if (SPLIT_NAMES.some((part) => files[part].length === 0)) {
    const labels: Label[] = [];
    const places: RowPlace[] = [];
    for await (const { label, file, unit, at } of streamTexts(files.train, { ...options, op })) {
      labels.push(label!);
      places.push({ file, unit, at });
    }
    const list = {
      length: labels.length,
      label: (i: number) => labels[i]!,
      place: (i: number) => places[i]!,
    };
    const names = options.labelNames ?? (await classNamesOf(files.train, labelColumn ?? "", op));
    const numbered = numberLabels(list, source, op, names);
    taken = new Set(trainIndices(numbered.labels, files, options));
  }
  let index = 0;
  for await (const { text } of streamTexts(files.train, { ...options, op })) {
    if (taken === null || taken.has(index)) yield text;
    index++;
  }
}

/** Those of the training rows that are trained on. */
function trainIndices(labels: Int32Array, files: DataFiles, options: SplitOptions): number[] {
  const own = labels.length;
  // Parts with files of their own stand behind the training rows; one row stands for each of them.
  const [validation, test] = [files.validation, files.test].map((part) => Math.min(1, part.length));
  const all = new Int32Array(own + validation! + test!);
  all.set(labels);
  return splitIndices(all, { train: own, validation: validation! }, options).train;
}
