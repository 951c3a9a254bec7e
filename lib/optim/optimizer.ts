// What all optimizers share: groups, state, gradients, and the two ways to step, on gradients as
// they are and on scaled ones that may have overflowed.

import { checkOptions, isOptions } from "../core/options.js";
import { checkFunction, enableGrad, noGrad } from "../core/context.js";
import { keep, outsideScopes } from "../core/scope.js";
import { Tensor } from "../core/tensor.js";
import type { Device, DType } from "../dtype.js";
import { ArgumentError, DTypeError, ShapeError, describe, formatShape } from "../errors.js";
import { sameShape } from "../shape.js";
import { checkTensor } from "../ops/checks.js";
import {
  checkOption,
  collectParameters,
  isGroupInput,
  type NamedParameter,
  type ParamGroup,
  type ParamGroupInput,
  type Params,
} from "./param-group.js";
import {
  readStateDict,
  writeStateDict,
  type OptimizerStateDict,
  type ParameterState,
} from "./state-dict.js";

/** One parameter of a step: it has a gradient. */
export interface Update<G extends ParamGroup> {
  readonly group: G;
  readonly parameter: Tensor;
  readonly grad: Tensor;
  readonly state: ParameterState;
}

/** What a step on scaled gradients reports. Reading `skipped` may wait for the device. */
export interface StepOutcome {
  readonly skipped: boolean;
}

/** Options of `Optimizer.zeroGrad`. */
export interface ZeroGradOptions {
  /** Releases the gradients, instead of writing zeros into them; default true. */
  setToNone?: boolean;
  /** The same by JavaScript's word for it. */
  setToNull?: boolean;
}

/** Base class of optimizers. */
export abstract class Optimizer<G extends ParamGroup = ParamGroup> {
  /** Options of groups that do not set their own. */
  readonly defaults: Omit<G, "params">;
  /** What is remembered of each parameter that has been updated. */
  readonly state = new Map<Tensor, ParameterState>();
  private readonly groups: G[] = [];
  private readonly names = new WeakMap<Tensor, string>();
  private waiting: (() => void)[] = [];

  /** `name` is what errors call the optimizer. */
  constructor(
    readonly name: string,
    params: Params<G>,
    defaults: Omit<G, "params">,
  ) {
    this.defaults = defaults;
    const entries = this.entriesOf(params);
    this.checkGroup(defaults);
    if (entries.length === 0) {
      throw new ArgumentError(`${name}: got an empty list of parameters`, { op: name });
    }
    if (entries.every(isGroupInput<G>)) {
      for (const entry of entries) this.addParamGroup(entry);
    } else {
      // A group among parameters is refused as one of them.
      this.addParamGroup({ params: entries } as unknown as ParamGroupInput<G>);
    }
  }

  private entriesOf(params: Params<G>): Parameters<typeof isGroupInput<G>>[0][] {
    const given: unknown = params;
    const iterable = typeof given === "object" && given !== null && Symbol.iterator in given;
    if (iterable && !((params as unknown) instanceof Tensor)) return [...params];
    throw new ArgumentError(
      `${this.name}: params — expected a list of tensors, of [name, tensor] pairs or of groups, ` +
        `got ${describe(params)}`,
      { op: this.name },
    );
  }

  /** The groups of parameters. A schedule that waits for the outcome of a step settles first. */
  get paramGroups(): G[] {
    const { waiting } = this;
    this.waiting = [];
    for (const listener of waiting) listener();
    return this.groups;
  }

  /** Calls `listener` once, before the groups are next read, by a step or from outside. */
  beforeGroupsRead(listener: () => void): void {
    this.waiting.push(listener);
  }

  /**
   * Adds parameters with options of their own, those left out as the optimizer's.
   * @throws ArgumentError for a parameter that is here already, or an option out of its range.
   */
  addParamGroup(input: ParamGroupInput<G>): void {
    if (!isOptions(input) || !("params" in input)) {
      throw new ArgumentError(
        `${this.name}.addParamGroup: expected a group with params, got ${describe(input)}`,
        { op: `${this.name}.addParamGroup` },
      );
    }
    const { params, names } = collectParameters(
      this.name,
      input.params,
      new Set(this.parameters()),
    );
    const group = { ...this.defaults, ...input, params } as unknown as G;
    this.checkGroup(group);
    this.groups.push(group);
    for (const [parameter, name] of names) this.names.set(parameter, name);
  }

  /** Every parameter, in the order of the groups. */
  parameters(): Tensor[] {
    return this.groups.flatMap((group) => group.params);
  }

  /** Gives parameters names for errors, where they came without one. */
  nameParameters(named: Iterable<NamedParameter>): void {
    for (const [name, parameter] of named) {
      if (!this.names.has(parameter)) this.names.set(parameter, name);
    }
  }

  /** How errors call a parameter: its name or else its place, dtype and shape. */
  describeParameter(parameter: Tensor): string {
    const name = this.names.get(parameter) ?? `parameter ${this.parameters().indexOf(parameter)}`;
    return `${name} (${parameter.dtype} ${formatShape(parameter.shape)})`;
  }

  /** The parameters that have a gradient, with it. */
  gradients(): { parameter: Tensor; grad: Tensor }[] {
    return this.parameters().flatMap((parameter) => {
      const { grad } = parameter;
      return grad === null || grad.isDisposed ? [] : [{ parameter, grad }];
    });
  }

  /** What is remembered of a parameter; undefined before its first update. */
  stateOf(parameter: Tensor): ParameterState | undefined {
    return this.state.get(parameter);
  }

  /**
   * Updates every parameter that has a gradient.
   * @param closure computes the loss anew and its gradients; it runs with gradients recorded.
   * @returns what the closure returned.
   */
  step(): undefined;
  step<T>(closure: () => T): T;
  step<T>(closure?: () => T): T | undefined {
    if (closure !== undefined) checkFunction(closure, `${this.name}.step`);
    const result = closure === undefined ? undefined : enableGrad(closure);
    this.update(null, null);
    return result;
  }

  /**
   * A step on scaled gradients that does not wait for the device: they are divided by `gradScale`
   * on the way (and left so), and nothing is written where `foundInf` is not 0.
   * @param gradScale one float32 element; null for gradients that are unscaled already.
   * @param foundInf one float32 element.
   */
  stepScaled(gradScale: Tensor | null, foundInf: Tensor): void {
    for (const scalar of gradScale === null ? [foundInf] : [gradScale, foundInf]) {
      checkTensor(scalar, `${this.name}.stepScaled`);
      if (scalar.dtype !== "float32" || scalar.numel !== 1) {
        throw new ArgumentError(
          `${this.name}.stepScaled: expected one float32 element, got ${scalar.dtype} ` +
            formatShape(scalar.shape),
          { op: `${this.name}.stepScaled` },
        );
      }
    }
    this.update(gradScale, foundInf);
  }

  /**
   * Releases all gradients, so that the next backward writes new ones; or fills them with 0. Who
   * still needs a gradient clones it before.
   */
  zeroGrad(options: ZeroGradOptions = {}): void {
    checkOptions(`${this.name}.zeroGrad`, options, ["setToNone", "setToNull"]);
    const { setToNull = true, setToNone = setToNull } = options;
    for (const { parameter, grad } of this.gradients()) {
      if (setToNone) {
        parameter.grad = null;
        grad.dispose();
      } else {
        if (grad.requiresGrad) parameter.grad = keep(outsideScopes(() => grad.detach()));
        noGrad(() => parameter.grad!.zero());
      }
    }
  }

  /**
   * Options of the groups and what is remembered of each parameter, by torch's layout: parameters
   * are numbered through the groups. The tensors are the optimizer's own, not copies: the next step
   * changes them.
   */
  stateDict(): OptimizerStateDict<G> {
    return writeStateDict(this.paramGroups, this.state);
  }

  /**
   * Restores what {@link stateDict} returned, from copies in the dtypes and on the devices that the
   * parameters ask for. An error leaves everything as it was.
   * @throws CheckpointError where it does not fit the groups, parameters or kind of optimizer.
   */
  loadStateDict(stateDict: OptimizerStateDict<G>): void {
    const loaded = readStateDict<G>(this.name, stateDict, this.groups, {
      required: this.requiredState,
      check: (group) => {
        this.checkGroup(group);
      },
      dtypeOf: (key, group, parameter) => this.stateDType(key, group, parameter),
    });
    this.waiting = [];
    this.dispose();
    this.groups.forEach((group, i) => Object.assign(group, loaded.options[i]));
    for (const [parameter, state] of loaded.state) this.state.set(parameter, state);
  }

  /** Releases what is remembered of the parameters; they themselves stay. */
  dispose(): void {
    for (const state of this.state.values()) {
      for (const tensor of Object.values(state)) tensor.dispose();
    }
    this.state.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Throws for options outside their range. */
  protected checkGroup(group: Omit<G, "params">): void {
    checkOption(this.name, "lr", group.lr);
  }

  /** What a loaded state must have of each parameter. */
  protected abstract readonly requiredState: readonly string[];

  /** Adds to `state` what a step needs and is not there yet. */
  protected abstract completeState(state: ParameterState, group: G, parameter: Tensor): void;

  /** Updates parameters that are on one device, all of which have complete state. */
  protected abstract launch(
    updates: readonly Update<G>[],
    gradScale: Tensor | null,
    foundInf: Tensor | null,
  ): void;

  /** The dtype in which an entry of the state is kept. */
  protected stateDType(key: string, _group: G, parameter: Tensor): DType {
    return key === "step" ? "float32" : parameter.dtype;
  }

  private update(gradScale: Tensor | null, foundInf: Tensor | null): void {
    const found: { group: G; parameter: Tensor; grad: Tensor }[] = [];
    for (const group of this.paramGroups) {
      this.checkGroup(group);
      for (const parameter of group.params) {
        const { grad } = parameter;
        if (grad === null || grad.isDisposed) continue;
        this.checkGradient(parameter, grad);
        found.push({ group, parameter, grad });
      }
    }
    const byDevice = new Map<Device, Update<G>[]>();
    outsideScopes(() => {
      noGrad(() => {
        for (const { group, parameter, grad } of found) {
          const state = this.state.get(parameter) ?? {};
          this.completeState(state, group, parameter);
          this.state.set(parameter, state);
          const updates = byDevice.get(parameter.device) ?? [];
          if (updates.length === 0) byDevice.set(parameter.device, updates);
          updates.push({ group, parameter, grad, state });
        }
        for (const updates of byDevice.values()) this.launch(updates, gradScale, foundInf);
      });
    });
  }

  private checkGradient(parameter: Tensor, grad: Tensor): void {
    const op = `${this.name}.step`;
    parameter.assertUsable(op);
    if (!sameShape(parameter.shape, grad.shape)) {
      throw new ShapeError(
        `${op}: gradient of shape ${formatShape(grad.shape)} for ` +
          this.describeParameter(parameter),
        { op },
      );
    }
    for (const [key, tensor] of Object.entries(this.state.get(parameter) ?? {})) {
      if (key !== "step" && !sameShape(parameter.shape, tensor.shape)) {
        throw new ShapeError(
          `${op}: ${this.describeParameter(parameter)} has changed its shape, its ${key} is ` +
            formatShape(tensor.shape),
          { op },
        );
      }
    }
    if (parameter.dtype !== grad.dtype) {
      throw new DTypeError(
        `${op}: ${grad.dtype} gradient for ${this.describeParameter(parameter)}; set grad to one ` +
          `of the parameter's dtype`,
        { op },
      );
    }
  }
}
