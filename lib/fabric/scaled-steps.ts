// Loss scaling over the iterations of a training loop. The scale changes once an iteration, however
// many optimizers step in it: after all have stepped the update is left until the next backward,
// the first thing that needs the new scale. Until then the scaler answers as if it had been made.
// An optimizer that steps twice while another does not step at all ends the iteration, too.

import type { GradScaler, StepResult } from "../amp/index.js";
import type { BackwardOptions, Tensor } from "../core/tensor.js";
import { ScalerError } from "../errors.js";
import type { AnyOptimizer } from "./optimizer.js";

/** Backward and steps of one Fabric that has a loss scaler. */
export class ScaledSteps {
  private readonly optimizers = new Set<AnyOptimizer>();
  private backwards = 0;
  /** How many backwards there had been when an optimizer last stepped. */
  private readonly steppedAt = new WeakMap<AnyOptimizer, number>();

  constructor(readonly scaler: GradScaler) {}

  /** Takes an optimizer into the iteration. */
  add(optimizer: AnyOptimizer): void {
    this.optimizers.add(optimizer);
  }

  has(optimizer: AnyOptimizer): boolean {
    return this.optimizers.has(optimizer);
  }

  /** Computes the gradients of the scaled loss. */
  backward(loss: Tensor, gradient: Tensor | undefined, options: BackwardOptions): void {
    const { scaler } = this;
    const all = [...this.optimizers];
    if (all.every((optimizer) => scaler.stageOf(optimizer) === "stepped")) scaler.updateDeferred();
    const scaled = scaler.scale(loss);
    const isDone = options.createGraph !== true && options.retainGraph !== true;
    try {
      scaled.backward(gradient, options);
    } finally {
      if (scaled !== loss && isDone) scaled.dispose();
    }
    this.backwards++;
  }

  /** Unscales an optimizer's gradients, unless they are. */
  unscale(optimizer: AnyOptimizer): void {
    this.begin(optimizer, "clipGradients");
    if (this.scaler.stageOf(optimizer) === "ready") this.scaler.unscale(optimizer);
  }

  /** The optimizer's step on unscaled gradients, if they are finite. */
  step(optimizer: AnyOptimizer, closure?: () => unknown): StepResult {
    this.begin(optimizer, "optimizerStep");
    const result = this.scaler.step(optimizer, closure);
    this.steppedAt.set(optimizer, this.backwards);
    this.scaler.deferUpdate();
    return result;
  }

  /** Whether there was a backward since an optimizer's last step. */
  private hasNewGradients(optimizer: AnyOptimizer): boolean {
    return this.backwards > (this.steppedAt.get(optimizer) ?? 0);
  }

  private begin(optimizer: AnyOptimizer, op: string): void {
    const { scaler } = this;
    if (!scaler.isEnabled()) return;
    if (!this.hasNewGradients(optimizer)) {
      if (optimizer.gradients().length === 0) return;
      throw new ScalerError(
        `${op}: the optimizer has gradients, but fabric.backward was not called since its last ` +
          `step, so they are not scaled: call fabric.backward(loss) instead of loss.backward(), ` +
          `once before each step`,
        { op },
      );
    }
    // It steps again before others have stepped at all: the iteration ends here, at the latest.
    if (scaler.stageOf(optimizer) !== "stepped") return;
    const holding = [...this.optimizers].filter(
      (other) => scaler.stageOf(other) === "ready" || this.hasNewGradients(other),
    );
    scaler.updateDeferred(holding.filter((other) => scaler.stageOf(other) !== "unscaled"));
  }
}
