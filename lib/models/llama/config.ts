// The configuration of a decoder of the LLaMA family: the keys of Hugging Face's config.json that
// change the model, for LLaMA, Mistral and Qwen2.

import { checkOptions } from "../../core/options.js";
import { ArgumentError, describe } from "../../errors.js";
import { checkKey, failConfig } from "../classifier-config.js";
import type { RopeScaling } from "./rope.js";

/** The kinds of model, as `model_type` names them. */
export type LlamaModelType = "llama" | "mistral" | "qwen2";

/** What a decoder of the LLaMA family is made of. */
export interface LlamaConfig {
  modelType: LlamaModelType;
  vocabSize: number;
  hiddenSize: number;
  /** Width of the feed-forward layers. */
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  /** Heads of keys and values; divides `numAttentionHeads`. */
  numKeyValueHeads: number;
  /** Width of one head; even. Left out: `hiddenSize / numAttentionHeads`. */
  headDim: number;
  /** Longest sequence. */
  maxPositionEmbeddings: number;
  rmsNormEps: number;
  ropeTheta: number;
  ropeScaling: RopeScaling | null;
  /** Tokens that a token sees, itself included; null for all before it. */
  slidingWindow: number | null;
  /** Whether queries, keys and values have biases. */
  qkvBias: boolean;
  /** Whether the attention's output has a bias. */
  outputBias: boolean;
  mlpBias: boolean;
  /** Whether the head is the embedding. */
  tieWordEmbeddings: boolean;
  /** Standard deviation of new weights. */
  initializerRange: number;
}

/** LLaMA 2 7B. */
export const LLAMA_7B: Readonly<LlamaConfig> = {
  modelType: "llama",
  vocabSize: 32000,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
  numKeyValueHeads: 32,
  headDim: 128,
  maxPositionEmbeddings: 4096,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  slidingWindow: null,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  tieWordEmbeddings: false,
  initializerRange: 0.02,
};

const OP = "Llama";

function fail(what: string, got: unknown): never {
  throw new ArgumentError(`${OP}: expected ${what}, got ${describe(got)}`, { op: OP });
}

const SIZES = [
  "vocabSize",
  "hiddenSize",
  "intermediateSize",
  "numHiddenLayers",
  "numAttentionHeads",
  "numKeyValueHeads",
  "headDim",
  "maxPositionEmbeddings",
] as const;

/**
 * Fills what is left out: heads of keys and values and their width from the rest, all else with
 * the values of LLaMA 2 7B.
 * @throws ArgumentError for what is out of range or does not fit together.
 */
export function completeConfig(given: Partial<LlamaConfig>): LlamaConfig {
  checkOptions(OP, given, Object.keys(LLAMA_7B));
  const entries = Object.entries<unknown>(given).filter(([, value]) => value !== undefined);
  const config: LlamaConfig = { ...LLAMA_7B, ...Object.fromEntries(entries) };
  if (given.numKeyValueHeads === undefined) config.numKeyValueHeads = config.numAttentionHeads;
  if (given.headDim === undefined) config.headDim = config.hiddenSize / config.numAttentionHeads;
  for (const name of SIZES) {
    const value = config[name];
    if (!Number.isSafeInteger(value) || value < 1) fail(`${name} a whole number above 0`, value);
  }
  if (config.headDim % 2 !== 0) fail("headDim to be even", config.headDim);
  if (config.numAttentionHeads % config.numKeyValueHeads !== 0) {
    fail(
      `numKeyValueHeads to divide numAttentionHeads ${config.numAttentionHeads}`,
      config.numKeyValueHeads,
    );
  }
  const { slidingWindow } = config;
  if (slidingWindow !== null && !(Number.isSafeInteger(slidingWindow) && slidingWindow > 0)) {
    fail("slidingWindow to be null or a whole number above 0", slidingWindow);
  }
  for (const name of ["rmsNormEps", "ropeTheta", "initializerRange"] as const) {
    if (!(config[name] >= 0 && Number.isFinite(config[name]))) {
      fail(`${name} a number from 0 up`, config[name]);
    }
  }
  return config;
}

type Json = Record<string, unknown>;

function numberOf(json: Json, key: string, file: string): number | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number") return value;
  return failConfig(file, `expected ${key} to be a number, got ${JSON.stringify(value)}`);
}

function flagOf(json: Json, key: string, file: string): boolean | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "boolean") return value;
  return failConfig(file, `expected ${key} to be true or false, got ${JSON.stringify(value)}`);
}

/** An object of config.json; null where it is left out. */
function objectOf(json: Json, key: string, file: string): Json | null {
  const value = json[key] ?? null;
  if (typeof value === "object" && !Array.isArray(value)) return value as Json | null;
  return failConfig(file, `expected ${key} to be an object, got ${JSON.stringify(value)}`);
}

function readScaling(scaling: Json, file: string): RopeScaling | null {
  const kind = scaling.rope_type ?? scaling.type;
  const others = Object.keys(scaling).filter((key) => key !== "rope_theta");
  if (kind === "default" || others.length === 0) return null;
  const positive = (key: string): number => {
    const value = scaling[key];
    if (typeof value === "number" && value > 0 && Number.isFinite(value)) return value;
    return failConfig(file, `rope_scaling: expected ${key} above 0, got ${JSON.stringify(value)}`);
  };
  if (kind === "linear" || kind === "dynamic") return { kind, factor: positive("factor") };
  if (kind !== "llama3") {
    return failConfig(
      file,
      `expected rope_scaling of type "default", "linear", "dynamic" or "llama3", got ` +
        JSON.stringify(kind),
    );
  }
  const [low, high] = [positive("low_freq_factor"), positive("high_freq_factor")];
  if (!(low < high)) {
    failConfig(file, `rope_scaling: expected low_freq_factor below ${high}, got ${low}`);
  }
  return {
    kind,
    factor: positive("factor"),
    lowFreqFactor: low,
    highFreqFactor: high,
    originalMaxPositionEmbeddings: positive("original_max_position_embeddings"),
  };
}

/** Layers before `max_window_layers` see all, which no checkpoint of today makes use of. */
function readWindow(json: Json, modelType: LlamaModelType, file: string): number | null {
  if (modelType === "llama") return null;
  if (modelType === "qwen2") {
    if (flagOf(json, "use_sliding_window", file) !== true) return null;
    return failConfig(file, "use_sliding_window true is not supported for qwen2");
  }
  return numberOf(json, "sliding_window", file) ?? null;
}

/**
 * The configuration in a parsed config.json.
 * @throws CheckpointError where it is of another model or asks for what this one does not do.
 */
export function fromHuggingFace(json: Json, file: string): LlamaConfig {
  if (json.model_type === undefined) failConfig(file, "expected a model_type, got none");
  checkKey(json, "model_type", ["llama", "mistral", "qwen2"], file);
  checkKey(json, "hidden_act", ["silu", "swish"], file);
  if (json.quantization_config !== undefined && json.quantization_config !== null) {
    failConfig(file, "quantization_config: quantized weights cannot be read as they are");
  }
  const modelType = json.model_type as LlamaModelType;
  const number = (key: string): number | undefined => numberOf(json, key, file);
  // Newer files have rope_parameters for rope_scaling and rope_theta.
  const rope = objectOf(json, "rope_parameters", file) ?? {
    ...objectOf(json, "rope_scaling", file),
    rope_theta: json.rope_theta,
  };
  const attentionBias = flagOf(json, "attention_bias", file);
  const config: Partial<LlamaConfig> = {
    modelType,
    vocabSize: number("vocab_size"),
    hiddenSize: number("hidden_size"),
    intermediateSize: number("intermediate_size"),
    numHiddenLayers: number("num_hidden_layers"),
    numAttentionHeads: number("num_attention_heads"),
    numKeyValueHeads: number("num_key_value_heads"),
    headDim: number("head_dim"),
    maxPositionEmbeddings: number("max_position_embeddings"),
    rmsNormEps: number("rms_norm_eps") ?? 1e-6,
    ropeTheta: numberOf(rope, "rope_theta", file),
    ropeScaling: readScaling(rope, file),
    slidingWindow: readWindow(json, modelType, file),
    qkvBias: modelType === "qwen2" || (modelType === "llama" && attentionBias === true),
    outputBias: modelType === "llama" && attentionBias === true,
    mlpBias: modelType === "llama" && flagOf(json, "mlp_bias", file) === true,
    tieWordEmbeddings: flagOf(json, "tie_word_embeddings", file) ?? false,
    initializerRange: number("initializer_range"),
  };
  try {
    return completeConfig(config);
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    return failConfig(file, cause.message, cause);
  }
}

const CLASSES = { llama: "Llama", mistral: "Mistral", qwen2: "Qwen2" } as const;

function writeScaling(scaling: RopeScaling | null): Json | null {
  if (scaling === null) return null;
  if (scaling.kind !== "llama3") return { rope_type: scaling.kind, factor: scaling.factor };
  return {
    rope_type: scaling.kind,
    factor: scaling.factor,
    low_freq_factor: scaling.lowFreqFactor,
    high_freq_factor: scaling.highFreqFactor,
    original_max_position_embeddings: scaling.originalMaxPositionEmbeddings,
  };
}

/** The config.json that Hugging Face's libraries read. */
export function toHuggingFace(config: LlamaConfig): Json {
  const { modelType } = config;
  const own: Record<LlamaModelType, Json> = {
    llama: { attention_bias: config.qkvBias, mlp_bias: config.mlpBias },
    mistral: { sliding_window: config.slidingWindow },
    qwen2: { use_sliding_window: false },
  };
  return {
    architectures: [`${CLASSES[modelType]}ForCausalLM`],
    model_type: modelType,
    hidden_act: "silu",
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxPositionEmbeddings,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    rope_scaling: writeScaling(config.ropeScaling),
    tie_word_embeddings: config.tieWordEmbeddings,
    initializer_range: config.initializerRange,
    ...own[modelType],
  };
}
