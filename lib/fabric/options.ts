// The options of Fabric and of its methods.

import { checkOptions } from "../core/options.js";
import type { GradScaler, GradScalerOptions } from "../amp/index.js";
import type { BackwardOptions, Tensor } from "../core/tensor.js";
import type { Logger } from "./loggers.js";
import type { PlacementOptions } from "./placement.js";
import type { PrecisionInput } from "./precision.js";

/** Options of `Fabric`. */
export interface FabricOptions extends PlacementOptions {
  /** Default "32-true". */
  precision?: PrecisionInput | (string & {}) | undefined;
  /** The loss scaler of "16-mixed", or options for it. */
  scaler?: GradScaler | GradScalerOptions | undefined;
  loggers?: Logger | readonly Logger[] | undefined;
  /** Objects whose methods `call` calls. */
  callbacks?: object | readonly object[] | undefined;
  /** Passed to `seedEverything`. */
  seed?: number | undefined;
}

/** Options of `Fabric.setup`. */
export interface SetupOptions {
  /** Whether the module is moved to the device; default true. */
  moveToDevice?: boolean;
  /** Given back after the optimizers. */
  scheduler?: object;
}

/** Options of `Fabric.backward`. */
export interface FabricBackwardOptions extends BackwardOptions {
  /** Gradient of the loss, where it has more than one element. */
  gradient?: Tensor | undefined;
}

/** Options of `Fabric.clipGradients`: exactly one of `maxNorm` and `clipVal`. */
export interface ClipOptions {
  /** Largest norm of all gradients as one vector. */
  maxNorm?: number | undefined;
  /** Largest absolute value of an element. */
  clipVal?: number | undefined;
  /** The p of the p-norm; default 2. */
  normType?: number | undefined;
  /**
   * Whether a norm that is not finite is an error. Default: true, but false with a loss scaler,
   * whose first scales overflow as a matter of course and make it skip the step.
   */
  errorIfNonfinite?: boolean | undefined;
}

const NAMES = [
  "accelerator",
  "devices",
  "strategy",
  "precision",
  "scaler",
  "loggers",
  "callbacks",
  "seed",
];

/** Throws ArgumentError for options that do not exist. */
export function checkOptionNames(options: FabricOptions): void {
  checkOptions("Fabric", options, NAMES);
}
