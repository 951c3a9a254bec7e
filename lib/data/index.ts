// Data: labelled texts, splits, batches, tokenizers. Re-exports only.

export { describePlace, findDataFiles, isDataFile, SPLIT_NAMES } from "./sources/index.js";
export type {
  BadRow,
  DataFile,
  DataFiles,
  FileKind,
  FindOptions,
  RowPlace,
  SplitName,
} from "./sources/index.js";
export {
  BadRows,
  describeBadRows,
  streamTexts,
  type BadRowPolicy,
  type BadRowReport,
  type Label,
  type TextRow,
  type TextStreamOptions,
} from "./text-stream.js";
export {
  DataLoader,
  type DataLoaderOptions,
  type DataLoaderState,
  type Dataset,
  type Shuffle,
} from "./data-loader.js";
export {
  collateTokens,
  padBatch,
  type LabelledBatch,
  type PadOptions,
  type TokenBatch,
  type TokenSample,
} from "./collate.js";
export { batchTensors, type BatchTensors } from "./batch-tensors.js";
export { collateTexts, type CollateTextsOptions, type TextSample } from "./text-task.js";
export type { WorkerTask } from "./worker-pool.js";
export {
  defaultCacheDirectory,
  encodeFile,
  type EncodedFile,
  type EncodeFileOptions,
} from "./token-cache.js";
export type { TokenStore } from "./token-store.js";
export {
  encodeDataset,
  TokenDataset,
  trainingTexts,
  type EncodedDataset,
  type EncodeDatasetOptions,
} from "./token-dataset.js";
export { groupedByLength } from "./order.js";
export { Random, shuffled, type RandomState } from "./random.js";
export {
  selectSamples,
  splitDataset,
  splitIndices,
  stratifiedSplit,
  type Split,
  type SplitOptions,
} from "./split.js";
export {
  BUILTIN_REVIEWS_FILE,
  loadBuiltinReviews,
  loadTextDataset,
  loadTextSplits,
  type LoadedTextDataset,
  type LoadedTextSplits,
  type TextDataset,
  type TextDatasetOptions,
  type TextSplitsOptions,
} from "./text-dataset.js";
export {
  TextTokenizer,
  WordCounts,
  type EncodeBatchOptions,
  type EncodeOptions,
  type TokenizerDefinition,
  type TrainTokenizerOptions,
} from "./tokenizer.js";
export { trainWordPiece, type WordPieceTrainerOptions } from "./wordpiece-trainer.js";
