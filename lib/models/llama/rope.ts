// Rotary position embeddings in Hugging Face's layout, which turns pairs (i, i + D / 2), with the
// ways to stretch them over longer texts. Angles are float32 whatever the model computes in.

import type { Tensor } from "../../core/tensor.js";
import type { Device } from "../../dtype.js";
import { add, cat, cos, fromTypedArray, mul, narrow, sin, to } from "../../ops/index.js";

/** How positions beyond those of the training are reached; as `rope_scaling` of config.json. */
export type RopeScaling =
  | { readonly kind: "linear" | "dynamic"; readonly factor: number }
  | {
      readonly kind: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      /** Positions of the training before it was stretched. */
      readonly originalMaxPositionEmbeddings: number;
    };

/** What the angles depend on. */
export interface RopeOptions {
  readonly headDim: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  readonly maxPositionEmbeddings: number;
}

/** Angle per position of each of the D / 2 pairs, for a text of `length` tokens. */
export function inverseFrequencies(options: RopeOptions, length: number): Float32Array {
  const { headDim, ropeTheta, ropeScaling, maxPositionEmbeddings } = options;
  let theta = ropeTheta;
  if (ropeScaling?.kind === "dynamic" && length > maxPositionEmbeddings) {
    const { factor } = ropeScaling;
    const stretch = (factor * length) / maxPositionEmbeddings - (factor - 1);
    theta *= stretch ** (headDim / (headDim - 2));
  }
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / headDim);
    if (ropeScaling?.kind === "linear") return frequency / ropeScaling.factor;
    if (ropeScaling?.kind !== "llama3") return frequency;
    const { factor, lowFreqFactor, highFreqFactor } = ropeScaling;
    // Turns within the original context: many stay as they are, few are stretched.
    const turns = (ropeScaling.originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
    const share = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    const smooth = Math.min(1, Math.max(0, share));
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

/** Factors of a rotation, float32 [B or 1, 1, L, D]; `sin` with the sign that each half takes. */
export interface Rotation {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** The rotation at `positions` [B or 1, L], in a text of `length` tokens. */
export function rotationAt(
  positions: Tensor,
  length: number,
  options: RopeOptions,
  device: Device,
): Rotation {
  const half = options.headDim / 2;
  const [batch, count] = positions.shape as [number, number];
  const frequencies = fromTypedArray(inverseFrequencies(options, length), [half], { device });
  const angles = mul(to(positions, "float32").reshape([batch, 1, count, 1]), frequencies);
  const [c, s] = [cos(angles), sin(angles)];
  return { cos: cat([c, c], -1), sin: cat([s.neg(), s], -1) };
}

/** Queries or keys [B, H, L, D] turned by their positions, in their dtype. */
export function rotate(x: Tensor, rotation: Rotation): Tensor {
  const half = x.shape[3]! / 2;
  const swapped = cat([narrow(x, 3, half, half), narrow(x, 3, 0, half)], 3);
  return to(add(mul(x, rotation.cos), mul(swapped, rotation.sin)), x.dtype);
}
