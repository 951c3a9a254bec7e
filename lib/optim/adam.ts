// Adam and AdamW.

import type { Tensor } from "../core/tensor.js";
import { isHalfWidth, type DType } from "../dtype.js";
import { ArgumentError, describe } from "../errors.js";
import { ensure, Masters, runStep, stepCount, zerosFor } from "./native-step.js";
import { Optimizer, type Update } from "./optimizer.js";
import {
  checkFlag,
  checkOption,
  withDefaults,
  type ParamGroup,
  type Params,
} from "./param-group.js";
import type { ParameterState } from "./state-dict.js";

/** Options of {@link Adam} and {@link AdamW}; each may be set per group. */
export interface AdamOptions {
  /** Learning rate; default 1e-3. */
  lr?: number;
  /** Decay of the averages of the gradient and of its square; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the denominator; default 1e-8. */
  eps?: number;
  /**
   * Adam: weights times this are added to the gradients, default 0. AdamW: weights shrink by it
   * times the learning rate, default 1e-2.
   */
  weightDecay?: number;
  /** Divides by the largest average so far; default false. */
  amsgrad?: boolean;
  /** Ascends instead; default false. */
  maximize?: boolean;
  /**
   * Keeps a float32 copy of each 16-bit parameter, and float32 moments, so that steps smaller than
   * the parameter's last digit add up; default false, as in torch.
   */
  masterWeights?: boolean;
}

/** A group of {@link Adam} or {@link AdamW}, with all its options. */
export interface AdamGroup extends ParamGroup, Required<AdamOptions> {
  lr: number;
}

const DEFAULTS: Required<AdamOptions> = {
  lr: 1e-3,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0,
  amsgrad: false,
  maximize: false,
  masterWeights: false,
};

abstract class AdamBase extends Optimizer<AdamGroup> {
  protected readonly requiredState = ["step", "expAvg", "expAvgSq"];
  /** Whether weights are shrunk apart from the gradient. */
  protected abstract readonly decoupled: boolean;
  private readonly masters = new Masters();

  protected override checkGroup(group: Omit<AdamGroup, "params">): void {
    super.checkGroup(group);
    const betas: readonly number[] = group.betas;
    if (!Array.isArray(betas) || betas.length !== 2) {
      throw new ArgumentError(
        `${this.name}: betas — expected two numbers in [0, 1), got ${describe(betas)}`,
        { op: this.name },
      );
    }
    checkOption(this.name, "betas[0]", betas[0], 1);
    checkOption(this.name, "betas[1]", betas[1], 1);
    checkOption(this.name, "eps", group.eps);
    checkOption(this.name, "weightDecay", group.weightDecay);
    checkFlag(this.name, "amsgrad", group.amsgrad);
    checkFlag(this.name, "maximize", group.maximize);
    checkFlag(this.name, "masterWeights", group.masterWeights);
  }

  protected override stateDType(key: string, group: AdamGroup, parameter: Tensor): DType {
    if (group.masterWeights && isHalfWidth(parameter.dtype)) return "float32";
    return super.stateDType(key, group, parameter);
  }

  protected override completeState(
    state: ParameterState,
    group: AdamGroup,
    parameter: Tensor,
  ): void {
    const dtype = this.stateDType("expAvg", group, parameter);
    const zeros = (): Tensor => zerosFor(parameter, dtype);
    ensure(state, "step", () => stepCount(parameter));
    ensure(state, "expAvg", zeros);
    ensure(state, "expAvgSq", zeros);
    if (group.amsgrad) ensure(state, "maxExpAvgSq", zeros);
    this.masters.complete(state, group.masterWeights, parameter);
  }

  protected override launch(
    updates: readonly Update<AdamGroup>[],
    gradScale: Tensor | null,
    foundInf: Tensor | null,
  ): void {
    const lists = ["expAvg", "expAvgSq", "step"];
    for (const amsgrad of [false, true]) {
      runStep<AdamGroup>({
        name: `${this.name}.step`,
        op: "adam_step",
        updates: updates.filter(({ group }) => group.amsgrad === amsgrad),
        lists: amsgrad ? [...lists, "maxExpAvgSq"] : lists,
        flag: amsgrad,
        gradScale,
        foundInf,
        options: ({ lr, betas, eps, weightDecay, maximize }) => [
          ...[lr, ...betas, eps, weightDecay],
          ...[Number(this.decoupled), Number(maximize)],
        ],
        masters: this.masters,
      });
    }
  }
}

/**
 * Adam (Kingma and Ba, 2015) with torch's arguments and order of arithmetic; `weightDecay` adds to
 * the gradients. One native call updates all parameters. A 16-bit parameter's moments have its
 * dtype and are computed in float32, unless `masterWeights`.
 * State of a parameter: `step`, `expAvg`, `expAvgSq`, and with amsgrad `maxExpAvgSq`.
 *
 *     const optimizer = new Adam(model.parameters(), { lr: 1e-4 });
 */
export class Adam extends AdamBase {
  protected readonly decoupled = false;

  /** @throws ArgumentError for an option outside its range, or parameters that are none. */
  constructor(params: Params<AdamGroup>, options: AdamOptions = {}) {
    super("Adam", params, withDefaults("Adam", DEFAULTS, options));
  }
}

/**
 * AdamW (Loshchilov and Hutter, 2019): as {@link Adam}, but `weightDecay`, by default 1e-2,
 * shrinks the weights apart from the gradients.
 *
 *     const optimizer = new AdamW(model.parameters(), { lr: 5e-5 });
 */
export class AdamW extends AdamBase {
  protected readonly decoupled = true;

  /** @throws ArgumentError for an option outside its range, or parameters that are none. */
  constructor(params: Params<AdamGroup>, options: AdamOptions = {}) {
    super("AdamW", params, withDefaults("AdamW", { ...DEFAULTS, weightDecay: 1e-2 }, options));
  }
}
