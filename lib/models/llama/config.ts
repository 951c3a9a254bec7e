// The configuration of a decoder of the LLaMA family: the keys of Hugging Face's config.json that
// change the model, for LLaMA, Mistral and Qwen2.

import { checkOptions } from "../../core/options.js";
import { ArgumentError, describe } from "../../errors.js";
import {
  checkKey,
  completeFile,
  completeNumbers,
  failConfig,
  readNumbers,
  writeNumbers,
  type NumberRules,
} from "../config-numbers.js";
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

// Of the window not every kind of model has a key.
const RULES = {
  vocabSize: { key: "vocab_size", kind: "size" },
  hiddenSize: { key: "hidden_size", kind: "size" },
  intermediateSize: { key: "intermediate_size", kind: "size" },
  numHiddenLayers: { key: "num_hidden_layers", kind: "size" },
  numAttentionHeads: { key: "num_attention_heads", kind: "size" },
  numKeyValueHeads: { key: "num_key_value_heads", kind: "size" },
  headDim: { key: "head_dim", kind: "size" },
  maxPositionEmbeddings: { key: "max_position_embeddings", kind: "size" },
  rmsNormEps: { key: "rms_norm_eps", kind: "spread" },
  ropeTheta: { key: "rope_theta", kind: "spread" },
  initializerRange: { key: "initializer_range", kind: "spread" },
} as const satisfies NumberRules;
const WINDOW = {
  slidingWindow: { key: "sliding_window", kind: "size", nullable: true },
} as const satisfies NumberRules;

/**
 * Fills what is left out: heads of keys and values and their width from the rest, all else with
 * the values of LLaMA 2 7B.
 * @throws ArgumentError for what is out of range or does not fit together.
 */
export function completeConfig(given: Partial<LlamaConfig>): LlamaConfig {
  checkOptions(OP, given, Object.keys(LLAMA_7B));
  const { numAttentionHeads = LLAMA_7B.numAttentionHeads, hiddenSize = LLAMA_7B.hiddenSize } =
    given;
  const base = {
    ...LLAMA_7B,
    numKeyValueHeads: numAttentionHeads,
    headDim: hiddenSize / numAttentionHeads,
  };
  const config = completeNumbers(OP, base, given, { ...RULES, ...WINDOW });
  if (config.headDim % 2 !== 0) fail("headDim to be even", config.headDim);
  if (config.numAttentionHeads % config.numKeyValueHeads !== 0) {
    fail(
      `numKeyValueHeads to divide numAttentionHeads ${config.numAttentionHeads}`,
      config.numKeyValueHeads,
    );
  }
  return config;
}

type Json = Record<string, unknown>;

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
  return (readNumbers(json, file, WINDOW).slidingWindow ?? null) as number | null;
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
  // Newer files have rope_parameters for rope_scaling and rope_theta.
  const rope = objectOf(json, "rope_parameters", file) ?? {
    ...objectOf(json, "rope_scaling", file),
    rope_theta: json.rope_theta,
  };
  const attentionBias = flagOf(json, "attention_bias", file);
  // What is null counts as left out.
  const given = Object.entries({ ...json, rope_theta: rope.rope_theta }).filter(
    ([, value]) => value !== null,
  );
  const config: Partial<LlamaConfig> = {
    rmsNormEps: 1e-6,
    ...readNumbers(Object.fromEntries(given), file, RULES),
    modelType,
    ropeScaling: readScaling(rope, file),
    slidingWindow: readWindow(json, modelType, file),
    qkvBias: modelType === "qwen2" || (modelType === "llama" && attentionBias === true),
    outputBias: modelType === "llama" && attentionBias === true,
    mlpBias: modelType === "llama" && flagOf(json, "mlp_bias", file) === true,
    tieWordEmbeddings: flagOf(json, "tie_word_embeddings", file) ?? false,
  };
  return completeFile(file, config, completeConfig);
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
    ...writeNumbers(config, RULES),
    rope_scaling: writeScaling(config.ropeScaling),
    tie_word_embeddings: config.tieWordEmbeddings,
    ...own[modelType],
  };
}
