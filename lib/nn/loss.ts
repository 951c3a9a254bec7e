// The losses as modules.

import type { Tensor } from "../core/tensor.js";
import { bceWithLogits, crossEntropy, l1Loss, mseLoss, nllLoss } from "../ops/index.js";
import type {
  BceWithLogitsOptions,
  CrossEntropyOptions,
  LossOptions,
  NllLossOptions,
} from "../ops/index.js";
import { Module } from "./module.js";

/** Cross entropy of scores [N, C, ...] and class indices [N, ...]. */
export class CrossEntropyLoss extends Module {
  constructor(readonly options: CrossEntropyOptions = {}) {
    super();
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return crossEntropy(input, target, this.options);
  }
}

/** Negative log likelihood of log probabilities [N, C, ...] and class indices [N, ...]. */
export class NLLLoss extends Module {
  constructor(readonly options: NllLossOptions = {}) {
    super();
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return nllLoss(input, target, this.options);
  }
}

/** Squared differences. */
export class MSELoss extends Module {
  constructor(readonly options: LossOptions = {}) {
    super();
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return mseLoss(input, target, this.options);
  }
}

/** Absolute differences. */
export class L1Loss extends Module {
  constructor(readonly options: LossOptions = {}) {
    super();
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return l1Loss(input, target, this.options);
  }
}

/** Binary cross entropy of scores before the sigmoid. */
export class BCEWithLogitsLoss extends Module {
  constructor(readonly options: BceWithLogitsOptions = {}) {
    super();
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return bceWithLogits(input, target, this.options);
  }
}
