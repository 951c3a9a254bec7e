// Decoders of the LLaMA family that predict the next token: LLaMA, TinyLlama, Mistral and Qwen2,
// with Hugging Face's module and weight names, so that its checkpoints load and ours load there.

import { checkOptions } from "../../core/options.js";
import { tidy } from "../../core/scope.js";
import type { Tensor } from "../../core/tensor.js";
import { Linear, Module } from "../../nn/index.js";
import {
  add,
  arange,
  clamp,
  crossEntropy,
  cumsum,
  gt,
  le,
  linear,
  mul,
  narrow,
  ne,
  reshape,
  sub,
  to,
} from "../../ops/index.js";
import { loadModel, type Loading } from "../architecture.js";
import { attentionMaskOf, checkIds, initialize, type Placement } from "../encoder.js";
import type { BodyOptions, LoadReport } from "../pretrained.js";
import { writePretrained, type SaveOptions } from "../save-pretrained.js";
import { completeConfig, fromHuggingFace, toHuggingFace, type LlamaConfig } from "./config.js";
import { Decoder } from "./layers.js";
import { rotationAt } from "./rope.js";

/** What goes into the model beside ids. */
export interface CausalInputs {
  /** [B, L]: 0 or false where a token is padding, on either side. */
  attentionMask?: Tensor | null | undefined;
  /** int64 [B, L], as a rule the ids themselves: a token is asked for its next one; -100: not. */
  labels?: Tensor | null | undefined;
}

/** What the model says. */
export interface CausalOutput {
  /** [B, L, vocabulary]: of the token that follows each. */
  readonly logits: Tensor;
  /** Mean cross-entropy; null without labels. */
  readonly loss: Tensor | null;
}

const NAME = "Llama";

const LOADING: Loading<LlamaConfig, LlamaForCausalLM> = {
  readConfig: fromHuggingFace,
  create: (config, placement) => new LlamaForCausalLM(config, placement),
  mappingOf: ({ tieWordEmbeddings }) => ({
    namesOf: (key) => [key],
    isOptional: () => false,
    // Others keep the frequencies in files, and the head where it is the embedding.
    isDerived: (name) =>
      name.endsWith("rotary_emb.inv_freq") || (tieWordEmbeddings && name === "lm_head.weight"),
  }),
};

/** A LLaMA, Mistral or Qwen2 with its head. Weight names are Hugging Face's. */
export class LlamaForCausalLM extends Module {
  readonly config: LlamaConfig;
  readonly model: Decoder;
  /** null where the embedding is the head. */
  readonly lm_head: Linear | null;
  /** Where the weights came from; null for new ones. */
  loadReport: LoadReport | null = null;

  /**
   * New weights, drawn from the random generator; left out entries are those of LLaMA 2 7B.
   * @throws ArgumentError for sizes that do not fit together.
   */
  constructor(config: Partial<LlamaConfig> = {}, placement: Placement = {}) {
    super();
    this.config = completeConfig(config);
    const { hiddenSize, vocabSize, tieWordEmbeddings } = this.config;
    this.model = new Decoder(this.config, placement);
    this.lm_head = tieWordEmbeddings
      ? null
      : new Linear(hiddenSize, vocabSize, { ...placement, bias: false });
    initialize(this.namedParameters(), this.config);
  }

  /**
   * New weights for a parsed config.json.
   * @throws CheckpointError where it is of another model or asks for what this one does not do.
   */
  static fromConfig(json: Record<string, unknown>, placement: Placement = {}): LlamaForCausalLM {
    return new LlamaForCausalLM(fromHuggingFace(json, "config.json"), placement);
  }

  /**
   * A model from a directory with config.json and model.safetensors (or an index of several files),
   * or from the hub. Tensors are cast while they are read, so that there is never more in memory
   * than the model and two pieces of a tensor.
   * @throws CheckpointError where a file is missing or does not fit, HubError where the hub
   * refuses.
   */
  static async fromPretrained(
    dirOrRepo: string,
    options: BodyOptions = {},
  ): Promise<LlamaForCausalLM> {
    const { model, report } = await loadModel(LOADING, dirOrRepo, options);
    model.loadReport = report;
    return model;
  }

  /**
   * Writes config.json and the weights, as Hugging Face's libraries read them.
   * @returns the names of the files.
   * @throws CheckpointError where they cannot be written.
   */
  saveAs(directory: string, options: SaveOptions = {}): Promise<string[]> {
    return writePretrained(directory, toHuggingFace(this.config), this, options);
  }

  /**
   * The logits of the token after each of `ids` [B, L].
   * @throws ShapeError for ids of another rank, or longer than the model's positions, or for a mask
   * or labels of another shape.
   */
  override forward(ids: Tensor, inputs: CausalInputs = {}): CausalOutput {
    checkOptions(NAME, inputs, ["attentionMask", "labels"]);
    const { attentionMask = null, labels = null } = inputs;
    const { maxPositionEmbeddings, ropeScaling } = this.config;
    // Dynamic scaling is there for what is longer.
    const longest = ropeScaling?.kind === "dynamic" ? Infinity : maxPositionEmbeddings;
    checkIds(NAME, ids, longest, { "attention mask": attentionMask, labels });
    return tidy(() => {
      const present = attentionMask === null ? null : ne(attentionMask, 0);
      const length = ids.shape[1]!;
      const index = arange(0, length, 1, { dtype: "int64", device: ids.device });
      const positions =
        present === null
          ? reshape(index, [1, length])
          : clamp(sub(cumsum(present, 1), 1), { min: 0 });
      const rotation = rotationAt(positions, length, this.config, ids.device);
      const hidden = this.model.forward(ids, { rotation, mask: this.maskOf(index, present) });
      const logits =
        this.lm_head === null
          ? linear(hidden, this.model.embed_tokens.weight)
          : this.lm_head.forward(hidden);
      return { logits, loss: labels === null ? null : lossOf(logits, labels) };
    });
  }

  /** Which keys each query sees; null where that is all up to itself. */
  private maskOf(index: Tensor, present: Tensor | null): Tensor | null {
    const length = index.shape[0]!;
    const { slidingWindow } = this.config;
    const slides = slidingWindow !== null && slidingWindow < length;
    if (present === null && !slides) return null;
    const row = reshape(index, [length, 1]);
    let seen = le(index, row);
    if (slides) seen = mul(seen, gt(add(index, slidingWindow), row));
    if (present !== null) seen = mul(seen, attentionMaskOf(present)!);
    return reshape(seen, [present?.shape[0] ?? 1, 1, length, length]);
  }
}

function lossOf(logits: Tensor, labels: Tensor): Tensor {
  const [batch, length, classes] = logits.shape as [number, number, number];
  const rows = batch * (length - 1);
  return crossEntropy(
    reshape(narrow(logits, 1, 0, length - 1), [rows, classes]),
    reshape(narrow(to(labels, "int64"), 1, 1, length - 1), [rows]),
  );
}
