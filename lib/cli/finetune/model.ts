// The model and tokenizer of a run: from a directory, or small and new.

import { stat } from "node:fs/promises";

import { TextTokenizer, WordCounts } from "../../data/index.js";
import type { Device } from "../../dtype.js";
import { CheckpointError } from "../../errors.js";
import { DistilBertForSequenceClassification } from "../../models/distilbert.js";
import { fromHuggingFace, type DistilBertConfig } from "../../models/distilbert-config.js";
import { readPretrained } from "../../models/pretrained.js";
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

const DEFAULT_LENGTH = { builtin: 64, pretrained: 128 };

/** A model that can be made anew for each run, and what goes with it. */
export interface ModelPlan {
  /** What the report calls it. */
  readonly source: string;
  readonly tokenizer: TextTokenizer;
  readonly config: DistilBertConfig;
  readonly parameters: number;
  readonly maxLength: number;
  /** How many classes a trained head had that did not fit and is drawn anew; else null. */
  readonly replacedHead: number | null;
  /** float32 weights; new ones are drawn from the random generator. */
  readonly create: () => Promise<DistilBertForSequenceClassification>;
}

type PlanOptions = Pick<FinetuneOptions, "model" | "maxLength">;

async function requireDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => null);
  if (found?.isDirectory() === true) return;
  const what = found === null ? "no such directory" : "not a directory";
  throw new CheckpointError(`--model ${directory}: ${what}`, { op: "finetune" });
}

/** The head of a trained model. */
export interface Head {
  readonly classes: number;
  /** By id; null where config.json has none, or only LABEL_0, …. */
  readonly names: readonly string[] | null;
}

/**
 * The head that a model's config.json tells of.
 * @throws CheckpointError where the file is missing or broken.
 */
export async function readHead(directory: string): Promise<Head> {
  await requireDirectory(directory);
  const { config, configFile } = await readPretrained(directory);
  const classes = fromHuggingFace(config, configFile).numLabels;
  const map: unknown = config.id2label;
  const names = Array.from({ length: classes }, (_, id) =>
    map !== null && typeof map === "object" ? (map as Record<string, unknown>)[id] : null,
  );
  const usable = names.every((name) => typeof name === "string" && !/^LABEL_\d+$/.test(name));
  return { classes, names: usable ? (names as string[]) : null };
}

function countParameters(model: DistilBertForSequenceClassification): number {
  return model.parameters().reduce((sum, { numel }) => sum + numel, 0);
}

/**
 * The model's tokenizer, or one that is trained from texts.
 * @throws DataError where a file is missing or broken.
 */
export async function planTokenizer(
  options: PlanOptions,
  texts: () => AsyncIterable<string>,
): Promise<TextTokenizer> {
  if (options.model !== null) return TextTokenizer.fromDirectory(options.model);
  const words = new WordCounts();
  for await (const text of texts()) words.add(text);
  return TextTokenizer.fromWordCounts(words, {
    vocabSize: BUILTIN_VOCABULARY,
    modelMaxLength: options.maxLength ?? DEFAULT_LENGTH.builtin,
  });
}

async function pretrainedPlan(
  directory: string,
  options: PlanOptions,
  tokenizer: TextTokenizer,
  numLabels: number,
  device: Device,
): Promise<ModelPlan> {
  const head = await readHead(directory);
  const newHead = head.classes !== numLabels;
  const create = (): Promise<DistilBertForSequenceClassification> =>
    DistilBertForSequenceClassification.fromPretrained(directory, {
      numLabels,
      newHead,
      dtype: "float32",
      device,
    });
  // Read once before any work is done, so that a broken file is found now.
  const model = await create();
  const { config } = model;
  const parameters = countParameters(model);
  model.dispose();
  const most = config.maxPositionEmbeddings;
  const maxLength = options.maxLength ?? Math.min(DEFAULT_LENGTH.pretrained, most);
  if (maxLength > most) {
    throw new UsageError(
      `--max-length: expected at most ${most}, the positions of ${directory}, got ${maxLength}`,
    );
  }
  const replacedHead = newHead ? head.classes : null;
  return { source: directory, tokenizer, config, parameters, maxLength, replacedHead, create };
}

function builtinPlan(
  options: PlanOptions,
  tokenizer: TextTokenizer,
  numLabels: number,
  device: Device,
): ModelPlan {
  const maxLength = options.maxLength ?? DEFAULT_LENGTH.builtin;
  const sizes = {
    ...BUILTIN_MODEL,
    vocabSize: tokenizer.vocabSize,
    maxPositionEmbeddings: maxLength,
    padTokenId: tokenizer.padId,
    numLabels,
  };
  const make = (): DistilBertForSequenceClassification =>
    new DistilBertForSequenceClassification(sizes, { device });
  const model = make();
  const { config } = model;
  const parameters = countParameters(model);
  model.dispose();
  return {
    source: "built-in",
    tokenizer,
    config,
    parameters,
    maxLength,
    replacedHead: null,
    create: () => Promise.resolve(make()),
  };
}

/**
 * The plan that the options ask for.
 * @throws UsageError for a `--max-length` beyond the model's, CheckpointError or DataError where a
 * file of the model is missing or broken.
 */
export function planModel(
  options: PlanOptions,
  tokenizer: TextTokenizer,
  numLabels: number,
  device: Device,
): Promise<ModelPlan> {
  return options.model === null
    ? Promise.resolve(builtinPlan(options, tokenizer, numLabels, device))
    : pretrainedPlan(options.model, options, tokenizer, numLabels, device);
}
