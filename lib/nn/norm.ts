// Normalization over the last dimensions.

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError, describe } from "../errors.js";
import { layerNorm, rmsNorm } from "../ops/index.js";
import type { Shape } from "../shape.js";
import { checkCount, checkNotNegative } from "./checks.js";
import * as init from "./init.js";
import { Module } from "./module.js";
import { newParameter, type Parameter, type ParameterOptions } from "./parameter.js";

/** Options of {@link RMSNorm}. */
export interface RMSNormOptions extends ParameterOptions {
  /** Added to the mean square; default: eps of the input's dtype. */
  eps?: number | undefined;
  /** Whether a scale is learned; default true. */
  elementwiseAffine?: boolean;
}

/** Options of {@link LayerNorm}. */
export interface LayerNormOptions extends ParameterOptions {
  /** Added to the variance; default 1e-5. */
  eps?: number;
  /** Whether scale and shift are learned; default true. */
  elementwiseAffine?: boolean;
  /** Whether a shift is learned beside the scale; default true. */
  bias?: boolean;
}

function checkNormalized(module: string, shape: number | Shape): number[] {
  const given: unknown = typeof shape === "number" ? [shape] : shape;
  if (!Array.isArray(given)) {
    throw new ArgumentError(
      `${module}: normalizedShape — expected a length or a list of them, got ${describe(shape)}`,
      { op: module },
    );
  }
  const list = [...(given as number[])];
  checkCount(module, "the number of normalized dimensions", list.length);
  for (const extent of list) checkCount(module, "normalizedShape", extent);
  return list;
}

/** Mean 0 and variance 1 over the last dimensions, then a learned scale and shift. */
export class LayerNorm extends Module {
  readonly normalizedShape: Shape;
  readonly eps: number;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  /** @throws ArgumentError for a shape that is not of whole positive numbers, or a negative eps. */
  constructor(normalizedShape: number | Shape, options: LayerNormOptions = {}) {
    super();
    checkOptions("LayerNorm", options, ["eps", "elementwiseAffine", "bias", "dtype", "device"]);
    this.normalizedShape = checkNormalized("LayerNorm", normalizedShape);
    this.eps = checkNotNegative("LayerNorm", "eps", options.eps ?? 1e-5);
    const affine = options.elementwiseAffine !== false;
    this.weight = affine ? newParameter(this.normalizedShape, options) : null;
    this.bias =
      affine && options.bias !== false ? newParameter(this.normalizedShape, options) : null;
    this.resetParameters();
  }

  /** Sets scale 1 and shift 0. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
    if (this.bias !== null) init.zeros(this.bias);
  }

  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.normalizedShape, this.weight, this.bias, { eps: this.eps });
  }
}

/** Mean square 1 over the last dimensions, then a learned scale. */
export class RMSNorm extends Module {
  readonly normalizedShape: Shape;
  /** null: eps of the input's dtype. */
  readonly eps: number | null;
  readonly weight: Parameter | null;

  /** @throws ArgumentError for a shape that is not of whole positive numbers, or a negative eps. */
  constructor(normalizedShape: number | Shape, options: RMSNormOptions = {}) {
    super();
    checkOptions("RMSNorm", options, ["eps", "elementwiseAffine", "dtype", "device"]);
    this.normalizedShape = checkNormalized("RMSNorm", normalizedShape);
    const { eps } = options;
    this.eps = eps === undefined ? null : checkNotNegative("RMSNorm", "eps", eps);
    const affine = options.elementwiseAffine !== false;
    this.weight = affine ? newParameter(this.normalizedShape, options) : null;
    this.resetParameters();
  }

  /** Sets scale 1. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
  }

  override forward(x: Tensor): Tensor {
    return rmsNorm(x, this.normalizedShape, this.weight, { eps: this.eps ?? undefined });
  }
}
