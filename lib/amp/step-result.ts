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
  let values: StepResult | null = null;
  const read = (): StepResult => {
    if (values === null) {
      const skipped = item(foundInf) !== 0;
      values = { skipped, foundInf: skipped, scale: item(scale) };
      foundInf.dispose();
      scale.dispose();
    }
    return values;
  };
  // The CPU has computed by now, and need not keep the tensors.
  if (foundInf.device === "cpu") return read();
  return {
    get skipped() {
      return read().skipped;
    },
    get foundInf() {
      return read().foundInf;
    },
    get scale() {
      return read().scale;
    },
  };
}
