// Dynamic loss scaling: keeps float16 gradients within float16's range, and leaves out the steps
// where they were not. Semantics of torch.amp.GradScaler; scale, growth tracker and overflow flags
// stay on the device, so that a step waits for nothing.

import { runInPlace } from "../core/dispatch.js";
import { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { ArgumentError, describe, ScalerError } from "../errors.js";
import { clone, div, full, item, mul } from "../ops/index.js";
import { formatShape } from "../shape.js";
import { withoutAutocast } from "./autocast.js";
import {
  gradientsOf,
  halfGradients,
  hasMasters,
  listOf,
  parametersOf,
  type Gradient,
  type ScalableOptimizer,
} from "./optimizer-gradients.js";
import {
  anyFlag,
  newFlag,
  onOwnTensors,
  ScaleState,
  type ScaleFactors,
  type ScaleValues,
} from "./scale-state.js";
import {
  checkBackoffFactor,
  checkGrowthFactor,
  checkGrowthInterval,
  checkScale,
  checkSettings,
  checkState,
  type GradScalerOptions,
  type GradScalerState,
} from "./scaler-options.js";
import { SkipWatch } from "./skip-watch.js";
import { scaledStep, unscaledStep, type StepResult } from "./step-result.js";

/** Where an optimizer is between two updates of the scale. */
export type ScalerStage = "ready" | "unscaled" | "stepped";

interface OptimizerRecord {
  stage: ScalerStage;
  /** Set where a gradient is not finite; null where none was looked at. */
  foundInf: Tensor | null;
}

/**
 * Scales losses, unscales gradients and steps optimizers; adapts the scale to what overflows.
 *
 *     scaler.scale(loss).backward();
 *     scaler.unscale(optimizer); // only to clip, or look at, the gradients
 *     scaler.step(optimizer);
 *     scaler.update(); // once an iteration, after all optimizers
 */
export class GradScaler {
  private readonly minScale: number;
  private readonly enabled: boolean;
  private readonly device: Device | null;
  private readonly watch: SkipWatch | null;
  private growthFactor: number;
  private backoffFactor: number;
  private growthInterval: number;
  /** What the state begins with, once the first scaled tensor says where it is to be. */
  private initial: ScaleValues;
  private state: ScaleState | null = null;
  private readonly records = new Map<ScalableOptimizer, OptimizerRecord>();
  private deferred = false;

  /**
   * @throws ArgumentError unless growthFactor > 1, 0 < backoffFactor < 1, growthInterval is a whole
   *   number of at least 1, and 0 <= minScale <= initScale.
   */
  constructor(options: GradScalerOptions = {}) {
    const settings = checkSettings(options);
    this.initial = { scale: Math.fround(settings.initScale), growthTracker: 0, skips: 0 };
    this.growthFactor = settings.growthFactor;
    this.backoffFactor = settings.backoffFactor;
    this.growthInterval = settings.growthInterval;
    this.minScale = settings.minScale;
    this.enabled = settings.enabled;
    this.device = settings.device;
    this.watch = settings.alarm && new SkipWatch(settings.alarm);
  }

  /** Whether scaling does anything. */
  isEnabled(): boolean {
    return this.enabled;
  }

  getGrowthFactor(): number {
    return this.growthFactor;
  }

  setGrowthFactor(value: number): void {
    this.growthFactor = checkGrowthFactor(value);
  }

  getBackoffFactor(): number {
    return this.backoffFactor;
  }

  setBackoffFactor(value: number): void {
    this.backoffFactor = checkBackoffFactor(value);
  }

  getGrowthInterval(): number {
    return this.growthInterval;
  }

  setGrowthInterval(value: number): void {
    this.growthInterval = checkGrowthInterval(value);
  }

  /**
   * A loss, or the tensors in nested arrays and plain objects, multiplied by the scale. A float16
   * tensor of 0 dimensions gives float32; one with dimensions stays float16 and may overflow.
   * @throws ArgumentError for what is no tensor and holds none.
   */
  scale<T>(outputs: T): T {
    if (!this.enabled) return outputs;
    return mapNested(outputs, (output) => this.scaleTensor(output)) as T;
  }

  private scaleTensor(output: Tensor): Tensor {
    output.assertUsable("scale");
    this.state ??= new ScaleState(this.initial, this.device ?? output.device);
    const { scale } = this.state;
    return withoutAutocast(() => mul(output, scale));
  }

  /**
   * Divides the gradients of an optimizer's parameters by the scale, in place, and notes whether
   * one is infinite or NaN. `step` does it by itself; call it before clipping or looking at
   * gradients, once an iteration.
   * @throws ScalerError when it was called already, after `step`, before anything was scaled, or on
   *   float16 gradients, which it names.
   */
  unscale(optimizer: ScalableOptimizer): void {
    if (!this.enabled) return;
    const record = this.recordOf(optimizer);
    if (record.stage === "unscaled") {
      throw new ScalerError(
        "unscale: already called for this optimizer since the last update; its gradients are " +
          "unscaled",
        { op: "unscale" },
      );
    }
    if (record.stage === "stepped") {
      throw new ScalerError("unscale: called after step; unscale first, then step, then update", {
        op: "unscale",
      });
    }
    const { scale } = this.requireState("unscale");
    const gradients = gradientsOf(optimizer);
    const half = halfGradients(gradients);
    if (half.length > 0) {
      const which = listOf(
        optimizer,
        half.map(({ parameter }) => parameter),
      );
      throw new ScalerError(
        `unscale: float16 gradients would underflow when they are unscaled: ${which}. Keep the ` +
          `parameters in float32 and compute in float16 with autocast (precision "16-mixed"), or ` +
          `give them float32 masters (masterWeights) and call step without unscale`,
        { op: "unscale" },
      );
    }
    record.foundInf = findOverflow(gradients, scale);
    record.stage = "unscaled";
  }

  /**
   * The optimizer's step, on unscaled gradients; left out where one is infinite or NaN. Optimizers
   * of `optim` decide that on the device; others make it wait. An optimizer with float32 masters
   * takes float16 gradients, and unscales them in float32.
   * @returns how it went, to be read when wanted
   * @throws ScalerError when it was called already since the last update, when a closure is passed,
   *   or when no parameter has a gradient; it names them.
   */
  step(optimizer: ScalableOptimizer, ...closures: unknown[]): StepResult {
    if (!this.enabled) {
      (optimizer as { step(...args: unknown[]): unknown }).step(...closures);
      return unscaledStep();
    }
    if (closures.some((closure) => closure !== undefined && closure !== null)) {
      throw new ScalerError("step: closures cannot be used with a GradScaler", { op: "step" });
    }
    const record = this.recordOf(optimizer);
    if (record.stage === "stepped") {
      throw new ScalerError(
        "step: already called for this optimizer since the last update; call update once all " +
          "optimizers of the iteration have stepped",
        { op: "step" },
      );
    }
    const state = this.requireState("step");
    const gradScale = record.stage === "ready" ? this.lookAt(optimizer, record, state) : null;
    const { foundInf } = record;
    if (foundInf === null) {
      throw new ScalerError(
        `step: no gradient reached the optimizer, none of its parameters has one: ` +
          `${listOf(optimizer, parametersOf(optimizer))}. Call backward on a loss that depends ` +
          `on them`,
        { op: "step" },
      );
    }
    this.watch?.beforeStep(optimizer, foundInf, state);
    if (optimizer.stepScaled !== undefined) optimizer.stepScaled(gradScale, foundInf);
    else if (item(foundInf) === 0) optimizer.step();
    record.stage = "stepped";
    return scaledStep(foundInf.alias(), state.copyScale());
  }

  /**
   * Unscales the gradients of an optimizer that is about to step, or, where they are float16 and it
   * has masters, only looks for overflow and returns the scale that it is to divide by.
   */
  private lookAt(
    optimizer: ScalableOptimizer,
    record: OptimizerRecord,
    state: ScaleState,
  ): Tensor | null {
    const gradients = gradientsOf(optimizer);
    const half = halfGradients(gradients);
    if (half.length === 0 || !hasMasters(optimizer, half)) {
      this.unscale(optimizer);
      return null;
    }
    const one = onOwnTensors(() => full([], 1, { dtype: "float32", device: state.scale.device }));
    record.foundInf = findOverflow(gradients, one);
    one.dispose();
    return state.scale;
  }

  /**
   * Adapts the scale, once all optimizers of the iteration have stepped: after an overflow in any
   * of them it backs off, after `growthInterval` updates without it grows, as long as it stays
   * finite.
   * @param newScale sets the scale instead: a number, or a tensor of one element.
   * @throws ScalerError when no optimizer was unscaled or stepped since the last update.
   */
  update(newScale?: number | Tensor): void {
    if (!this.enabled) return;
    const state = this.requireState("update");
    if (newScale === undefined) this.adapt(state);
    else state.setScale(checkNewScale(newScale));
    this.forget();
  }

  /** Drops what was found since the last update. */
  private forget(): void {
    for (const flag of this.flags()) flag.dispose();
    this.records.clear();
    this.deferred = false;
  }

  private adapt(state: ScaleState): void {
    const foundInf = this.totalFoundInf();
    if (foundInf === null) {
      throw new ScalerError(
        "update: no optimizer with gradients was unscaled or stepped since the last update",
        { op: "update" },
      );
    }
    state.update(foundInf, this.factors());
    foundInf.dispose();
    this.watch?.afterUpdate(state);
  }

  /**
   * Leaves the update to a later call of `update`, so that more optimizers may step before it;
   * until then `getScale`, `consecutiveSkips` and `stateDict` answer as if it had been made.
   */
  deferUpdate(): void {
    if (this.enabled) this.deferred = this.flags().length > 0;
  }

  /** Whether {@link deferUpdate} left an update to be made. */
  get isUpdateDeferred(): boolean {
    return this.deferred;
  }

  /**
   * Makes the update that was deferred. Optimizers that were unscaled and have yet to step count
   * for the next one.
   * @param holding optimizers with gradients of the old scale; they are brought to the new one.
   */
  updateDeferred(holding: Iterable<ScalableOptimizer> = []): void {
    if (!this.deferred) return;
    const { scale } = this.requireState("update");
    const waiting = [...this.records].filter(([, { stage }]) => stage === "unscaled");
    for (const [optimizer] of waiting) this.records.delete(optimizer);
    const gradients = [...holding].flatMap(gradientsOf);
    const before = onOwnTensors(() => clone(scale));
    this.update();
    for (const [optimizer, record] of waiting) this.records.set(optimizer, record);
    const ratio = onOwnTensors(() => div(before, scale));
    findOverflow(gradients, ratio)?.dispose();
    before.dispose();
    ratio.dispose();
  }

  /** Where an optimizer is since the last update. */
  stageOf(optimizer: ScalableOptimizer): ScalerStage {
    return this.records.get(optimizer)?.stage ?? "ready";
  }

  /** The scale; waits for the device. 1 when disabled. */
  getScale(): number {
    return this.enabled ? this.settled().scale : 1;
  }

  /** How many updates in a row have skipped the steps; waits for the device. */
  get consecutiveSkips(): number {
    return this.settled().skips;
  }

  /** The state as plain data, to be saved after `update`; empty when disabled. */
  stateDict(): GradScalerState | Record<string, never> {
    if (!this.enabled) return {};
    const { growthFactor, backoffFactor, growthInterval } = this;
    const { scale, growthTracker } = this.settled();
    return { scale, growthFactor, backoffFactor, growthInterval, growthTracker };
  }

  /**
   * Continues from a saved state, one that torch saved included, as after an update. Does nothing
   * when disabled.
   * @throws ScalerError for a state that is empty or out of range; nothing was loaded then.
   */
  loadStateDict(state: Readonly<GradScalerState> | Readonly<Record<string, unknown>>): void {
    if (!this.enabled) return;
    const loaded = checkState(state);
    this.growthFactor = loaded.growthFactor;
    this.backoffFactor = loaded.backoffFactor;
    this.growthInterval = loaded.growthInterval;
    const { scale, growthTracker } = loaded;
    this.initial = { scale: Math.fround(scale), growthTracker, skips: 0 };
    this.state?.set(this.initial);
    this.forget();
    this.watch?.reset();
  }

  private factors(): ScaleFactors {
    const { growthFactor, backoffFactor, growthInterval, minScale } = this;
    return { growthFactor, backoffFactor, growthInterval, minScale };
  }

  private requireState(op: string): ScaleState {
    if (this.state !== null) return this.state;
    throw new ScalerError(
      `${op}: nothing was scaled yet; call backward on scaler.scale(loss) instead of the loss`,
      { op },
    );
  }

  private recordOf(optimizer: ScalableOptimizer): OptimizerRecord {
    let record = this.records.get(optimizer);
    if (record === undefined) {
      record = { stage: "ready", foundInf: null };
      this.records.set(optimizer, record);
    }
    return record;
  }

  private flags(): Tensor[] {
    return [...this.records.values()].flatMap(({ foundInf }) => foundInf ?? []);
  }

  private totalFoundInf(): Tensor | null {
    const [first, ...others] = this.flags();
    return first === undefined ? null : anyFlag([first, ...others]);
  }

  /** The values after the update that was deferred. */
  private settled(): ScaleValues {
    const { state } = this;
    if (state === null) return this.initial;
    const foundInf = this.deferred ? this.totalFoundInf() : null;
    if (foundInf === null) return state.read();
    const values = state.preview(foundInf, this.factors());
    foundInf.dispose();
    return values;
  }
}

/** Divides gradients by the scale; the flag tells whether one was not finite. Null without any. */
function findOverflow(gradients: readonly Gradient[], scale: Tensor): Tensor | null {
  if (gradients.length === 0) return null;
  const foundInf = newFlag(scale.device);
  const grads = gradients.map(({ grad }) => grad);
  const inputs = [...grads, scale, foundInf];
  runInPlace("unscale", "unscale_grads", inputs, [...grads, foundInf], [grads.length]);
  return foundInf;
}

/** Applies `fn` to a tensor, or to those in nested arrays and plain objects. */
function mapNested(outputs: unknown, fn: (output: Tensor) => Tensor): unknown {
  if (outputs instanceof Tensor) return fn(outputs);
  if (Array.isArray(outputs)) return outputs.map((output) => mapNested(output, fn));
  if (typeof outputs === "object" && outputs !== null) {
    const prototype = Object.getPrototypeOf(outputs) as unknown;
    if (prototype === Object.prototype || prototype === null) {
      return Object.fromEntries(
        Object.entries(outputs).map(([key, output]) => [key, mapNested(output, fn)]),
      );
    }
  }
  throw new ArgumentError(
    `scale: expected a tensor, or tensors in an array or object, got ${describe(outputs)}`,
    { op: "scale" },
  );
}

function checkNewScale(value: number | Tensor): number | Tensor {
  if (!(value instanceof Tensor)) return checkScale(value, "newScale");
  if (value.numel === 1 && !value.requiresGrad) return value;
  const grad = value.requiresGrad ? " that requires gradients" : "";
  throw new ArgumentError(
    `update: newScale — expected a tensor of one element without gradient, got one of shape ` +
      formatShape(value.shape) +
      grad,
    { op: "update" },
  );
}
