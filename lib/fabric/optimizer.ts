// The optimizer that `Fabric.setup` gives back: the user's own, whose step goes through the loss
// scaler where there is one.

import type { StepResult } from "../amp/index.js";
import type { Optimizer, ParamGroup } from "../optim/index.js";

/** Any optimizer, whatever options its groups have. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyOptimizer = Optimizer<any>;

/** An optimizer as `Fabric.setup` gives it back: all of the original's, which is `optimizer`. */
export type FabricOptimizer<O extends AnyOptimizer = Optimizer<ParamGroup>> = {
  readonly optimizer: O;
  /**
   * Updates the parameters; with a loss scaler, on unscaled gradients that are finite.
   * @param closure computes the loss anew and its gradients; not with a loss scaler.
   * @returns how it went
   */
  step(closure?: () => unknown): StepResult;
} & O;

const originals = new WeakMap<object, AnyOptimizer>();

/** Wraps an optimizer; `step` is what its `step` does. */
export function wrapOptimizer<O extends AnyOptimizer>(
  optimizer: O,
  step: (closure?: () => unknown) => StepResult,
): FabricOptimizer<O> {
  const wrapped = new Proxy(optimizer, {
    get(target, name): unknown {
      if (name === "step") return step;
      if (name === "optimizer") return target;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" && name !== "constructor"
        ? (value.bind(target) as unknown)
        : value;
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });
  originals.set(wrapped, optimizer);
  return wrapped as FabricOptimizer<O>;
}

/** Whether an optimizer was wrapped already. */
export function isWrappedOptimizer(value: unknown): value is FabricOptimizer {
  return typeof value === "object" && value !== null && originals.has(value);
}

/** The user's own optimizer, whether it is given wrapped or as it is. */
export function originalOf(optimizer: AnyOptimizer): AnyOptimizer {
  return originals.get(optimizer) ?? optimizer;
}
