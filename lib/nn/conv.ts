// Convolution.

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError } from "../errors.js";
import { conv2d } from "../ops/index.js";
import type { Conv2dOptions as ConvolutionOptions, Pair } from "../ops/conv.js";
import { checkCount } from "./checks.js";
import { initializeWeight } from "./linear.js";
import { Module } from "./module.js";
import { newParameter, type Parameter, type ParameterOptions } from "./parameter.js";

/**
 * Options of {@link Conv2d}: those of the operation, whether there is a bias, and the placement.
 */
export interface Conv2dOptions extends ConvolutionOptions, ParameterOptions {
  /** Whether a bias is learned; default true. */
  bias?: boolean;
}

const OPTIONS = ["stride", "padding", "dilation", "groups", "bias", "dtype", "device"];

/** Convolution [N, inChannels, H, W] to [N, outChannels, H', W'], zeros around the input. */
export class Conv2d extends Module {
  readonly kernelSize: readonly [number, number];
  /** Stride, padding, dilation and groups. */
  readonly options: Readonly<ConvolutionOptions>;
  /** [outChannels, inChannels / groups, height, width]. */
  readonly weight: Parameter;
  /** [outChannels]. */
  readonly bias: Parameter | null;

  /** @throws ArgumentError for sizes below 1, or `groups` that divide not both channels. */
  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    kernelSize: Pair,
    options: Conv2dOptions = {},
  ) {
    super();
    checkOptions("Conv2d", options, OPTIONS);
    checkCount("Conv2d", "inChannels", inChannels);
    checkCount("Conv2d", "outChannels", outChannels);
    const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
    checkCount("Conv2d", "groups", groups);
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new ArgumentError(
        `Conv2d: groups — expected a divisor of inChannels ${inChannels} and outChannels ` +
          `${outChannels}, got ${groups}`,
        { op: "Conv2d" },
      );
    }
    this.kernelSize = checkPair("kernelSize", kernelSize, 1);
    checkPair("stride", stride, 1);
    checkPair("dilation", dilation, 1);
    if (padding !== "valid" && padding !== "same") checkPair("padding", padding, 0);
    this.options = { stride, padding, dilation, groups };
    this.weight = newParameter([outChannels, inChannels / groups, ...this.kernelSize], options);
    this.bias = options.bias === false ? null : newParameter([outChannels], options);
    this.resetParameters();
  }

  /** Draws new weights. */
  resetParameters(): void {
    initializeWeight(this.weight, this.bias);
  }

  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.options);
  }
}

function checkPair(name: string, value: Pair, least: number): [number, number] {
  const pair: readonly number[] = typeof value === "number" ? [value, value] : value;
  if (pair.length !== 2) {
    throw new ArgumentError(
      `Conv2d: ${name} — expected a number or [height, width], got ${JSON.stringify(value)}`,
      { op: "Conv2d" },
    );
  }
  const [height, width] = pair as [number, number];
  return [checkCount("Conv2d", name, height, least), checkCount("Conv2d", name, width, least)];
}
