// Lookup of learned vectors by id.

import { checkOptions } from "../core/options.js";
import { noGrad } from "../core/context.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { embedding, fill, select } from "../ops/index.js";
import { formatShape } from "../shape.js";
import { checkCount } from "./checks.js";
import * as init from "./init.js";
import { Module } from "./module.js";
import { newParameter, Parameter, type ParameterOptions } from "./parameter.js";

/** Options of {@link Embedding}. */
export interface EmbeddingOptions extends ParameterOptions {
  /** An id whose vector starts as zeros and is never trained; negative ones count from the end. */
  paddingIdx?: number | null | undefined;
}

/** Ids [...] of an integer dtype to vectors [..., embeddingDim]. */
export class Embedding extends Module {
  /** [numEmbeddings, embeddingDim]. */
  readonly weight: Parameter;
  /** The id that is never trained, or null. */
  readonly paddingIdx: number | null;

  /** @throws ArgumentError for sizes below 1 or a `paddingIdx` that is no id. */
  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    options: EmbeddingOptions & { weight?: Parameter } = {},
  ) {
    super();
    checkOptions("Embedding", options, ["paddingIdx", "weight", "dtype", "device"]);
    checkCount("Embedding", "numEmbeddings", numEmbeddings);
    checkCount("Embedding", "embeddingDim", embeddingDim, 0);
    this.paddingIdx = checkPadding(options.paddingIdx, numEmbeddings);
    if (options.weight === undefined) {
      this.weight = newParameter([numEmbeddings, embeddingDim], options);
      this.resetParameters();
    } else {
      this.weight = options.weight;
    }
  }

  /**
   * An embedding over given vectors [numEmbeddings, embeddingDim], whose memory it shares.
   * @param options.freeze whether they are not trained; default true.
   * @throws ShapeError unless there are two dimensions.
   */
  static fromPretrained(
    vectors: Tensor,
    options: { freeze?: boolean; paddingIdx?: number | null } = {},
  ): Embedding {
    checkOptions("Embedding.fromPretrained", options, ["freeze", "paddingIdx"]);
    if (vectors.shape.length !== 2) {
      throw new ShapeError(
        `Embedding.fromPretrained: expected [numEmbeddings, embeddingDim], got ` +
          formatShape(vectors.shape),
        { op: "Embedding" },
      );
    }
    const weight = new Parameter(vectors, { requiresGrad: options.freeze === false });
    const { paddingIdx } = options;
    return new Embedding(vectors.shape[0]!, vectors.shape[1]!, { paddingIdx, weight });
  }

  /** Draws new vectors: standard normal, zeros for the padding. */
  resetParameters(): void {
    init.normal(this.weight);
    const { paddingIdx } = this;
    if (paddingIdx === null) return;
    noGrad(() => {
      const row = select(this.weight, 0, paddingIdx);
      fill(row, 0);
      row.dispose();
    });
  }

  override forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids, { paddingIdx: this.paddingIdx ?? undefined });
  }
}

function checkPadding(paddingIdx: number | null | undefined, count: number): number | null {
  if (paddingIdx === null || paddingIdx === undefined) return null;
  if (Number.isInteger(paddingIdx) && paddingIdx >= -count && paddingIdx < count) {
    return paddingIdx < 0 ? paddingIdx + count : paddingIdx;
  }
  throw new ArgumentError(
    `Embedding: paddingIdx — expected ${-count} to ${count - 1}, got ${String(paddingIdx)}`,
    { op: "Embedding" },
  );
}
