// The state of an optimizer as plain data, and back: torch's layout, in which parameters are
// numbered.

import { noGrad } from "../core/context.js";
import { keep, outsideScopes } from "../core/scope.js";
import { Tensor } from "../core/tensor.js";
import type { DType } from "../dtype.js";
import { CheckpointError, describe, formatShape } from "../errors.js";
import { clone, full, to } from "../ops/index.js";
import { sameShape } from "../shape.js";
import type { ParamGroup } from "./param-group.js";

/** What an optimizer remembers of a parameter, by torch's names in camelCase. */
export type ParameterState = Record<string, Tensor>;

/** State of an optimizer: parameters are numbered from 0 through all groups. */
export interface OptimizerStateDict<G extends ParamGroup = ParamGroup> {
  state: Record<number, ParameterState>;
  paramGroups: (Omit<G, "params"> & { params: number[] })[];
}

/** The state of `groups` as plain data; the tensors are not copied. */
export function writeStateDict<G extends ParamGroup>(
  groups: readonly G[],
  state: ReadonlyMap<Tensor, ParameterState>,
): OptimizerStateDict<G> {
  const dict: OptimizerStateDict<G> = { state: {}, paramGroups: [] };
  let next = 0;
  for (const group of groups) {
    const params = group.params.map((parameter) => {
      const entries = state.get(parameter);
      if (entries !== undefined) dict.state[next] = { ...entries };
      return next++;
    });
    dict.paramGroups.push({ ...group, params });
  }
  return dict;
}

/** What the optimizer that loads a state wants of it. */
interface Requirements<G extends ParamGroup> {
  readonly required: readonly string[];
  readonly check: (group: Omit<G, "params">) => void;
  readonly dtypeOf: (key: string, group: G, parameter: Tensor) => DType;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Options of the groups, and what is remembered of each parameter. */
export interface LoadedState<G extends ParamGroup> {
  readonly options: Omit<G, "params">[];
  readonly state: Map<Tensor, ParameterState>;
}

/**
 * Checks a state against the groups of an optimizer and copies its tensors.
 * @throws CheckpointError where it does not fit.
 */
export function readStateDict<G extends ParamGroup>(
  name: string,
  dict: OptimizerStateDict<G>,
  groups: readonly G[],
  requirements: Requirements<G>,
): LoadedState<G> {
  const op = `${name}.loadStateDict`;
  const fail = (what: string): never => {
    throw new CheckpointError(`${op}: ${what}`, { op });
  };
  const raw: unknown = dict;
  if (!isRecord(raw) || !isRecord(raw.state) || !Array.isArray(raw.paramGroups)) {
    return fail(`expected an object with state and paramGroups, got ${describe(dict)}`);
  }
  if (dict.paramGroups.length !== groups.length) {
    fail(`${dict.paramGroups.length} parameter groups for an optimizer that has ${groups.length}`);
  }
  const options = dict.paramGroups.map((saved, i) => {
    const group = groups[i]!;
    if (!isRecord(saved) || !Array.isArray(saved.params)) fail(`group ${i} has no params`);
    if (saved.params.length !== group.params.length) {
      fail(`group ${i} has ${saved.params.length} parameters, here ${group.params.length}`);
    }
    const rest: Partial<typeof saved> = { ...saved };
    delete rest.params;
    requirements.check({ ...group, ...rest });
    return rest as unknown as Omit<G, "params">;
  });
  const parameters = new Map<string, { group: G; parameter: Tensor }>();
  dict.paramGroups.forEach((saved, i) => {
    const group = { ...groups[i]!, ...options[i] };
    saved.params.forEach((number, at) => {
      if (parameters.has(String(number))) fail(`parameter ${number} is in two places`);
      parameters.set(String(number), { group, parameter: groups[i]!.params[at]! });
    });
  });

  const state = new Map<Tensor, ParameterState>();
  try {
    for (const [number, entries] of Object.entries(dict.state)) {
      const owner = parameters.get(number);
      if (owner === undefined) return fail(`state of parameter ${number}, which is in no group`);
      if (!isRecord(entries)) return fail(`state of parameter ${number} is ${describe(entries)}`);
      const { group, parameter } = owner;
      const label = `of parameter ${number} (${parameter.dtype} ${formatShape(parameter.shape)})`;
      const missing = requirements.required.find((key) => !(entries[key] ?? false));
      if (missing !== undefined) fail(`the state ${label} lacks ${missing}`);
      const copies: ParameterState = {};
      state.set(parameter, copies);
      for (const [key, value] of Object.entries<unknown>(entries)) {
        // torch writes None for a buffer that is not there yet.
        if (value === null || value === undefined) continue;
        const dtype = requirements.dtypeOf(key, group, parameter);
        copies[key] = copyEntry(value, key, parameter, dtype, (what) => fail(`${what} ${label}`));
      }
    }
  } catch (error) {
    for (const copies of state.values()) for (const copy of Object.values(copies)) copy.dispose();
    throw error;
  }
  return { options, state };
}

function copyEntry(
  value: unknown,
  key: string,
  parameter: Tensor,
  dtype: DType,
  fail: (what: string) => never,
): Tensor {
  const { device } = parameter;
  const shape = key === "step" ? [] : parameter.shape;
  return outsideScopes(() =>
    noGrad(() => {
      if (key === "step" && typeof value === "number") {
        return keep(full([], value, { dtype, device }));
      }
      if (!(value instanceof Tensor)) return fail(`${key} is ${describe(value)}, not a tensor,`);
      if (!sameShape(value.shape, shape)) {
        fail(`${key} has shape ${formatShape(value.shape)} instead of ${formatShape(shape)}`);
      }
      const placed = to(value, { dtype, device });
      return keep(placed === value ? clone(value) : placed);
    }),
  );
}
