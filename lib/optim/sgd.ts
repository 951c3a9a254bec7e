// Stochastic gradient descent.

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

/** Options of {@link SGD}; each may be set per group. */
export interface SGDOptions {
  /** Learning rate; default 1e-3. */
  lr?: number;
  /** Share of the last direction that is kept; default 0. */
  momentum?: number;
  /** Share of the gradient that does not enter the momentum, after the first step; default 0. */
  dampening?: number;
  /** Weights times this are added to the gradients; default 0. */
  weightDecay?: number;
  /** Nesterov's momentum, which needs momentum and no dampening; default false. */
  nesterov?: boolean;
  /** Ascends instead; default false. */
  maximize?: boolean;
  /** Keeps a float32 copy of each 16-bit parameter, and float32 momentum; default false. */
  masterWeights?: boolean;
}

/** A group of {@link SGD} with all its options. */
export interface SGDGroup extends ParamGroup, Required<SGDOptions> {
  lr: number;
}

const DEFAULTS: Required<SGDOptions> = {
  lr: 1e-3,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  maximize: false,
  masterWeights: false,
};

/**
 * Stochastic gradient descent with torch's arguments and order of arithmetic. One native call
 * updates all parameters; 16-bit ones are computed in float32.
 * State of a parameter with momentum: `momentumBuffer`, and `step`, which counts its updates.
 *
 *     const optimizer = new SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
 */
export class SGD extends Optimizer<SGDGroup> {
  protected readonly requiredState = [];
  private readonly masters = new Masters();

  /** @throws ArgumentError for an option outside its range, or parameters that are none. */
  constructor(params: Params<SGDGroup>, options: SGDOptions = {}) {
    super("SGD", params, withDefaults("SGD", DEFAULTS, options));
  }

  protected override checkGroup(group: Omit<SGDGroup, "params">): void {
    super.checkGroup(group);
    const { momentum, dampening, nesterov } = group;
    checkOption(this.name, "momentum", momentum);
    if (typeof dampening !== "number" || !Number.isFinite(dampening)) {
      throw new ArgumentError(
        `${this.name}: dampening — expected a finite number, got ${describe(dampening)}`,
        { op: this.name },
      );
    }
    checkOption(this.name, "weightDecay", group.weightDecay);
    checkFlag(this.name, "nesterov", nesterov);
    checkFlag(this.name, "maximize", group.maximize);
    checkFlag(this.name, "masterWeights", group.masterWeights);
    if (nesterov && (momentum === 0 || dampening !== 0)) {
      throw new ArgumentError(
        `${this.name}: nesterov needs momentum above 0 and dampening 0, got momentum ${momentum} ` +
          `and dampening ${dampening}`,
        { op: this.name },
      );
    }
  }

  protected override stateDType(key: string, group: SGDGroup, parameter: Tensor): DType {
    if (group.masterWeights && isHalfWidth(parameter.dtype)) return "float32";
    return super.stateDType(key, group, parameter);
  }

  protected override completeState(
    state: ParameterState,
    group: SGDGroup,
    parameter: Tensor,
  ): void {
    if (group.momentum !== 0) {
      const dtype = this.stateDType("momentumBuffer", group, parameter);
      // A buffer of torch's comes without a count, and holds something.
      const first = state.momentumBuffer === undefined;
      ensure(state, "step", () => stepCount(parameter, first ? 0 : 1));
      ensure(state, "momentumBuffer", () => zerosFor(parameter, dtype));
    }
    this.masters.complete(state, group.masterWeights, parameter);
  }

  protected override launch(
    updates: readonly Update<SGDGroup>[],
    gradScale: Tensor | null,
    foundInf: Tensor | null,
  ): void {
    for (const hasMomentum of [false, true]) {
      runStep<SGDGroup>({
        name: `${this.name}.step`,
        op: "sgd_step",
        updates: updates.filter(({ group }) => (group.momentum !== 0) === hasMomentum),
        lists: hasMomentum ? ["momentumBuffer", "step"] : [],
        flag: hasMomentum,
        gradScale,
        foundInf,
        options: ({ lr, momentum, dampening, weightDecay, nesterov, maximize }) => [
          ...[lr, momentum, dampening, weightDecay],
          ...[Number(nesterov), Number(maximize)],
        ],
        masters: this.masters,
      });
    }
  }
}
