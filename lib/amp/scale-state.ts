// What the loss scaler keeps on the device: the scale, how long it has held, and how many updates
// in a row have skipped. Nothing here waits for the device, except what reads.

import { noGrad } from "../core/context.js";
import { runInPlace } from "../core/dispatch.js";
import { keep, outsideScopes } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { add, clone, copyFrom, fill, full, item, mul, ne } from "../ops/index.js";
import { withoutAutocast } from "./autocast.js";

/** How the scale adapts. */
export interface ScaleFactors {
  readonly growthFactor: number;
  readonly backoffFactor: number;
  readonly growthInterval: number;
  readonly minScale: number;
}

/** The state as numbers. */
export interface ScaleValues {
  readonly scale: number;
  /** Updates without overflow since the scale last changed. */
  readonly growthTracker: number;
  /** Updates in a row that skipped. */
  readonly skips: number;
}

/** Runs `fn` unrecorded, with nothing cast, on tensors that no tidy releases. */
export function onOwnTensors<T>(fn: () => T): T {
  return outsideScopes(() => noGrad(() => withoutAutocast(fn)));
}

function scalar(value: number, dtype: "float32" | "int32", device: Device): Tensor {
  return keep(full([], value, { dtype, device }));
}

/** A flag that an overflow sets to 1: one float32 element, 0. */
export function newFlag(device: Device): Tensor {
  return onOwnTensors(() => scalar(0, "float32", device));
}

/** A new flag that is set where one of `flags` is. */
export function anyFlag(flags: readonly [Tensor, ...Tensor[]]): Tensor {
  const [first, ...others] = flags;
  return onOwnTensors(() =>
    others.reduce((total, flag) => {
      const next = add(total, flag);
      total.dispose();
      return next;
    }, clone(first)),
  );
}

/** Scale, growth tracker and counter of skips, one element each. */
export class ScaleState {
  readonly scale: Tensor;
  private readonly tracker: Tensor;
  private readonly skips: Tensor;

  constructor(values: ScaleValues, device: Device) {
    [this.scale, this.tracker, this.skips] = onOwnTensors(() => [
      scalar(values.scale, "float32", device),
      scalar(values.growthTracker, "int32", device),
      scalar(values.skips, "float32", device),
    ]);
  }

  /** Replaces all three. */
  set({ scale, growthTracker, skips }: ScaleValues): void {
    onOwnTensors(() => {
      fill(this.scale, scale);
      fill(this.tracker, growthTracker);
      fill(this.skips, skips);
    });
  }

  /** Replaces the scale by a number or by one element. */
  setScale(scale: number | Tensor): void {
    onOwnTensors(() => {
      if (typeof scale === "number") {
        fill(this.scale, scale);
        return;
      }
      const flat = scale.reshape([]);
      copyFrom(this.scale, flat);
      if (flat !== scale) flat.dispose();
    });
  }

  /** A copy of the scale, for whoever reads it after the next update. */
  copyScale(): Tensor {
    return onOwnTensors(() => clone(this.scale));
  }

  /** Adapts scale and counters to whether there was an overflow. Resets `foundInf`. */
  update(foundInf: Tensor, factors: ScaleFactors): void {
    onOwnTensors(() => {
      const found = ne(foundInf, 0);
      const more = add(this.skips, 1);
      const skips = mul(more, found);
      copyFrom(this.skips, skips);
      for (const made of [found, more, skips]) made.dispose();
      const { growthFactor, backoffFactor, growthInterval, minScale } = factors;
      const inputs = [this.scale, this.tracker, foundInf];
      const attrs = [growthFactor, backoffFactor, growthInterval, minScale];
      runInPlace("update", "scaler_update", inputs, inputs, attrs);
    });
  }

  /** What {@link update} would leave behind. */
  preview(foundInf: Tensor, factors: ScaleFactors): ScaleValues {
    const copy = new ScaleState(this.read(), this.scale.device);
    copy.update(foundInf, factors);
    const values = copy.read();
    copy.dispose();
    return values;
  }

  read(): ScaleValues {
    return {
      scale: item(this.scale),
      growthTracker: item(this.tracker),
      skips: item(this.skips),
    };
  }

  private dispose(): void {
    for (const tensor of [this.scale, this.tracker, this.skips]) tensor.dispose();
  }
}
