// What `Fabric.save` puts into a checkpoint, and how `Fabric.load` puts it back. The state of the
// loss scaler goes along under a key of its own.

import type { GradScaler } from "../amp/index.js";
import { Tensor } from "../core/tensor.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";
import {
  inspectSafetensors,
  loadCheckpoint,
  loadSafetensors,
  type CheckpointValue,
} from "../io/index.js";
import { Module } from "../nn/index.js";
import { Optimizer } from "../optim/index.js";
import type { AnyOptimizer } from "./optimizer.js";

/** Chooses what of an entry's state is saved. */
export type StateFilter = (name: string, value: unknown) => boolean;

/** Key in a checkpoint under which Fabric keeps what is its own: `{ scaler }`. */
export const FABRIC_STATE = "__fabric__";

type State = Record<string, unknown>;

interface Loadable {
  loadStateDict(state: unknown, options?: { strict: boolean }): unknown;
}

function isLoadable(value: unknown): value is Loadable {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as Partial<Loadable>).loadStateDict === "function"
  );
}

function isStateful(value: unknown): value is { stateDict(): unknown } {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { stateDict?: unknown }).stateDict === "function"
  );
}

function checkState(op: string, state: unknown): State {
  const prototype: unknown =
    typeof state === "object" && state !== null ? Object.getPrototypeOf(state) : undefined;
  if (prototype === Object.prototype || prototype === null) return state as State;
  throw new ArgumentError(
    `${op}: state — expected an object such as { model, optimizer }, got ${describe(state)}`,
    { op },
  );
}

function filtered(op: string, key: string, value: unknown, filter: unknown): State {
  if (typeof filter !== "function") {
    throw new ArgumentError(
      `${op}: filter of ${key} — expected a function, got ${describe(filter)}`,
      {
        op,
      },
    );
  }
  const entries = Object.entries(checkState(op, isStateful(value) ? value.stateDict() : value));
  return Object.fromEntries(entries.filter(([name, item]) => (filter as StateFilter)(name, item)));
}

/** What is to be written for `state`, the scaler's included. */
export function stateToSave(
  state: unknown,
  filter: Readonly<Record<string, StateFilter>>,
  scaler: GradScaler | null,
): Record<string, CheckpointValue> {
  const op = "save";
  const given = checkState(op, state);
  if (FABRIC_STATE in given) {
    throw new ArgumentError(`${op}: the key ${FABRIC_STATE} is Fabric's own; use another`, { op });
  }
  const unknown = Object.keys(filter).filter((key) => !(key in given));
  if (unknown.length > 0) {
    throw new ArgumentError(
      `${op}: filter has ${unknown.join(", ")}, the state has ${Object.keys(given).join(", ")}`,
      { op },
    );
  }
  const entries = Object.entries(given).map(([key, value]) => [
    key,
    key in filter ? filtered(op, key, value, filter[key]) : value,
  ]);
  const result = Object.fromEntries(entries) as Record<string, CheckpointValue>;
  if (scaler !== null) result[FABRIC_STATE] = { scaler: { ...scaler.stateDict() } };
  return result;
}

function release(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map || Array.isArray(value)) value.forEach(release);
  else if (typeof value === "object" && value !== null) Object.values(value).forEach(release);
}

/**
 * Puts a checkpoint's entries back into those of `state`: what has `loadStateDict` loads its entry,
 * others are replaced.
 * @returns the entries that `state` has no place for
 * @throws CheckpointError, when `strict`, for a key that the checkpoint lacks; nothing was loaded
 *   then.
 */
export function restoreState(
  file: string,
  checkpoint: State,
  state: unknown,
  strict: boolean,
  scaler: GradScaler | null,
): State {
  const given = checkState("load", state);
  const missing = Object.keys(given).filter((key) => !Object.hasOwn(checkpoint, key));
  if (strict && missing.length > 0) {
    throw new CheckpointError(
      `load: ${file}: the checkpoint has no ${missing.join(", ")}; it has ` +
        `${Object.keys(checkpoint).join(", ")}. Pass { strict: false } to load the others`,
      { op: "load" },
    );
  }
  const rest = { ...checkpoint };
  const own = rest[FABRIC_STATE] as { scaler?: Record<string, unknown> } | undefined;
  Reflect.deleteProperty(rest, FABRIC_STATE);
  for (const key of Object.keys(given)) {
    if (!Object.hasOwn(rest, key)) continue;
    const target = given[key];
    if (isLoadable(target)) {
      target.loadStateDict(rest[key], { strict });
      // These copy what they load; others may hold on to it.
      if (target instanceof Module || target instanceof Optimizer) release(rest[key]);
    } else {
      given[key] = rest[key];
    }
    Reflect.deleteProperty(rest, key);
  }
  // A checkpoint of a run without a scaler, or with one that did nothing, has no state for this
  // one.
  const scalerState = own?.scaler;
  if (scalerState !== undefined && Object.keys(scalerState).length > 0) {
    scaler?.loadStateDict(scalerState);
  }
  return rest;
}

/** Loads a module or an optimizer from a file that holds its state dictionary alone. */
export async function loadRawState(
  file: string,
  target: Module | AnyOptimizer,
  strict: boolean,
): Promise<void> {
  if (!isLoadable(target)) {
    throw new ArgumentError(
      `loadRaw: expected a module or an optimizer to load into, got ${describe(target)}`,
      { op: "loadRaw" },
    );
  }
  const { metadata } = await inspectSafetensors(file);
  const isCheckpoint = metadata.format === "mixprec-checkpoint";
  const state = isCheckpoint ? await loadCheckpoint(file) : await loadSafetensors(file);
  try {
    (target as Loadable).loadStateDict(state, { strict });
  } finally {
    release(state);
  }
}
