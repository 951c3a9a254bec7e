// Labelled texts in memory: a file, or a whole data set in its parts.

import { fileURLToPath } from "node:url";

import { checkLabelNames, numberLabels, type LabelList } from "./classes.js";
import {
  dataFile,
  findDataFiles,
  parquetClassNames,
  SPLIT_NAMES,
  type DataFile,
  type DataFiles,
  type FindOptions,
  type RowPlace,
} from "./sources/index.js";
import { selectSamples, splitIndices, type Split, type SplitOptions } from "./split.js";
import {
  BadRows,
  streamTexts,
  type BadRowReport,
  type Label,
  type TextStreamOptions,
} from "./text-stream.js";

/** Texts with a class each. */
export interface TextDataset {
  readonly texts: readonly string[];
  /** Index into `labelNames`. */
  readonly labels: readonly number[];
  /** Name of each class; `"0"`, `"1"`, … where the file has numbers. */
  readonly labelNames: readonly string[];
}

/** A data set as it was read. */
export interface LoadedTextDataset extends TextDataset {
  /** Rows that were left out. */
  readonly badRows: BadRowReport;
}

/** What to read from a data file. */
export interface TextDatasetOptions extends Omit<TextStreamOptions, "bad" | "labelColumn" | "op"> {
  /** Default: `label`. */
  labelColumn?: string;
  /** The classes that are allowed, in order; default: those that the file has. */
  labelNames?: readonly string[];
}

const OP = "loadTextDataset";

/** Rows of files, with texts and labels apart. */
class Rows implements LabelList {
  readonly texts: string[] = [];
  private readonly labels: Label[] = [];
  private readonly places: RowPlace[] = [];

  get length(): number {
    return this.texts.length;
  }

  label(index: number): Label {
    return this.labels[index]!;
  }

  place(index: number): RowPlace {
    return this.places[index]!;
  }

  async read(files: readonly DataFile[], options: TextStreamOptions): Promise<void> {
    for await (const { text, label, file, unit, at } of streamTexts(files, options)) {
      this.texts.push(text);
      this.labels.push(label!);
      this.places.push({ file, unit, at });
    }
  }
}

/**
 * The names of the classes that the files themselves tell, by number; null where they do not.
 * Only Parquet files that Hugging Face's `datasets` wrote do.
 */
export async function classNamesOf(
  files: readonly DataFile[],
  labelColumn: string,
  op: string,
): Promise<readonly string[] | null> {
  const first = files[0];
  return first?.kind === "parquet" ? parquetClassNames(first.path, labelColumn, op) : null;
}

/**
 * Reads labelled texts from a file in UTF-8: `.csv` or `.tsv` (header line, RFC 4180), `.jsonl`, or
 * `.parquet`. Labels are whole numbers from 0 without gaps, or names, which are numbered in sorted
 * order.
 * @throws DataError where the file cannot be read, is malformed, or has a bad row that is not to be
 * skipped; `FILE, line N` says where.
 * @throws ArgumentError for column names that are equal or empty, or repeated class names.
 */
export async function loadTextDataset(
  file: string,
  options: TextDatasetOptions = {},
): Promise<LoadedTextDataset> {
  const { labelNames, labelColumn = "label" } = options;
  checkLabelNames(labelNames, OP);
  const rows = new Rows();
  const bad = new BadRows();
  const files = [dataFile(file, OP)];
  await rows.read(files, { ...options, bad, op: OP });
  const names = labelNames ?? (await classNamesOf(files, labelColumn, OP));
  const numbered = numberLabels(rows, file, OP, names);
  return {
    texts: rows.texts,
    labels: [...numbered.labels],
    labelNames: numbered.labelNames,
    badRows: bad.report(),
  };
}

/** What to read from a data set, and how to part it. */
export interface TextSplitsOptions extends TextDatasetOptions, SplitOptions, FindOptions {
  /** Files that take the place of those that the data set has, or of a share of its rows. */
  readonly files?: Partial<DataFiles>;
}

/** A data set in its parts. */
export interface LoadedTextSplits extends Split<TextDataset> {
  readonly labelNames: readonly string[];
  readonly badRows: BadRowReport;
}

/**
 * Reads a data set in its parts into memory: what {@link findDataFiles} finds. A part that has no
 * file is taken from the training rows by its share, the same share of each class.
 * @throws as {@link loadTextDataset}.
 */
export async function loadTextSplits(
  source: string,
  options: TextSplitsOptions = {},
): Promise<LoadedTextSplits> {
  const op = "loadTextSplits";
  const { labelNames, labelColumn = "label" } = options;
  checkLabelNames(labelNames, op);
  const files = { ...(await findDataFiles(source, { ...options, op })), ...options.files };
  const rows = new Rows();
  const bad = new BadRows();
  const ends: number[] = [];
  for (const part of SPLIT_NAMES) {
    await rows.read(files[part], { ...options, bad, op });
    ends.push(rows.length);
  }
  const names = labelNames ?? (await classNamesOf(files.train, labelColumn, op));
  const numbered = numberLabels(rows, source, op, names);
  const [toTrain, toValidation] = ends as [number, number];
  const all = { texts: rows.texts, labels: [...numbered.labels], labelNames: numbered.labelNames };
  const sizes = { train: toTrain, validation: toValidation - toTrain };
  const split = splitIndices(all.labels, sizes, options);
  return {
    train: selectSamples(all, split.train),
    validation: selectSamples(all, split.validation),
    test: selectSamples(all, split.test),
    labelNames: numbered.labelNames,
    badRows: bad.report(),
  };
}

/** The reviews that ship with the package; scripts/generate-reviews.mjs makes them. */
export const BUILTIN_REVIEWS_FILE = fileURLToPath(
  // The same from lib/data and from dist/data: the compiler does not copy it.
  new URL("../../lib/data/reviews.csv", import.meta.url),
);

/** The built-in reviews: two classes, negative and positive. */
export function loadBuiltinReviews(): Promise<TextDataset> {
  return loadTextDataset(BUILTIN_REVIEWS_FILE);
}
