// Element-wise nonlinearities and softmax as modules.

import { checkOptions } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import {
  flatten,
  gelu,
  logSoftmax,
  relu,
  sigmoid,
  silu,
  softmax,
  tanh,
  type GeluOptions,
} from "../ops/index.js";
import { ArgumentError } from "../errors.js";
import { Module } from "./module.js";

/** Gives back its input. */
export class Identity extends Module {
  override forward(x: Tensor): Tensor {
    return x;
  }
}

/** `max(x, 0)`. */
export class ReLU extends Module {
  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** `x Φ(x)`. */
export class GELU extends Module {
  readonly approximate: "none" | "tanh";

  /** @throws ArgumentError for an unknown `approximate`. */
  constructor(options: GeluOptions = {}) {
    super();
    checkOptions("GELU", options, ["approximate"]);
    const given: string = options.approximate ?? "none";
    if (given !== "none" && given !== "tanh") {
      throw new ArgumentError(
        `GELU: approximate — expected "none" or "tanh", got ${JSON.stringify(given)}`,
        { op: "GELU" },
      );
    }
    this.approximate = given;
  }

  override forward(x: Tensor): Tensor {
    return gelu(x, { approximate: this.approximate });
  }
}

/** `x sigmoid(x)`. */
export class SiLU extends Module {
  override forward(x: Tensor): Tensor {
    return silu(x);
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  override forward(x: Tensor): Tensor {
    return tanh(x);
  }
}

/** `1 / (1 + e^-x)`. */
export class Sigmoid extends Module {
  override forward(x: Tensor): Tensor {
    return sigmoid(x);
  }
}

function checkDim(module: string, dim: number | { dim: number }): number {
  if (typeof dim === "object") checkOptions(module, dim, ["dim"]);
  const given: unknown = typeof dim === "object" ? dim.dim : dim;
  if (Number.isInteger(given)) return given as number;
  throw new ArgumentError(`${module}: dim — expected a whole number, got ${String(given)}`, {
    op: module,
  });
}

/** Shares that sum to 1 along `dim`. */
export class Softmax extends Module {
  readonly dim: number;

  /** @throws ArgumentError unless `dim` is a whole number. */
  constructor(dim: number | { dim: number }) {
    super();
    this.dim = checkDim("Softmax", dim);
  }

  override forward(x: Tensor): Tensor {
    return softmax(x, { dim: this.dim });
  }
}

/** Logarithm of {@link Softmax}. */
export class LogSoftmax extends Module {
  readonly dim: number;

  /** @throws ArgumentError unless `dim` is a whole number. */
  constructor(dim: number | { dim: number }) {
    super();
    this.dim = checkDim("LogSoftmax", dim);
  }

  override forward(x: Tensor): Tensor {
    return logSoftmax(x, { dim: this.dim });
  }
}

/** Joins the dimensions from `startDim` (default 1) to `endDim` (default the last). */
export class Flatten extends Module {
  readonly startDim: number;
  readonly endDim: number;

  constructor(startDim: number | { startDim?: number; endDim?: number } = {}, endDim = -1) {
    super();
    const given = typeof startDim === "number" ? { startDim, endDim } : startDim;
    checkOptions("Flatten", given, ["startDim", "endDim"]);
    this.startDim = given.startDim ?? 1;
    this.endDim = given.endDim ?? -1;
  }

  override forward(x: Tensor): Tensor {
    return flatten(x, this.startDim, this.endDim);
  }
}
