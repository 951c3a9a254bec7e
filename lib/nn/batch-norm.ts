// Batch normalization: statistics of the batch in training, running ones in evaluation.

import { checkOptions } from "../core/options.js";
import { noGrad } from "../core/context.js";
import { describe } from "../core/dispatch.js";
import { tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { isHalfWidth } from "../dtype.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { add, copyFrom, full, mean, mul, reshape, rsqrt, sub, to, variance } from "../ops/index.js";
import { checkTensor } from "../ops/checks.js";
import { checkCount, checkNotNegative } from "./checks.js";
import * as init from "./init.js";
import { Module } from "./module.js";
import { newParameter, type Parameter, type ParameterOptions } from "./parameter.js";

/** Options of {@link BatchNorm1d} and {@link BatchNorm2d}. */
export interface BatchNormOptions extends ParameterOptions {
  /** Added to the variance; default 1e-5. */
  eps?: number;
  /** Share of the new statistics in the running ones, default 0.1; null takes the mean of all. */
  momentum?: number | null;
  /** Whether scale and shift are learned; default true. */
  affine?: boolean;
  /** Whether running statistics are kept; else those of the batch are always used. Default true. */
  trackRunningStats?: boolean;
}

const OPTIONS = ["eps", "momentum", "affine", "trackRunningStats", "dtype", "device"];

/** What the batch norms have in common; the state's names are torch's. */
abstract class BatchNorm extends Module {
  readonly eps: number;
  readonly momentum: number | null;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly running_mean: Tensor | null;
  readonly running_var: Tensor | null;
  /** An int64 scalar. */
  readonly num_batches_tracked: Tensor | null;

  /** @throws ArgumentError for a count below 1, a negative eps, a momentum outside 0 to 1. */
  constructor(
    readonly numFeatures: number,
    options: BatchNormOptions = {},
  ) {
    super();
    const name = this.constructor.name;
    checkOptions(name, options, OPTIONS);
    checkCount(name, "numFeatures", numFeatures);
    this.eps = checkNotNegative(name, "eps", options.eps ?? 1e-5);
    this.momentum = options.momentum === undefined ? 0.1 : options.momentum;
    if (this.momentum !== null && !(this.momentum >= 0 && this.momentum <= 1)) {
      throw new ArgumentError(
        `${name}: momentum — expected a number from 0 to 1 or null, got ${String(this.momentum)}`,
        { op: name },
      );
    }
    const affine = options.affine !== false;
    this.weight = affine ? newParameter([numFeatures], options) : null;
    this.bias = affine ? newParameter([numFeatures], options) : null;
    const { dtype, device } = options;
    const tracks = options.trackRunningStats !== false;
    const buffer = (value: number): Tensor | null =>
      tracks ? full([numFeatures], value, { dtype, device }) : null;
    this.running_mean = this.registerBuffer("running_mean", buffer(0));
    this.running_var = this.registerBuffer("running_var", buffer(1));
    const count = tracks ? full([], 0, { dtype: "int64", device }) : null;
    this.num_batches_tracked = this.registerBuffer("num_batches_tracked", count);
    this.resetParameters();
  }

  /** Sets scale 1 and shift 0, and forgets the running statistics. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
    if (this.bias !== null) init.zeros(this.bias);
    if (this.running_mean !== null) init.zeros(this.running_mean);
    if (this.running_var !== null) init.ones(this.running_var);
    if (this.num_batches_tracked !== null) init.zeros(this.num_batches_tracked);
  }

  protected abstract checkInput(x: Tensor): void;

  protected failShape(expected: string, x: Tensor): never {
    const name = this.constructor.name;
    throw new ShapeError(
      `${name}: expected ${expected} with ${this.numFeatures} features, got ${describe(x)}`,
      { op: name },
    );
  }

  /** Normalizes [N, C, ...] over all dimensions but the second; 16-bit floats through float32. */
  override forward(x: Tensor): Tensor {
    checkTensor(x, this.constructor.name);
    this.checkInput(x);
    return tidy(() => {
      const wide = isHalfWidth(x.dtype) ? to(x, "float32") : x;
      const along = x.shape.map((_, dim) => (dim === 1 ? this.numFeatures : 1));
      const spread = (t: Tensor): Tensor => reshape(t, along);
      let center = this.running_mean;
      let spreadOf = this.running_var;
      if (this.training || center === null || spreadOf === null) {
        const dim = along.flatMap((_, i) => (i === 1 ? [] : [i]));
        center = mean(wide, { dim });
        spreadOf = variance(wide, { dim, correction: 0 });
        this.track(center, spreadOf, x);
      }
      let scale = rsqrt(add(spreadOf, this.eps));
      if (this.weight !== null) scale = mul(scale, this.weight);
      const y = mul(sub(wide, spread(center)), spread(scale));
      return to(this.bias === null ? y : add(y, spread(this.bias)), x.dtype);
    });
  }

  /** Moves the running statistics towards those of a batch. */
  private track(center: Tensor, biased: Tensor, x: Tensor): void {
    const count = x.numel / this.numFeatures;
    if (this.training && count < 2) {
      this.failShape("more than one value for each feature in training", x);
    }
    const { running_mean, running_var, num_batches_tracked } = this;
    if (!this.training || running_mean === null || running_var === null) return;
    noGrad(() => {
      copyFrom(num_batches_tracked!, add(num_batches_tracked!, 1));
      const share = this.momentum ?? 1 / num_batches_tracked!.item();
      const move = (running: Tensor, batch: Tensor, factor: number): void => {
        copyFrom(running, add(mul(running, 1 - share), mul(batch, share * factor)));
      };
      move(running_mean, center, 1);
      // The running variance is the unbiased one.
      move(running_var, biased, count / (count - 1));
    });
  }
}

/** Batch normalization of [N, C] or [N, C, L]. */
export class BatchNorm1d extends BatchNorm {
  protected override checkInput(x: Tensor): void {
    const rank = x.shape.length;
    if ((rank !== 2 && rank !== 3) || x.shape[1] !== this.numFeatures) {
      this.failShape("[N, C] or [N, C, L]", x);
    }
  }
}

/** Batch normalization of [N, C, H, W]. */
export class BatchNorm2d extends BatchNorm {
  protected override checkInput(x: Tensor): void {
    if (x.shape.length !== 4 || x.shape[1] !== this.numFeatures) this.failShape("[N, C, H, W]", x);
  }
}
