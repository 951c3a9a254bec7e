// Data: labelled texts, splits, batches, tokenizers. Re-exports only.

export {
  DataLoader,
  padBatch,
  type DataLoaderOptions,
  type DataLoaderState,
  type PadOptions,
  type Shuffle,
  type TokenBatch,
} from "./data-loader.js";
export { Random, shuffled, type RandomState } from "./random.js";
export {
  selectSamples,
  splitDataset,
  stratifiedSplit,
  type Split,
  type SplitOptions,
} from "./split.js";
export {
  BUILTIN_REVIEWS_FILE,
  loadBuiltinReviews,
  loadTextDataset,
  type TextDataset,
  type TextDatasetOptions,
} from "./text-dataset.js";
export {
  TextTokenizer,
  type EncodeBatchOptions,
  type EncodeOptions,
  type TrainTokenizerOptions,
} from "./tokenizer.js";
export { trainWordPiece, type WordPieceTrainerOptions } from "./wordpiece-trainer.js";
