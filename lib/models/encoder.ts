// What all encoders do alike: check and mask token ids, attend, draw new weights.

import { noGrad } from "../core/context.js";
import type { Tensor } from "../core/tensor.js";
import type { Device, DType } from "../dtype.js";
import { ArgumentError, ShapeError } from "../errors.js";
import type { Dropout, Linear } from "../nn/index.js";
import * as init from "../nn/init.js";
import { forwardFinished } from "../nn/linear.js";
import {
  add,
  fill,
  ne,
  reshape,
  scaledDotProductAttention,
  select,
  transpose,
} from "../ops/index.js";
import { formatShape } from "../shape.js";

/** As what, and where, a model makes its parameters. */
export interface Placement {
  dtype?: DType | undefined;
  device?: Device | undefined;
}

/** What any encoder tells of itself. */
export interface EncoderFacts {
  /** As people write it: `DistilBERT`. */
  readonly name: string;
  readonly layers: number;
  readonly width: number;
  readonly vocabSize: number;
  /** Longest sequence. */
  readonly maxLength: number;
  readonly padTokenId: number;
}

/**
 * Throws ShapeError unless ids are [B, L] with L from 1 to `maxLength`, and the mask and token
 * types are of the same shape.
 */
export function checkIds(
  op: string,
  ids: Tensor,
  maxLength: number,
  besides: Readonly<Record<string, Tensor | null>>,
): void {
  if (ids.shape.length !== 2 || ids.shape[1] === 0) {
    throw new ShapeError(`${op}: expected ids [B, L], got ${formatShape(ids.shape)}`, { op });
  }
  if (ids.shape[1]! > maxLength) {
    throw new ShapeError(
      `${op}: sequences of ${ids.shape[1]} tokens, the model has ${maxLength} positions; ` +
        `truncate them when tokenizing`,
      { op },
    );
  }
  for (const [what, tensor] of Object.entries(besides)) {
    if (tensor === null || tensor.shape.join() === ids.shape.join()) continue;
    throw new ShapeError(
      `${op}: ${what} ${formatShape(tensor.shape)} for ids ${formatShape(ids.shape)}`,
      { op },
    );
  }
}

/** A mask [B, L], 0 or false where a token is padding, as attention takes it: bool [B, 1, 1, L]. */
export function attentionMaskOf(mask: Tensor | null): Tensor | null {
  if (mask === null) return null;
  const [batch, length] = mask.shape as [number, number];
  return reshape(mask.dtype === "bool" ? mask : ne(mask, 0), [batch, 1, 1, length]);
}

/**
 * Attention of several heads: queries, keys and values [B, L, width] to [B, L, width].
 * @param mask bool [B, 1, 1, L], true where a key is seen
 */
export function attend(
  [query, key, value]: readonly [Tensor, Tensor, Tensor],
  heads: number,
  mask: Tensor | null,
  dropout: number,
): Tensor {
  const [batch, length, width] = query.shape as [number, number, number];
  const split = (x: Tensor): Tensor =>
    transpose(reshape(x, [batch, length, heads, width / heads]), 1, 2);
  const attended = scaledDotProductAttention(split(query), split(key), split(value), {
    mask,
    dropout,
  });
  return reshape(transpose(attended, 1, 2), [batch, length, width]);
}

/** What `layer` makes of `x`, with dropout, added to `residual`: in one product where nothing drops. */
export function droppedAndAdded(
  layer: Linear,
  dropout: Dropout,
  x: Tensor,
  residual: Tensor,
): Tensor {
  // Of another module than Dropout it is not known.
  if ((dropout.isActive as boolean | undefined) === false) {
    return forwardFinished(layer, x, { residual });
  }
  return add(dropout.forward(layer.forward(x)), residual);
}

/** What new weights are drawn by. */
export interface InitializerOptions {
  /** Standard deviation. */
  readonly initializerRange: number;
  /** The token whose embedding is 0. */
  readonly padTokenId?: number;
}

/** Draws weights as Hugging Face does: normal, biases 0, norms 1 and 0, no padding embedding. */
export function initialize(
  parameters: Iterable<readonly [name: string, parameter: Tensor]>,
  { initializerRange, padTokenId = Infinity }: InitializerOptions,
): void {
  noGrad(() => {
    for (const [name, parameter] of parameters) {
      if (/norm/i.test(name)) fill(parameter, name.endsWith("weight") ? 1 : 0);
      else if (name.endsWith("bias")) fill(parameter, 0);
      else init.normal(parameter, { mean: 0, std: initializerRange });
      if (name.endsWith("word_embeddings.weight") && padTokenId < parameter.shape[0]!) {
        const row = select(parameter, 0, padTokenId);
        fill(row, 0);
        row.dispose();
      }
    }
  });
}

/** Throws ArgumentError for an input that a model has no use for. */
export function refuseInput(op: string, name: string, tensor: Tensor | null | undefined): void {
  if (!tensor) return;
  throw new ArgumentError(`${op}: ${name} — expected none, the model has no such embeddings`, {
    op,
  });
}
