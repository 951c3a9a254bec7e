// Watches for updates that skip one after the other, and looks at the device only where an alarm
// could be due.

import { item } from "../ops/index.js";
import type { Tensor } from "../core/tensor.js";
import { nonFinite, type ScalableOptimizer } from "./optimizer-gradients.js";
import type { ScaleState } from "./scale-state.js";
import type { SkipAlarm } from "./scaler-options.js";

/** Calls an alarm in the step in which it becomes due. */
export class SkipWatch {
  /** The alarm cannot be due in fewer updates than this. */
  private updatesUntilLook: number;
  private alarmed = false;

  constructor(private readonly alarm: SkipAlarm) {
    this.updatesUntilLook = alarm.after;
  }

  /** Starts counting anew. */
  reset(): void {
    this.updatesUntilLook = this.alarm.after;
    this.alarmed = false;
  }

  /** To be called before each step, while the gradients are there to be looked at. */
  beforeStep(optimizer: ScalableOptimizer, foundInf: Tensor, state: ScaleState): void {
    if (this.alarmed || this.updatesUntilLook > 1 || item(foundInf) === 0) return;
    const { skips, scale } = state.read();
    const consecutiveSkips = skips + 1;
    if (consecutiveSkips < this.alarm.after) return;
    this.alarmed = true;
    this.alarm.action({ consecutiveSkips, scale, parameters: nonFinite(optimizer) });
  }

  /** To be called after each update. */
  afterUpdate(state: ScaleState): void {
    this.updatesUntilLook--;
    if (this.updatesUntilLook > 0) return;
    this.updatesUntilLook = this.alarm.after - (this.alarmed ? 0 : state.read().skips);
    this.alarmed = false;
  }
}
