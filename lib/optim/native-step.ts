// How an optimizer's parameters become one call of a native step, and the float32 masters of 16-bit
// parameters.

import { runInPlace } from "../core/dispatch.js";
import { keep, tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { isHalfWidth } from "../dtype.js";
import type { StorageState } from "../native.js";
import { copyFrom, eq, full, to, where, zeros } from "../ops/index.js";
import type { Update } from "./optimizer.js";
import type { ParamGroup } from "./param-group.js";
import type { ParameterState } from "./state-dict.js";

/** Makes an entry of a state where there is none. */
export function ensure(state: ParameterState, key: string, make: () => Tensor): void {
  state[key] ??= make();
}

/** Zeros in the shape and on the device of a parameter, to be remembered of it. */
export function zerosFor(parameter: Tensor, dtype = parameter.dtype): Tensor {
  return keep(zeros(parameter.shape, { dtype, device: parameter.device }));
}

/** A count of steps: on the device, so that a step that is left out there does not count. */
export function stepCount(parameter: Tensor, value = 0): Tensor {
  return keep(full([], value, { dtype: "float32", device: parameter.device }));
}

/**
 * Keeps float32 masters of 16-bit parameters, and brings one up to date when its parameter was
 * written by something else than a step (a checkpoint, say).
 */
export class Masters {
  private readonly seen = new WeakMap<Tensor, { storage: StorageState; version: number }>();

  /** Makes, renews or drops `state.master` as the parameter needs it. */
  complete(state: ParameterState, wanted: boolean, parameter: Tensor): void {
    const { master } = state;
    if (!wanted || !isHalfWidth(parameter.dtype)) {
      master?.dispose();
      delete state.master;
      return;
    }
    const { storage } = parameter.handle;
    const seen = this.seen.get(parameter);
    if (master === undefined) {
      state.master = keep(to(parameter, "float32"));
    } else if (seen?.storage !== storage || seen.version !== storage.version) {
      // Where the parameter is still the rounded master, the master has the digits it lost.
      tidy(() => {
        const unchanged = eq(to(master, parameter.dtype), parameter);
        copyFrom(master, where(unchanged, master, to(parameter, "float32")));
      });
    }
  }

  /** Remembers that parameter and master agree now. */
  settle(parameter: Tensor): void {
    const { storage } = parameter.handle;
    this.seen.set(parameter, { storage, version: storage.version });
  }
}

/** One native step over parameters whose state has the same entries. */
export interface NativeStep<G extends ParamGroup> {
  readonly name: string;
  readonly op: "adam_step" | "sgd_step";
  readonly updates: readonly Update<G>[];
  /** Entries of the state in the order of the op's lists. */
  readonly lists: readonly string[];
  /** Whether the optional lists that come before the masters are there. */
  readonly flag: boolean;
  readonly gradScale: Tensor | null;
  readonly foundInf: Tensor | null;
  /** The op's attributes of a group. */
  readonly options: (group: G) => readonly number[];
  readonly masters: Masters;
}

/** Runs a step: everything but gradients (unless they are scaled) and scalars is written. */
export function runStep<G extends ParamGroup>(step: NativeStep<G>): void {
  const { updates, gradScale, foundInf } = step;
  if (updates.length === 0) return;
  const params = updates.map(({ parameter }) => parameter);
  const grads = updates.map(({ grad }) => grad);
  const hasMasters = updates.some(({ state }) => state.master !== undefined);
  const written = step.lists.flatMap((key) => updates.map(({ state }) => state[key]!));
  if (hasMasters) {
    written.push(...updates.map(({ state, parameter }) => state.master ?? parameter));
  }
  const inputs = [...params, ...grads, ...written];
  if (gradScale !== null) inputs.push(gradScale);
  if (foundInf !== null) inputs.push(foundInf);

  const groups: (readonly number[])[] = [];
  for (let begin = 0; begin < updates.length;) {
    const { group } = updates[begin]!;
    let end = begin + 1;
    while (end < updates.length && updates[end]!.group === group) end++;
    groups.push([end - begin, ...step.options(group)]);
    begin = end;
  }
  const flags = [step.flag, hasMasters, gradScale !== null, foundInf !== null].map(Number);
  runInPlace(
    step.name,
    step.op,
    inputs,
    [...params, ...written, ...(gradScale === null ? [] : grads)],
    [updates.length, ...flags, groups.length, ...groups.flat()],
  );
  if (hasMasters) for (const parameter of params) step.masters.settle(parameter);
}
