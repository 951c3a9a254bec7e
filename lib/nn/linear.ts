// Fully connected layers.

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { add, gelu, linear, mul, relu, silu, type FusedLinearOptions } from "../ops/index.js";
import { checkCount } from "./checks.js";
import * as init from "./init.js";
import { Module } from "./module.js";
import { newParameter, type Parameter, type ParameterOptions } from "./parameter.js";

/** Options of {@link Linear}. */
export interface LinearOptions extends ParameterOptions {
  /** Whether a bias is learned; default true. */
  bias?: boolean;
}

/** Draws a weight and bias as torch's Linear and Conv2d do: uniform within 1 / sqrt(fanIn). */
export function initializeWeight(weight: Tensor, bias: Tensor | null): void {
  init.kaimingUniform(weight, { a: Math.sqrt(5) });
  if (bias === null) return;
  const fanIn = weight.shape[0] === 0 ? 0 : weight.numel / weight.shape[0]!;
  const bound = fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0;
  init.uniform(bias, { a: -bound, b: bound });
}

/** `x weightᵀ + bias`: [..., inFeatures] to [..., outFeatures]. */
export class Linear extends Module {
  /** [outFeatures, inFeatures]. */
  readonly weight: Parameter;
  /** [outFeatures]. */
  readonly bias: Parameter | null;

  /** @throws ArgumentError for sizes that are not whole numbers from 0 up. */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    checkOptions("Linear", options, ["bias", "dtype", "device"]);
    checkCount("Linear", "inFeatures", inFeatures, 0);
    checkCount("Linear", "outFeatures", outFeatures, 0);
    this.weight = newParameter([outFeatures, inFeatures], options);
    this.bias = options.bias === false ? null : newParameter([outFeatures], options);
    this.resetParameters();
  }

  /** Draws new weights. */
  resetParameters(): void {
    initializeWeight(this.weight, this.bias);
  }

  /** `finish`: what {@link linear} does besides, in one product. */
  override forward(x: Tensor, finish: FusedLinearOptions = {}): Tensor {
    return linear(x, this.weight, this.bias, finish);
  }
}

const transparent = new WeakSet<object>();

/**
 * Notes that `forward`, put in the place of a layer's own, hands all its arguments on to that, so
 * that the layer may still do what comes after it in the same product.
 */
export function markTransparent(forward: object, layer: Module): void {
  if (layer.forward === Linear.prototype.forward) transparent.add(forward);
}

const ACTIVATIONS = { relu, gelu: (x: Tensor) => gelu(x), silu };

/**
 * What `layer` makes of `x`, then an activation, a factor and a residual connection: in one product,
 * unless the layer was given another `forward`, which need not know of them.
 */
export function forwardFinished(
  layer: Linear,
  x: Tensor,
  finish: { activation?: keyof typeof ACTIVATIONS; multiplier?: Tensor; residual?: Tensor },
): Tensor {
  const { forward } = layer as { readonly forward: object };
  if (forward === Linear.prototype.forward || transparent.has(forward)) {
    return layer.forward(x, finish);
  }
  const { activation, multiplier, residual } = finish;
  let y = layer.forward(x);
  if (activation !== undefined) y = ACTIVATIONS[activation](y);
  if (multiplier !== undefined) y = mul(y, multiplier);
  return residual === undefined ? y : add(y, residual);
}
