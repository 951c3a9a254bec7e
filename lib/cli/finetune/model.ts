// The model and tokenizer of a run: from a directory or the hub, or small and new.

import { TextTokenizer, WordCounts } from "../../data/index.js";
import type { Device } from "../../dtype.js";
import type { HubProgress } from "../../io/hub/index.js";
import { classesOf, loadAny, type Classes } from "../../models/auto.js";
import { DISTILBERT_BASE } from "../../models/distilbert-config.js";
import {
  DistilBertForSequenceClassification,
  type ClassifierConfig,
  type DistilBertConfig,
  type EncoderFacts,
  type LoadReport,
  type SequenceClassifier,
} from "../../models/index.js";
import { readPretrained, type Pretrained } from "../../models/pretrained.js";
import { UsageError } from "../usage.js";
import type { FinetuneOptions } from "./options.js";

/** The built-in model: large enough to learn the built-in reviews, small enough for two cores. */
export const BUILTIN_MODEL = {
  dim: 64,
  nLayers: 2,
  nHeads: 4,
  hiddenDim: 128,
  dropout: 0.2,
  attentionDropout: 0.2,
  seqClassifDropout: 0.2,
} as const satisfies Partial<DistilBertConfig>;

/** Entries at most of the vocabulary that is trained from the data. */
const BUILTIN_VOCABULARY = 1000;

const DEFAULT_LENGTH = {
  builtin: 64,
  pretrained: 128,
  full: DISTILBERT_BASE.maxPositionEmbeddings,
};

/** A model that can be made anew for each run, and what goes with it. */
export interface ModelPlan {
  /** What the report calls it. */
  readonly source: string;
  readonly tokenizer: TextTokenizer;
  readonly encoder: EncoderFacts;
  readonly config: Readonly<ClassifierConfig>;
  readonly parameters: number;
  readonly maxLength: number;
  /** How many classes a trained head had that did not fit and is drawn anew; else null. */
  readonly replacedHead: number | null;
  /** What else is worth knowing of where it came from. */
  readonly notes: readonly string[];
  /** float32 weights; new ones are drawn from the random generator. */
  readonly create: () => Promise<SequenceClassifier>;
}

type PlanOptions = Pick<FinetuneOptions, "model" | "revision" | "full" | "maxLength">;

/** A model that is there already: its files, and the classes of its head. */
export interface FoundModel {
  readonly files: Pretrained;
  readonly classes: Classes;
}

/**
 * Finds the model that `--model` names, and downloads it where it is on the hub and not in the
 * cache; null without `--model`.
 * @throws CheckpointError where a file is missing or broken, HubError where the hub refuses.
 */
export async function findModel(
  options: PlanOptions,
  onProgress: (progress: HubProgress) => void,
  signal: AbortSignal | undefined,
): Promise<FoundModel | null> {
  const { model, revision } = options;
  if (model === null) return null;
  const files = await readPretrained(model, {
    revision: revision ?? undefined,
    onProgress,
    signal,
  });
  return { files, classes: classesOf(files) };
}

function countParameters(model: SequenceClassifier): number {
  return model.parameters().reduce((sum, { numel }) => sum + numel, 0);
}

function listed(keys: readonly string[]): string {
  return keys.length > 4
    ? `${keys.slice(0, 4).join(", ")} and ${keys.length - 4} more`
    : keys.join(", ");
}

/** What a user of Hugging Face's tools is told at this point. */
function notesOf(report: LoadReport, replaced: boolean): string[] {
  const { notice, commit, missingKeys, unexpectedKeys } = report;
  const notes: string[] = [];
  if (notice !== null) notes.push(notice);
  else if (commit !== null) notes.push(`from the hub, commit ${commit}`);
  if (missingKeys.length > 0 && !replaced) {
    notes.push(`not in the checkpoint, and drawn anew: ${listed(missingKeys)}`);
  }
  if (unexpectedKeys.length > 0 && !replaced) {
    notes.push(`in the checkpoint, and of no use: ${listed(unexpectedKeys)}`);
  }
  return notes;
}

/** The length that samples are cut off at where the model has no say in it. */
function builtinLength({ full, maxLength }: PlanOptions): number {
  return maxLength ?? DEFAULT_LENGTH[full ? "full" : "builtin"];
}

/**
 * The model's tokenizer, or one that is trained from texts.
 * @throws DataError where a file is missing or broken.
 */
export async function planTokenizer(
  options: PlanOptions,
  found: FoundModel | null,
  texts: () => AsyncIterable<string>,
): Promise<TextTokenizer> {
  if (found !== null) return TextTokenizer.fromDirectory(found.files.directory);
  const words = new WordCounts();
  for await (const text of texts()) words.add(text);
  return TextTokenizer.fromWordCounts(words, {
    vocabSize: options.full ? DISTILBERT_BASE.vocabSize : BUILTIN_VOCABULARY,
    modelMaxLength: builtinLength(options),
  });
}

async function pretrainedPlan(
  options: PlanOptions,
  { files, classes }: FoundModel,
  tokenizer: TextTokenizer,
  labelNames: readonly string[],
  device: Device,
): Promise<ModelPlan> {
  const { source } = files;
  const newHead = classes.count !== labelNames.length;
  const create = (): Promise<SequenceClassifier> =>
    loadAny(files, { labelNames, newHead, dtype: "float32", device });
  // Read once before any work is done, so that a broken file is found now.
  const model = await create();
  const { config, encoder, loadReport } = model;
  const parameters = countParameters(model);
  model.dispose();
  const most = encoder.maxLength;
  const maxLength = options.maxLength ?? Math.min(DEFAULT_LENGTH.pretrained, most);
  if (maxLength > most) {
    throw new UsageError(
      `--max-length: expected at most ${most}, the positions of ${source}, got ${maxLength}`,
    );
  }
  const replacedHead = newHead ? classes.count : null;
  const notes = notesOf(loadReport!, newHead);
  const made = { source, tokenizer, encoder, config, parameters, maxLength };
  return { ...made, replacedHead, notes, create };
}

function builtinPlan(
  options: PlanOptions,
  tokenizer: TextTokenizer,
  labelNames: readonly string[],
  device: Device,
): ModelPlan {
  const { full } = options;
  const maxLength = builtinLength(options);
  const ofData = { padTokenId: tokenizer.padId, numLabels: labelNames.length, labelNames };
  const { vocabSize, maxPositionEmbeddings } = DISTILBERT_BASE;
  const sizes: Partial<DistilBertConfig> = full
    ? {
        ...ofData,
        // Few texts fill no vocabulary of this size; the model has it all the same.
        vocabSize,
        maxPositionEmbeddings: Math.max(maxPositionEmbeddings, maxLength),
      }
    : {
        ...BUILTIN_MODEL,
        ...ofData,
        vocabSize: tokenizer.vocabSize,
        maxPositionEmbeddings: maxLength,
      };
  const make = (): SequenceClassifier => new DistilBertForSequenceClassification(sizes, { device });
  const model = make();
  const { config, encoder } = model;
  const parameters = countParameters(model);
  model.dispose();
  const source = full ? "built-in, full size" : "built-in";
  const made = { source, tokenizer, encoder, config, parameters, maxLength };
  return { ...made, replacedHead: null, notes: [], create: () => Promise.resolve(make()) };
}

/**
 * The plan that the options ask for.
 * @throws UsageError for a `--max-length` beyond the model's, CheckpointError or DataError where a
 * file of the model is missing or broken.
 */
export function planModel(
  options: PlanOptions,
  found: FoundModel | null,
  tokenizer: TextTokenizer,
  labelNames: readonly string[],
  device: Device,
): Promise<ModelPlan> {
  return found === null
    ? Promise.resolve(builtinPlan(options, tokenizer, labelNames, device))
    : pretrainedPlan(options, found, tokenizer, labelNames, device);
}
