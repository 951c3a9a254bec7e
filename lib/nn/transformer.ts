// The encoder layer of a transformer, with torch's arguments and weight names.

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { tidy } from "../core/scope.js";
import { ArgumentError } from "../errors.js";
import { add, gelu, relu } from "../ops/index.js";
import { MultiheadAttention } from "./attention.js";
import { Dropout } from "./dropout.js";
import { forwardFinished, Linear } from "./linear.js";
import { Module } from "./module.js";
import { LayerNorm } from "./norm.js";
import type { ParameterOptions } from "./parameter.js";

/** Options of {@link TransformerEncoderLayer}. */
export interface TransformerEncoderLayerOptions extends ParameterOptions {
  /** Width of the feed-forward part; default 2048. */
  dimFeedforward?: number;
  /** Default 0.1. */
  dropout?: number;
  /** Between the two linear layers; default relu. */
  activation?: "relu" | "gelu" | ((x: Tensor) => Tensor);
  /** Default 1e-5. */
  layerNormEps?: number;
  /** Whether inputs are [N, L, E] instead of [L, N, E]; default false. */
  batchFirst?: boolean;
  /** Whether each part normalizes its input, instead of the sum behind it; default false. */
  normFirst?: boolean;
  /** Whether linear layers and norms have biases; default true. */
  bias?: boolean;
}

/**
 * What {@link TransformerEncoderLayer} takes beside the sequence; masks as in MultiheadAttention.
 */
export interface EncoderInputs {
  srcMask?: Tensor | null;
  srcKeyPaddingMask?: Tensor | null;
  isCausal?: boolean;
}

/** The names of activations that a product can apply. */
function fusedActivation(
  given: TransformerEncoderLayerOptions["activation"],
): "relu" | "gelu" | null {
  if (given === undefined) return "relu";
  return typeof given === "string" ? given : null;
}

function activationOf(given: TransformerEncoderLayerOptions["activation"]): (x: Tensor) => Tensor {
  if (given === undefined || given === "relu") return relu;
  if (given === "gelu") return (x) => gelu(x);
  if (typeof given === "function") return given;
  throw new ArgumentError(
    `TransformerEncoderLayer: activation — expected "relu", "gelu" or a function, got ` +
      JSON.stringify(given),
    { op: "TransformerEncoderLayer" },
  );
}

const INPUTS = ["srcMask", "srcKeyPaddingMask", "isCausal"];
const OPTIONS = [
  "dimFeedforward",
  "dropout",
  "activation",
  "layerNormEps",
  "batchFirst",
  "normFirst",
  "bias",
  "dtype",
  "device",
];

/** Self-attention and a feed-forward network, each with a residual connection and a norm. */
export class TransformerEncoderLayer extends Module {
  readonly self_attn: MultiheadAttention;
  readonly linear1: Linear;
  readonly dropout: Dropout;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly dropout1: Dropout;
  readonly dropout2: Dropout;
  readonly normFirst: boolean;
  readonly activation: (x: Tensor) => Tensor;
  private readonly fused: "relu" | "gelu" | null;

  /** @throws ArgumentError for sizes below 1 or `nhead` that does not divide `dModel`. */
  constructor(dModel: number, nhead: number, options: TransformerEncoderLayerOptions = {}) {
    super();
    checkOptions("TransformerEncoderLayer", options, OPTIONS);
    const { dimFeedforward = 2048, dropout = 0.1, bias = true, batchFirst = false } = options;
    const { dtype, device } = options;
    const placed = { bias, dtype, device };
    this.self_attn = new MultiheadAttention(dModel, nhead, { dropout, batchFirst, ...placed });
    this.linear1 = new Linear(dModel, dimFeedforward, placed);
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, placed);
    const eps = options.layerNormEps ?? 1e-5;
    this.norm1 = new LayerNorm(dModel, { eps, ...placed });
    this.norm2 = new LayerNorm(dModel, { eps, ...placed });
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
    this.normFirst = options.normFirst ?? false;
    this.activation = activationOf(options.activation);
    this.fused = fusedActivation(options.activation);
  }

  /** Shape of `src`: [L, N, dModel], or with N first if `batchFirst`, or [L, dModel]. */
  override forward(src: Tensor, inputs: EncoderInputs = {}): Tensor {
    checkOptions("TransformerEncoderLayer", inputs, INPUTS);
    return tidy(() => {
      if (this.normFirst) {
        const x = add(src, this.attend(this.norm1.forward(src), inputs));
        return this.feedForward(this.norm2.forward(x), x);
      }
      const x = this.norm1.forward(add(src, this.attend(src, inputs)));
      return this.norm2.forward(this.feedForward(x, x));
    });
  }

  private attend(x: Tensor, inputs: EncoderInputs): Tensor {
    const [attended] = this.self_attn.forward(x, x, x, {
      attnMask: inputs.srcMask ?? null,
      keyPaddingMask: inputs.srcKeyPaddingMask ?? null,
      isCausal: inputs.isCausal ?? false,
      needWeights: false,
    });
    return this.dropout1.forward(attended);
  }

  /** The feed-forward part of `x`, added to `residual`. */
  private feedForward(x: Tensor, residual: Tensor): Tensor {
    const { linear1, linear2, fused, dropout2 } = this;
    const activated =
      fused === null
        ? this.activation(linear1.forward(x))
        : forwardFinished(linear1, x, { activation: fused });
    const hidden = this.dropout.forward(activated);
    // Of another module than Dropout it is not known.
    if ((dropout2.isActive as boolean | undefined) === false) {
      return forwardFinished(linear2, hidden, { residual });
    }
    return add(residual, dropout2.forward(linear2.forward(hidden)));
  }
}
