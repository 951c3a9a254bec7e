// Loading a model of any kind: what a kind has to tell, and what is the same for all.

import { withoutInitialization } from "../core/context.js";
import { checkOptions } from "../core/options.js";
import type { Module } from "../nn/index.js";
import { ArgumentError } from "../errors.js";
import type { SequenceClassifier } from "./classifier.js";
import type { ClassifierConfig } from "./classifier-config.js";
import { initialize, type InitializerOptions, type Placement } from "./encoder.js";
import {
  BODY_OPTIONS,
  dtypeOf,
  hubOptionsOf,
  loadInto,
  PRETRAINED_OPTIONS,
  readPretrained,
  type BodyOptions,
  type KeyMapping,
  type LoadReport,
  type Pretrained,
  type PretrainedOptions,
} from "./pretrained.js";

/** What new weights are drawn by. */
interface EncoderConfig extends ClassifierConfig {
  readonly initializerRange: number;
  readonly padTokenId: number;
}

/** One kind of model. */
export interface Architecture<C extends EncoderConfig, M extends SequenceClassifier<C>> {
  /** The `model_type` of config.json. */
  readonly modelType: string;
  /** What the names of the body's weights begin with in a classifier. */
  readonly prefix: string;
  /** Throws CheckpointError where config.json is of another kind, or asks for too much. */
  readConfig(json: Record<string, unknown>, file: string): C;
  create(config: C, placement: Placement): M;
  /** Whether a weight belongs to the head, which a checkpoint before fine-tuning lacks. */
  isHead(key: string): boolean;
}

/** The names that a body's weight may have in a file. */
function bodyNames(prefix: string, key: string): string[] {
  return key.startsWith(`${prefix}.`)
    ? [key, key.slice(prefix.length + 1)]
    : [`${prefix}.${key}`, key];
}

/**
 * Loads a classifier whose files were found.
 * @throws CheckpointError where a file is missing or does not fit.
 */
export async function loadFound<C extends EncoderConfig, M extends SequenceClassifier<C>>(
  architecture: Architecture<C, M>,
  found: Pretrained,
  options: PretrainedOptions,
): Promise<M> {
  const { labelNames, newHead = false, ignoreMismatchedSizes, dtype, device } = options;
  const config = architecture.readConfig(found.config, found.configFile);
  const numLabels = labelNames?.length ?? options.numLabels ?? config.numLabels;
  if (options.numLabels !== undefined && numLabels !== options.numLabels) {
    throw new ArgumentError(
      `fromPretrained: expected ${options.numLabels} labelNames, got ${numLabels}`,
      { op: "fromPretrained" },
    );
  }
  if (numLabels !== config.numLabels) config.labelNames = null;
  config.numLabels = numLabels;
  if (labelNames !== undefined) config.labelNames = [...labelNames];
  const placement = { dtype: dtype ?? dtypeOf(found), device };
  const model = withoutInitialization(() => architecture.create(config, placement));
  const isHead = (key: string): boolean => architecture.isHead(key);
  model.loadReport = await loadInto(
    model,
    found,
    {
      namesOf: (key) => {
        if (!isHead(key)) return bodyNames(architecture.prefix, key);
        return newHead ? [] : [key];
      },
      // The pooler is no part of what a masked language model is trained with.
      isOptional: (key) => isHead(key) || isPooler(key),
      ignoreMismatchedSizes,
    },
    (drawn) => {
      initialize(drawn, config);
    },
  );
  return model;
}

const isPooler = (key: string): boolean => /(^|\.)pooler\./.test(key);

/** Finds and loads a classifier. */
export async function loadClassifier<C extends EncoderConfig, M extends SequenceClassifier<C>>(
  architecture: Architecture<C, M>,
  source: string,
  options: PretrainedOptions,
): Promise<M> {
  checkOptions("fromPretrained", options, PRETRAINED_OPTIONS);
  return loadFound(architecture, await readPretrained(source, hubOptionsOf(options)), options);
}

/** What {@link loadModel} has to know of a kind of model. */
export interface Loading<C extends InitializerOptions, M extends Module> {
  /** Throws CheckpointError where config.json is of another kind, or asks for too much. */
  readConfig(json: Record<string, unknown>, file: string): C;
  create(config: C, placement: Placement): M;
  mappingOf(config: C): KeyMapping;
}

/** Finds and loads a model that is not a classifier, and tells what did not fit. */
export async function loadModel<C extends InitializerOptions, M extends Module>(
  loading: Loading<C, M>,
  source: string,
  options: BodyOptions,
): Promise<{ model: M; report: LoadReport }> {
  checkOptions("fromPretrained", options, BODY_OPTIONS);
  const found = await readPretrained(source, hubOptionsOf(options));
  const { dtype = dtypeOf(found), device } = options;
  const config = loading.readConfig(found.config, found.configFile);
  const model = withoutInitialization(() => loading.create(config, { dtype, device }));
  const report = await loadInto(model, found, loading.mappingOf(config), (drawn) => {
    initialize(drawn, config);
  });
  return { model, report };
}

/** Finds and loads the body of a model. */
export async function loadBody<C extends EncoderConfig, M extends Module>(
  architecture: Pick<Architecture<C, SequenceClassifier<C>>, "prefix" | "readConfig">,
  create: (config: C, placement: Placement) => M,
  source: string,
  options: BodyOptions,
): Promise<M> {
  const loading: Loading<C, M> = {
    readConfig: (json, file) => architecture.readConfig(json, file),
    create,
    mappingOf: () => ({
      namesOf: (key) => bodyNames(architecture.prefix, key),
      isOptional: isPooler,
    }),
  };
  return (await loadModel(loading, source, options)).model;
}
