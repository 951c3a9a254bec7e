// A classifier of whatever kind a config.json names.

import { checkOptions } from "../core/options.js";
import { CheckpointError } from "../errors.js";
import { loadFound } from "./architecture.js";
import { BERT, type BertForSequenceClassification } from "./bert.js";
import { DISTILBERT, type DistilBertForSequenceClassification } from "./distilbert.js";
import {
  hubOptionsOf,
  PRETRAINED_OPTIONS,
  readPretrained,
  type Pretrained,
  type PretrainedOptions,
} from "./pretrained.js";
import { ROBERTA, type RobertaForSequenceClassification } from "./roberta.js";

/** A classifier of one of the kinds that are known. */
export type AnySequenceClassifier =
  | BertForSequenceClassification
  | DistilBertForSequenceClassification
  | RobertaForSequenceClassification;

const ARCHITECTURES = [DISTILBERT, BERT, ROBERTA] as const;

/** The kind of model that was found. */
function architectureOf({ config, configFile }: Pretrained): (typeof ARCHITECTURES)[number] {
  const { model_type: modelType } = config;
  const found = ARCHITECTURES.find((architecture) => architecture.modelType === modelType);
  if (found !== undefined) return found;
  const known = ARCHITECTURES.map((architecture) => JSON.stringify(architecture.modelType));
  throw new CheckpointError(
    `${configFile}: expected model_type ${known.join(", ")}, got ${JSON.stringify(modelType)}`,
    { op: "fromPretrained" },
  );
}

/** The classes that a model's config.json tells of. */
export interface Classes {
  readonly count: number;
  /** By id; null where config.json has none, or only LABEL_0, … */
  readonly names: readonly string[] | null;
}

/**
 * The classes of a model that was found.
 * @throws CheckpointError where its config.json cannot be used.
 */
export function classesOf(found: Pretrained): Classes {
  const config = architectureOf(found).readConfig(found.config, found.configFile);
  return { count: config.numLabels, names: config.labelNames };
}

/** Loads a model that was found. */
export function loadAny(
  found: Pretrained,
  options: PretrainedOptions,
): Promise<AnySequenceClassifier> {
  const architecture = architectureOf(found);
  // One by one: each has a configuration of its own type.
  if (architecture === DISTILBERT) return loadFound(DISTILBERT, found, options);
  if (architecture === BERT) return loadFound(BERT, found, options);
  return loadFound(ROBERTA, found, options);
}

/** Loads classifiers of the kind that their config.json names. */
export const AutoModelForSequenceClassification = {
  /**
   * A model from a directory with config.json and model.safetensors (or an index of several files),
   * or from the hub: DistilBERT, BERT or RoBERTa.
   * @throws CheckpointError where a file is missing or does not fit or the model is of another
   * kind, HubError where the hub refuses.
   */
  async fromPretrained(
    dirOrRepo: string,
    options: PretrainedOptions = {},
  ): Promise<AnySequenceClassifier> {
    checkOptions("fromPretrained", options, PRETRAINED_OPTIONS);
    return loadAny(await readPretrained(dirOrRepo, hubOptionsOf(options)), options);
  },
};
