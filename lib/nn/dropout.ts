// Dropout.

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { dropout } from "../ops/index.js";
import { checkProbability } from "./checks.js";
import { Module } from "./module.js";

/** In training sets elements to 0 with probability `p` and scales the others by `1 / (1 - p)`. */
export class Dropout extends Module {
  readonly p: number;

  /**
   * @param p default 0.5.
   * @throws ArgumentError for a `p` outside 0 to 1.
   */
  constructor(p: number | { p?: number } = {}) {
    super();
    if (typeof p === "object") checkOptions("Dropout", p, ["p"]);
    this.p = checkProbability("Dropout", "p", typeof p === "object" ? (p.p ?? 0.5) : p);
  }

  /** Whether it changes what passes through it. */
  get isActive(): boolean {
    return this.training && this.p > 0;
  }

  override forward(x: Tensor): Tensor {
    return dropout(x, { p: this.p, training: this.training });
  }
}
