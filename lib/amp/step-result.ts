// What a step of the loss scaler reports, read from the device only when somebody looks.

import type { Tensor } from "../core/tensor.js";
import { item } from "../ops/index.js";

/** How a step went. On a GPU, reading any of it first waits for the step. */
export interface StepResult {
  /** Whether the optimizer's step was left out; the same as `foundInf`. */
  readonly skipped: boolean;
  /** Whether a gradient was infinite or NaN. */
  readonly foundInf: boolean;
  /** The scale that the step's gradients had. */
  readonly scale: number;
}

/** The result of a step that nothing was scaled for. */
export function unscaledStep(): StepResult {
  return { skipped: false, foundInf: false, scale: 1 };
}

/** The result of a step; takes over both tensors. */
export function scaledStep(foundInf: Tensor, scale: Tensor): StepResult {
  let values: { foundInf: boolean; scale: number } | null = null;
  const read = (): { foundInf: boolean; scale: number } => {
    if (values === null) {
      values = { foundInf: item(foundInf) !== 0, scale: item(scale) };
      foundInf.dispose();
      scale.dispose();
    }
    return values;
  };
  // The CPU has computed by now, and need not keep the tensors.
  if (foundInf.device === "cpu") read();
  return {
    get skipped() {
      return read().foundInf;
    },
    get foundInf() {
      return read().foundInf;
    },
    get scale() {
      return read().scale;
    },
  };
}
