// The data of a run: files or the built-in reviews, parted, encoded, and dealt out in batches.

import { readdir, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";

import {
  BUILTIN_REVIEWS_FILE,
  collateTokens,
  DataLoader,
  defaultCacheDirectory,
  encodeDataset,
  findDataFiles,
  isDataFile,
  SPLIT_NAMES,
  trainingTexts,
  type DataFiles,
  type EncodedDataset,
  type EncodeDatasetOptions,
  type LabelledBatch,
  type Split,
  type TextTokenizer,
  type TokenDataset,
  type TokenSample,
} from "../../data/index.js";
import { DataError } from "../../errors.js";
import { openRepo, type HubProgress } from "../../io/hub/index.js";
import { InterruptedError } from "../usage.js";
import type { FinetuneOptions, Padding } from "./options.js";

/** The files of a run and how they are read. */
export interface DataSource {
  /** What the report calls it. */
  readonly source: string;
  readonly files: DataFiles;
  readonly reading: EncodeDatasetOptions;
}

/** Encoded texts. */
export type Samples = Pick<TokenDataset, "get" | "length" | "lengths" | "truncated">;

/** Encoded texts in three parts. */
export interface EncodedData extends Split<Samples> {
  /** Texts that were cut off. */
  readonly truncated: number;
}

/** The options that {@link openData} looks at. */
export type DataOptions = Pick<
  FinetuneOptions,
  | "badRows"
  | "cache"
  | "data"
  | "labelColumn"
  | "seed"
  | "testData"
  | "testShare"
  | "textColumn"
  | "validationData"
  | "validationShare"
  | "workers"
>;

/** Below this the threads cost more time to start than they save. */
const WORTH_THREADS = 8 * 2 ** 20;

/** What a text in a file of its own is taken to be, rather than to look at each of them. */
const TEXT_FILE = 1024;

async function sizeOf(files: DataFiles): Promise<number> {
  let size = 0;
  for (const { kind, path } of SPLIT_NAMES.flatMap((part) => files[part])) {
    if (kind !== "folder") size += (await stat(path)).size;
    else size += TEXT_FILE * (await readdir(path, { recursive: true })).length;
  }
  return size;
}

async function filesOf(options: DataOptions, resolve?: Resolve): Promise<DataFiles> {
  const { data, validationData, testData } = options;
  const op = "finetune";
  const found = await findDataFiles(data ?? BUILTIN_REVIEWS_FILE, { op, resolve });
  const own = async (name: string | null): Promise<DataFiles["train"] | null> =>
    name === null ? null : (await findDataFiles(name, { op, resolve })).train;
  return {
    train: found.train,
    validation: (await own(validationData)) ?? found.validation,
    test: (await own(testData)) ?? found.test,
  };
}

/** Downloads a data set; returns its directory. */
export type Resolve = (name: string) => Promise<string>;

/** Downloads the data files of a data set on the Hugging Face hub. */
export function fromHub(
  onProgress?: (progress: HubProgress) => void,
  signal?: AbortSignal,
): Resolve {
  return async (name) => {
    const repo = await openRepo(name, { repoType: "dataset", onProgress, signal });
    for (const file of repo.files) if (isDataFile(file)) await repo.get(file);
    return repo.directory;
  };
}

/**
 * Finds the data of a run; the same seed parts it in the same way.
 * @param resolve downloads a data set that is no path.
 * @throws DataError where there is none.
 */
export async function openData(
  options: DataOptions,
  signal?: AbortSignal,
  resolve?: Resolve,
): Promise<DataSource> {
  const { data, textColumn, labelColumn, badRows, seed, cache, workers } = options;
  const files = await filesOf(options, resolve);
  const some = Math.max(1, Math.min(4, availableParallelism() - 1));
  const numWorkers = workers ?? ((await sizeOf(files)) < WORTH_THREADS ? 0 : some);
  const reading = {
    op: "finetune",
    textColumn,
    labelColumn,
    badRows,
    seed,
    validation: options.validationShare,
    test: options.testShare,
    numWorkers,
    // The built-in reviews are encoded faster than a cache of them is looked after.
    cacheDirectory: data === null || cache === false ? null : (cache ?? defaultCacheDirectory()),
    onProgress: () => {
      if (signal?.aborted === true) throw new InterruptedError();
    },
  };
  return { source: data ?? "built-in", files, reading };
}

/** The texts that are trained on. */
export function trainingTextsOf({ source, files, reading }: DataSource): AsyncGenerator<string> {
  return trainingTexts(source, files, reading);
}

/**
 * Token ids of all texts.
 * @param headNames the classes of a head that is to be trained on, by id.
 * @param keep whether the ids are worth a cache: those of a new tokenizer are not.
 * @throws DataError where a file is of no use.
 */
export function encodeData(
  { source, files, reading }: DataSource,
  tokenizer: TextTokenizer,
  headNames: readonly string[] | null,
  keep: boolean,
): Promise<EncodedDataset> {
  const options = keep ? reading : { ...reading, cacheDirectory: null };
  return encodeDataset(source, files, tokenizer, { ...options, preferNames: headNames });
}

/**
 * Long samples: each several of one class after the other, as many as fit into `maxLength` tokens.
 * Those that are left over are left out. Each sample has one special token at either end.
 */
export function joinedSamples(samples: Samples, maxLength: number): Samples {
  const joined: TokenSample[] = [];
  const open = new Map<number, number[]>();
  for (let i = 0; i < samples.length; i++) {
    const { ids, label } = samples.get(i);
    const content = Array.from(ids).slice(1, -1);
    const [first, last] = [ids[0]!, ids[ids.length - 1]!];
    const before = open.get(label) ?? [];
    if (before.length > 0 && before.length + content.length + 2 > maxLength) {
      joined.push({ ids: [first, ...before, last], label });
      open.set(label, content);
    } else {
      open.set(label, [...before, ...content]);
    }
  }
  return {
    length: joined.length,
    lengths: Int32Array.from(joined, ({ ids }) => ids.length),
    truncated: 0,
    get: (at) => joined[at]!,
  };
}

/**
 * The samples, cut off at `maxLength` tokens, or joined to that length.
 * @throws DataError where the tokenizer has ids that the model does not.
 */
export function samplesOf(
  encoded: Pick<EncodedDataset, "maxId" | "samples">,
  options: { readonly maxLength: number; readonly vocabSize: number; readonly join?: boolean },
): EncodedData {
  const { maxLength, vocabSize, join = false } = options;
  if (encoded.maxId >= vocabSize) {
    throw new DataError(
      `finetune: token id ${encoded.maxId} of the tokenizer — the model has ${vocabSize} tokens; ` +
        `tokenizer.json and config.json do not belong together`,
      { op: "finetune" },
    );
  }
  const parts = encoded.samples(maxLength);
  const long = (part: Samples): Samples => (join ? joinedSamples(part, maxLength) : part);
  // After the split, so that no text is in two parts.
  const [train, validation, test] = [
    long(parts.train),
    long(parts.validation),
    long(parts.test),
  ] as const;
  const truncated = train.truncated + validation.truncated + test.truncated;
  return { train, validation, test, truncated };
}

/** How {@link batchesOf} makes batches. */
export interface BatchOptions {
  readonly batchSize: number;
  readonly padId: number;
  readonly padding: Padding;
  readonly maxLength: number;
  /** A new order in each epoch, decided by this; left out: always the same. */
  readonly shuffleSeed?: number;
}

/**
 * Batches of samples; one iteration is one epoch. Where a batch is padded to its longest text, texts
 * of about one length come into one batch; where all are padded to one length, the order is any.
 */
export function batchesOf(
  samples: Samples,
  options: BatchOptions,
): DataLoader<TokenSample, LabelledBatch> {
  const { batchSize, padId, padding, maxLength, shuffleSeed } = options;
  const length = padding === "max-length" ? maxLength : undefined;
  return new DataLoader<TokenSample, LabelledBatch>(samples, {
    batchSize,
    shuffle: shuffleSeed !== undefined,
    seed: shuffleSeed ?? 0,
    lengths: padding === "longest" ? samples.lengths : undefined,
    collate: (items) => collateTokens(items, { padId, length }),
  });
}
