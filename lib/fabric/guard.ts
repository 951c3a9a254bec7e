// Catches a backward that bypasses the loss scaler, where it happens.

import { context, noGrad } from "../core/context.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { ScalerError } from "../errors.js";

/**
 * The same tensor, through which gradients flow only while `isAllowed`. Gradients that are recorded
 * themselves always do: those of a penalty term, say, go into a loss and not into the parameters.
 */
export function guardBackward(tensor: Tensor, isAllowed: () => boolean): Tensor {
  if (!tensor.requiresGrad || !context.gradEnabled) return tensor;
  const guarded = noGrad(() => tensor.detach());
  record("forward", [tensor], [guarded], [], ([grad]) => {
    if (!isAllowed() && !context.gradEnabled) {
      throw new ScalerError(
        "backward: the loss scaler was bypassed: call fabric.backward(loss) instead of " +
          "loss.backward()",
        { op: "backward" },
      );
    }
    return [grad];
  });
  return guarded;
}
