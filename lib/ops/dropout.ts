// Dropout.

import { drawRandom } from "../core/context.js";
import { defineOp, runMany } from "../core/dispatch.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { ArgumentError } from "../errors.js";
import { mul, where } from "./binary.js";
import { checkFloating, checkOptions } from "./checks.js";

/** Options of {@link dropout}. */
export interface DropoutOptions {
  /** Probability with which an element becomes 0. Default: 0.5. */
  p?: number | undefined;
  /** Whether anything is dropped at all. Default: true. */
  training?: boolean | undefined;
}

/**
 * Each element becomes 0 with probability `p`, and else is divided by 1 - p. Shape and dtype of x;
 * x itself where nothing is dropped. The mask comes from the library's generator (`manualSeed`) and
 * is the same on every device.
 * @throws ArgumentError for a `p` that is not from 0 to 1, DTypeError for integers and bool.
 */
export const dropout = defineOp("dropout", (x: Tensor, options: DropoutOptions = {}): Tensor => {
  checkFloating("dropout", x);
  checkOptions("dropout", options, ["p", "training"]);
  x.assertUsable("dropout");
  const { p = 0.5, training = true } = options;
  if (!(p >= 0 && p <= 1)) {
    throw new ArgumentError(`dropout: p — expected a number from 0 to 1, got ${String(p)}`, {
      op: "dropout",
    });
  }
  if (!training || p === 0) return x;
  const [seed, offset] = drawRandom(x.numel);
  const { shape } = x;
  const outputs = [
    { dtype: x.dtype, shape },
    { dtype: "bool" as const, shape },
  ];
  const [y, mask] = runMany("dropout", "dropout", [x], outputs, [seed, offset, p]);
  const scale = p === 1 ? 0 : 1 / (1 - p);
  record("dropout", [x], [y!], [mask!], ([g], [kept]) => [mul(where(kept!, g!, 0), scale)]);
  mask!.dispose();
  return y!;
});
