// The data of a run: texts from a file or built in, split, encoded, and dealt out in batches.

import {
  DataLoader,
  loadBuiltinReviews,
  loadTextDataset,
  padBatch,
  shuffled,
  splitDataset,
  type Random,
  type Split,
  type TextDataset,
  type TextTokenizer,
  type TokenBatch,
} from "../../data/index.js";
import { DataError } from "../../errors.js";
import type { FinetuneOptions, Padding } from "./options.js";

/** Shares that are not trained on; a large test set tells precisions from chance. */
const SHARES = { validation: 0.1, test: 0.3 };

/** Texts in three parts. */
export interface SplitTexts extends Split<TextDataset> {
  /** What the report calls it. */
  readonly source: string;
  readonly labelNames: readonly string[];
}

/** One text. */
export interface Sample {
  readonly ids: readonly number[];
  readonly label: number;
}

/** Encoded texts in three parts. */
export interface EncodedData extends Split<readonly Sample[]> {
  /** Texts that were cut off. */
  readonly truncated: number;
}

/** A padded batch with its labels. */
export interface Batch extends TokenBatch {
  readonly labels: Int32Array;
}

/** Numbers the classes as a trained head does, where it knows just these names. */
export function numberClassesAs(names: readonly string[], dataset: TextDataset): TextDataset {
  const { labelNames, labels } = dataset;
  const ids = labelNames.map((name) => names.indexOf(name));
  if (names.length !== labelNames.length || ids.includes(-1)) return dataset;
  return { ...dataset, labels: labels.map((label) => ids[label]!), labelNames: names };
}

/** Words of a long text: with punctuation and parts of words about 512 tokens or a few less. */
const LONG_TEXT_WORDS = 400;

/** Texts of at least `words` words, each several texts of one class after the other. */
export function joinedTexts(dataset: TextDataset, words = LONG_TEXT_WORDS): TextDataset {
  const texts: string[] = [];
  const labels: number[] = [];
  dataset.labelNames.forEach((_, label) => {
    let parts: string[] = [];
    let length = 0;
    dataset.texts.forEach((text, i) => {
      if (dataset.labels[i] !== label) return;
      parts.push(text);
      length += text.split(" ").length;
      if (length < words) return;
      texts.push(parts.join(" "));
      labels.push(label);
      parts = [];
      length = 0;
    });
  });
  return { ...dataset, texts, labels };
}

/**
 * Reads and splits the texts; the same seed gives the same split. With `full` the built-in reviews
 * are joined to long texts.
 * @param headNames the classes of a head that is to be trained on, by id.
 * @throws DataError where the file is of no use.
 */
export async function loadTexts(
  options: Pick<FinetuneOptions, "data" | "textColumn" | "labelColumn" | "seed"> & {
    readonly full?: boolean;
  },
  headNames: readonly string[] | null = null,
): Promise<SplitTexts> {
  const { data, textColumn, labelColumn, seed } = options;
  const read =
    data === null
      ? await loadBuiltinReviews()
      : await loadTextDataset(data, { textColumn, labelColumn });
  const dataset = headNames === null ? read : numberClassesAs(headNames, read);
  const { labelNames } = dataset;
  const parts = splitDataset(dataset, { ...SHARES, seed });
  if (data !== null || options.full !== true)
    return { source: data ?? "built-in", labelNames, ...parts };
  // After the split, so that no review is in two parts.
  const [train, validation, test] = [parts.train, parts.validation, parts.test].map((part) =>
    joinedTexts(part),
  );
  const source = "built-in, joined to long texts";
  return { source, labelNames, train: train!, validation: validation!, test: test! };
}

/**
 * Token ids of all texts, cut off at `maxLength` tokens.
 * @throws DataError where the tokenizer has ids that the model does not.
 */
export function encodeTexts(
  texts: Split<TextDataset>,
  tokenizer: TextTokenizer,
  options: { readonly maxLength: number; readonly vocabSize: number },
): EncodedData {
  const { maxLength, vocabSize } = options;
  let truncated = 0;
  const encode = (part: TextDataset): Sample[] =>
    part.texts.map((text, index) => {
      // One token more shows whether something is cut off.
      const all = tokenizer.encode(text, { maxLength: maxLength + 1 });
      const cut = all.length > maxLength;
      if (cut) truncated++;
      const ids = cut ? tokenizer.encode(text, { maxLength }) : all;
      const outside = ids.find((id) => id >= vocabSize);
      if (outside !== undefined) {
        throw new DataError(
          `finetune: token id ${outside} of the tokenizer — the model has ${vocabSize} tokens; ` +
            `tokenizer.json and config.json do not belong together`,
          { op: "finetune" },
        );
      }
      return { ids, label: part.labels[index]! };
    });
  const [train, validation, test] = [texts.train, texts.validation, texts.test].map(encode);
  return { train: train!, validation: validation!, test: test!, truncated };
}

/** How {@link batchesOf} makes batches. */
export interface BatchOptions {
  readonly batchSize: number;
  readonly padId: number;
  readonly padding: Padding;
  readonly maxLength: number;
  /** A new order in each epoch, decided by this; left out: the longest first. */
  readonly shuffleSeed?: number;
}

/** Texts are sorted by length within this many batches. */
const GROUPED_BATCHES = 16;

const longestFirst = (samples: readonly Sample[]): Sample[] =>
  [...samples].sort((a, b) => b.ids.length - a.ids.length);

/**
 * A random order in which texts of about one length stand in one batch, so that little is padding:
 * shuffled, sorted by length within groups of batches, and the batches shuffled. A batch that is not
 * full stays the last.
 */
export function groupedByLength(
  samples: readonly Sample[],
  batchSize: number,
  random: Random,
): Sample[] {
  const order = shuffled(samples, random);
  const group = GROUPED_BATCHES * batchSize;
  const sorted = Array.from({ length: Math.ceil(order.length / group) }, (_, i) =>
    longestFirst(order.slice(i * group, (i + 1) * group)),
  ).flat();
  const full = Math.floor(sorted.length / batchSize);
  const batches = Array.from({ length: full }, (_, i) =>
    sorted.slice(i * batchSize, (i + 1) * batchSize),
  );
  return [...shuffled(batches, random).flat(), ...sorted.slice(full * batchSize)];
}

/** Batches of samples; one iteration is one epoch. */
export function batchesOf(
  samples: readonly Sample[],
  options: BatchOptions,
): DataLoader<Sample, Batch> {
  const { batchSize, padId, padding, maxLength, shuffleSeed } = options;
  const length = padding === "max-length" ? maxLength : undefined;
  const train = shuffleSeed !== undefined;
  return new DataLoader<Sample, Batch>(train ? samples : longestFirst(samples), {
    batchSize,
    shuffle: train && ((all, random) => groupedByLength(all, batchSize, random)),
    seed: shuffleSeed ?? 0,
    collate: (items) => ({
      ...padBatch(
        items.map(({ ids }) => ids),
        { padId, length },
      ),
      labels: Int32Array.from(items, ({ label }) => label),
    }),
  });
}
