// Multi-head attention with torch's arguments and weight names.

import { checkOptions } from "../core/options.js";
import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { checkTensor } from "../ops/checks.js";
import {
  add,
  arange,
  dropout,
  gt,
  linear,
  matmul,
  mean,
  mul,
  narrow,
  reshape,
  scaledDotProductAttention,
  softmax,
  squeeze,
  to,
  transpose,
  unsqueeze,
  where,
  zeros,
} from "../ops/index.js";
import { formatShape, sameShape, type Shape } from "../shape.js";
import { checkCount, checkProbability } from "./checks.js";
import * as init from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { newParameter, type Parameter, type ParameterOptions } from "./parameter.js";

/** Options of {@link MultiheadAttention}. */
export interface MultiheadAttentionOptions extends ParameterOptions {
  /** Probability with which an attention weight is dropped in training; default 0. */
  dropout?: number;
  /** Whether the projections have biases; default true. */
  bias?: boolean;
  /** Width of the keys; default `embedDim`. */
  kdim?: number;
  /** Width of the values; default `embedDim`. */
  vdim?: number;
  /** Whether inputs are [N, L, E] instead of [L, N, E]; default false. */
  batchFirst?: boolean;
}

/** What {@link MultiheadAttention} takes beside queries, keys and values. */
export interface AttentionInputs {
  /** [N, S] (or [S] without a batch): true where a key is hidden, or floats added to the scores. */
  keyPaddingMask?: Tensor | null;
  /** [L, S] or [N * numHeads, L, S]: true where a score is hidden, or floats added to it. */
  attnMask?: Tensor | null;
  /** Whether the weights are wanted too, which is slower; default true. */
  needWeights?: boolean;
  /** Whether the weights are averaged over the heads; default true. */
  averageAttnWeights?: boolean;
  /** Hides from row i the columns after i; default false. */
  isCausal?: boolean;
}

interface Sizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
}

const NAME = "MultiheadAttention";
const OPTIONS = ["dropout", "bias", "kdim", "vdim", "batchFirst", "dtype", "device"];
const INPUTS = ["keyPaddingMask", "attnMask", "needWeights", "averageAttnWeights", "isCausal"];

/**
 * Attention with several heads: queries [L, N, E], keys [S, N, kdim] and values [S, N, vdim]
 * (without N for one sequence; with N first if `batchFirst`) to an output of the shape of the
 * queries.
 */
export class MultiheadAttention extends Module {
  readonly kdim: number;
  readonly vdim: number;
  readonly dropout: number;
  readonly batchFirst: boolean;
  /** [3 E, E], for queries, keys and values; null where keys or values have widths of their own. */
  readonly in_proj_weight: Parameter | null;
  readonly q_proj_weight: Parameter | null;
  readonly k_proj_weight: Parameter | null;
  readonly v_proj_weight: Parameter | null;
  /** [3 E]. */
  readonly in_proj_bias: Parameter | null;
  readonly out_proj: Linear;

  /** @throws ArgumentError for sizes below 1 or `numHeads` that do not divide `embedDim`. */
  constructor(
    readonly embedDim: number,
    readonly numHeads: number,
    options: MultiheadAttentionOptions = {},
  ) {
    super();
    checkOptions(NAME, options, OPTIONS);
    checkCount(NAME, "embedDim", embedDim);
    checkCount(NAME, "numHeads", numHeads);
    if (embedDim % numHeads !== 0) {
      throw new ArgumentError(
        `${NAME}: numHeads must divide embedDim, got numHeads ${numHeads}, embedDim ${embedDim}`,
        { op: NAME },
      );
    }
    this.kdim = checkCount(NAME, "kdim", options.kdim ?? embedDim);
    this.vdim = checkCount(NAME, "vdim", options.vdim ?? embedDim);
    this.dropout = checkProbability(NAME, "dropout", options.dropout ?? 0);
    this.batchFirst = options.batchFirst ?? false;
    const joint = this.kdim === embedDim && this.vdim === embedDim;
    const weight = (present: boolean, rows: number, cols: number): Parameter | null =>
      present ? newParameter([rows, cols], options) : null;
    this.in_proj_weight = weight(joint, 3 * embedDim, embedDim);
    this.q_proj_weight = weight(!joint, embedDim, embedDim);
    this.k_proj_weight = weight(!joint, embedDim, this.kdim);
    this.v_proj_weight = weight(!joint, embedDim, this.vdim);
    const bias = options.bias !== false;
    this.in_proj_bias = bias ? newParameter([3 * embedDim], options) : null;
    const { dtype, device } = options;
    this.out_proj = new Linear(embedDim, embedDim, { bias, dtype, device });
    this.resetParameters();
  }

  /** Draws new weights for the inputs' projections and sets all biases to 0. */
  resetParameters(): void {
    const { in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight } = this;
    for (const weight of [in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight]) {
      if (weight !== null) init.xavierUniform(weight);
    }
    if (this.in_proj_bias !== null) init.zeros(this.in_proj_bias);
    if (this.out_proj.bias !== null) init.zeros(this.out_proj.bias);
  }

  /**
   * The output, and the weights [N, L, S] ([N, numHeads, L, S] where they are not averaged; without
   * N for one sequence), or null where they are not wanted. Keys and values default to the queries.
   * @throws ShapeError where shapes do not fit.
   */
  override forward(
    query: Tensor,
    key: Tensor = query,
    value: Tensor = key,
    inputs: AttentionInputs = {},
  ): [output: Tensor, weights: Tensor | null] {
    checkTensor(query, NAME, "query");
    checkTensor(key, NAME, "key");
    checkTensor(value, NAME, "value");
    checkOptions(NAME, inputs, INPUTS);
    this.checkShapes(query, key, value);
    return tidy(() => {
      const single = query.shape.length === 2;
      // [N, rows, width] inside.
      const lead = (x: Tensor): Tensor => {
        if (single) return unsqueeze(x, 0);
        return this.batchFirst ? x : transpose(x, 0, 1);
      };
      const [q, k, v] = this.project(query, key, value)
        .map(lead)
        .map((x) => this.splitHeads(x));
      const sizes = { batch: q!.shape[0]!, queries: q!.shape[2]!, keys: k!.shape[2]! };
      const [joined, weights] = this.attend(q!, k!, v!, sizes, inputs);
      const shape = [sizes.batch, sizes.queries, this.embedDim];
      const projected = this.out_proj.forward(reshape(transpose(joined, 1, 2), shape));
      if (single) return [squeeze(projected, 0), weights === null ? null : squeeze(weights, 0)];
      return [this.batchFirst ? projected : transpose(projected, 0, 1), weights];
    });
  }

  private checkShapes(query: Tensor, key: Tensor, value: Tensor): void {
    const rank = query.shape.length;
    const wide = (x: Tensor, width: number): boolean =>
      x.shape.length === rank && x.shape[rank - 1] === width;
    const fits =
      (rank === 2 || rank === 3) &&
      wide(query, this.embedDim) &&
      wide(key, this.kdim) &&
      wide(value, this.vdim) &&
      sameShape(key.shape.slice(0, -1), value.shape.slice(0, -1)) &&
      (rank === 2 || this.batchSize(query) === this.batchSize(key));
    if (fits) return;
    const expected = this.batchFirst ? "[N, L, E]" : "[L, N, E]";
    throw new ShapeError(
      `${NAME}: expected ${expected} or [L, E] with widths ${this.embedDim}, ${this.kdim} and ` +
        `${this.vdim}, got query ${formatShape(query.shape)}, key ${formatShape(key.shape)}, ` +
        `value ${formatShape(value.shape)}`,
      { op: NAME },
    );
  }

  private batchSize(x: Tensor): number {
    return x.shape[this.batchFirst ? 0 : 1]!;
  }

  private project(query: Tensor, key: Tensor, value: Tensor): Tensor[] {
    const { embedDim, in_proj_weight, in_proj_bias } = this;
    if (in_proj_weight !== null && query === key && key === value) {
      const all = linear(query, in_proj_weight, in_proj_bias);
      return [0, 1, 2].map((i) => narrow(all, -1, i * embedDim, embedDim));
    }
    const part = (from: Parameter, i: number): Tensor => narrow(from, 0, i * embedDim, embedDim);
    const own = [this.q_proj_weight, this.k_proj_weight, this.v_proj_weight];
    return [query, key, value].map((x, i) =>
      linear(
        x,
        in_proj_weight === null ? own[i]! : part(in_proj_weight, i),
        in_proj_bias === null ? null : part(in_proj_bias, i),
      ),
    );
  }

  private splitHeads(x: Tensor): Tensor {
    const [batch, rows] = x.shape as [number, number];
    const shape = [batch, rows, this.numHeads, this.embedDim / this.numHeads];
    return transpose(reshape(x, shape), 1, 2);
  }

  private attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sizes: Sizes,
    inputs: AttentionInputs,
  ): [joined: Tensor, weights: Tensor | null] {
    const { needWeights = true, averageAttnWeights = true, isCausal = false } = inputs;
    const p = this.training ? this.dropout : 0;
    const bias = this.scoreBias(q, sizes, inputs);
    if (!needWeights) {
      const causal = isCausal && bias === null;
      const mask = isCausal && !causal ? hideLater(bias, sizes, q) : bias;
      return [scaledDotProductAttention(q, k, v, { mask, causal, dropout: p }), null];
    }
    const width = this.embedDim / this.numHeads;
    const product = matmul(mul(q, 1 / Math.sqrt(width)), transpose(k, -2, -1));
    const mask = isCausal ? hideLater(bias, sizes, q) : bias;
    const scores = mask === null ? product : add(product, to(mask, product.dtype));
    const dropped = dropout(softmax(scores, { dim: -1 }), { p, training: this.training });
    const weights = averageAttnWeights ? mean(dropped, { dim: 1 }) : dropped;
    return [matmul(to(dropped, v.dtype), v), weights];
  }

  /** Both masks as one, to be added to the scores [N, numHeads, L, S]; null where there is none. */
  private scoreBias(q: Tensor, sizes: Sizes, inputs: AttentionInputs): Tensor | null {
    const { batch, queries, keys } = sizes;
    const { keyPaddingMask, attnMask } = inputs;
    let bias: Tensor | null = null;
    if (attnMask) {
      const stacked = [batch * this.numHeads, queries, keys];
      checkMask("attnMask", attnMask, [[queries, keys], stacked]);
      const each = [batch, this.numHeads, queries, keys];
      bias = additive(attnMask.shape.length === 3 ? reshape(attnMask, each) : attnMask, q);
    }
    if (keyPaddingMask) {
      checkMask(
        "keyPaddingMask",
        keyPaddingMask,
        batch === 1 ? [[1, keys], [keys]] : [[batch, keys]],
      );
      const padding = additive(reshape(keyPaddingMask, [batch, 1, 1, keys]), q);
      bias = bias === null ? padding : add(bias, padding);
    }
    return bias;
  }
}

function checkMask(name: string, mask: Tensor, shapes: readonly Shape[]): void {
  if (!shapes.some((shape) => sameShape(shape, mask.shape))) {
    throw new ShapeError(
      `${NAME}: ${name} — expected ${shapes.map(formatShape).join(" or ")}, got ` +
        formatShape(mask.shape),
      { op: NAME },
    );
  }
  if (mask.dtype === "bool" || mask.dtype.includes("float")) return;
  throw new ArgumentError(`${NAME}: ${name} — expected bool or floats, got ${mask.dtype}`, {
    op: NAME,
  });
}

/** A mask as numbers to add, in the dtype of the scores: minus infinity where it is true. */
function additive(mask: Tensor, like: Tensor): Tensor {
  if (mask.dtype !== "bool") return to(mask, like.dtype);
  return where(mask, -Infinity, zeros(mask.shape, { dtype: like.dtype, device: mask.device }));
}

function hideLater(bias: Tensor | null, { queries, keys }: Sizes, like: Tensor): Tensor {
  const { device } = like;
  const row = reshape(arange(0, queries, 1, { dtype: "int64", device }), [queries, 1]);
  const later = additive(gt(arange(0, keys, 1, { dtype: "int64", device }), row), like);
  return bias === null ? later : add(bias, later);
}
