// The only global state of the library, one set per thread of JavaScript: grad mode, autocast, tidy
// scopes, default dtype, float32 matmul precision, the random generator.

import { ArgumentError, describe, DTypeError, GradError } from "../errors.js";
import { checkDType, isFloating, type Device, type DType, type FloatDType } from "../dtype.js";
import type { StorageState } from "../native.js";
import type { CastPolicy } from "./policy.js";
import type { Tensor } from "./tensor.js";

/** How float32 matrix products treat their inputs; accumulation is float32 in all three. */
export type MatmulPrecision = "highest" | "high" | "medium";

/** Casts of leaf weights, each with the memory that was cast and how often it had been written to. */
export type CastCache = Map<Tensor, { cast: Tensor; storage: StorageState; version: number }>;

/** What an active autocast region does. */
export interface AutocastState {
  readonly device: "cpu" | "cuda";
  readonly dtype: FloatDType;
  /** Casts of leaf weights, shared by nested regions of a dtype; null when caching is off. */
  readonly cache: CastCache | null;
  /** The user's changes to the op lists. */
  readonly policy: Readonly<Record<string, CastPolicy>> | null;
}

/** A call of `autocast`, active or not; inner ones take over what they are not told. */
export interface AutocastRegion extends Omit<AutocastState, "cache"> {
  readonly cacheEnabled: boolean;
  /** Casts by dtype, of the outermost region. */
  readonly caches: Map<FloatDType, CastCache>;
}

/** One tensor that backward needs, as a node of the tape keeps it. */
export interface SavedTensor {
  /**
   * The tensor, for one run of the backward of `op`; one made for that run is in the present scope.
   * Throws GradError where it changed since.
   */
  unpack(op: string): Tensor;
  /** Lets go of the memory. */
  free(): void;
}

export const context = {
  gradEnabled: true,
  /** What operations do now; null outside regions, in disabled ones and inside an operation. */
  autocast: null as AutocastState | null,
  /** The innermost call of `autocast`. */
  autocastRegion: null as AutocastRegion | null,
  /** Tensors made since the innermost `tidy` began. */
  scope: null as Tensor[] | null,
  /** How nodes keep what backward needs, where not by a second owner of it (lib/core/checkpoint.ts). */
  saving: null as ((tensor: Tensor, op: string) => SavedTensor) | null,
  /** What floating-point tensors are made as where nothing says otherwise. */
  defaultDtype: "float32" as FloatDType,
  matmulPrecision: "highest" as MatmulPrecision,
  /** Whether modules draw the weights that they are made with. */
  initialize: true,
  /** Where tensors are made that are not told where; another one runs the tests on a device. */
  defaultDevice: "cpu" as Device,
  /** Counter-based generator: the next fill starts at `offset` (in blocks of four 32-bit words). */
  random: { seed: 0, offset: 0 },
};

/** Throws ArgumentError unless `fn` is a function. */
export function checkFunction(fn: unknown, op: string): void {
  if (typeof fn === "function") return;
  throw new ArgumentError(`${op}: expected a function, got ${describe(fn)}`, { op });
}

/** Throws GradError when `result` is a promise: scopes end before its work would run. */
export function rejectPromise(result: unknown, name: string): void {
  if (
    result !== null &&
    typeof result === "object" &&
    typeof (result as { then?: unknown }).then === "function"
  ) {
    throw new GradError(
      `${name}: expected a synchronous function, got one that returns a promise; its tail would ` +
        `run after ${name} has ended. Await outside, and call ${name} around the synchronous part`,
      { op: name },
    );
  }
}

function withGradMode<T>(enabled: boolean, name: string, fn: () => T): T {
  checkFunction(fn, name);
  const previous = context.gradEnabled;
  context.gradEnabled = enabled;
  try {
    const result = fn();
    rejectPromise(result, name);
    return result;
  } finally {
    context.gradEnabled = previous;
  }
}

/** Runs a synchronous function without recording gradients, and returns what it returns. */
export function noGrad<T>(fn: () => T): T {
  return withGradMode(false, "noGrad", fn);
}

/** Runs a synchronous function with gradients recorded, also inside `noGrad`. */
export function enableGrad<T>(fn: () => T): T {
  return withGradMode(true, "enableGrad", fn);
}

/** Whether operations record gradients now. */
export function isGradEnabled(): boolean {
  return context.gradEnabled;
}

function checkDefaultDtype(dtype: unknown, op: string): FloatDType {
  const checked = checkDType(dtype, op);
  if (isFloating(checked)) return checked;
  throw new DTypeError(`${op}: expected a floating-point dtype, got ${checked}`, { op });
}

/**
 * Sets the dtype of floating-point tensors that are made without naming one: by `zeros`, `tensor`
 * and their like, by modules for their parameters, and by operations on integers whose result is
 * not whole. `float32` at start.
 * @throws DTypeError for a dtype that is not floating point.
 */
export function setDefaultDtype(dtype: DType): void {
  context.defaultDtype = checkDefaultDtype(dtype, "setDefaultDtype");
}

/** The present default dtype. */
export function getDefaultDtype(): FloatDType {
  return context.defaultDtype;
}

/** Runs a synchronous function with another default dtype, and returns what it returns. */
export function withDefaultDtype<T>(dtype: DType, fn: () => T): T {
  checkFunction(fn, "withDefaultDtype");
  const previous = context.defaultDtype;
  context.defaultDtype = checkDefaultDtype(dtype, "withDefaultDtype");
  try {
    const result = fn();
    rejectPromise(result, "withDefaultDtype");
    return result;
  } finally {
    context.defaultDtype = previous;
  }
}

/**
 * Runs a synchronous function in which `nn.init` draws no uniform or normal numbers, so that
 * modules are made without the work: for weights that are about to be read from a file.
 */
export function withoutInitialization<T>(fn: () => T): T {
  checkFunction(fn, "withoutInitialization");
  const previous = context.initialize;
  context.initialize = false;
  try {
    const result = fn();
    rejectPromise(result, "withoutInitialization");
    return result;
  } finally {
    context.initialize = previous;
  }
}

const PRECISIONS: readonly MatmulPrecision[] = ["highest", "high", "medium"];

function checkPrecision(precision: unknown, op: string): MatmulPrecision {
  if (PRECISIONS.includes(precision as MatmulPrecision)) return precision as MatmulPrecision;
  throw new ArgumentError(
    `${op}: expected "highest", "high" or "medium", got ${describe(precision)}`,
    { op },
  );
}

/**
 * Sets how float32 matrix products are computed from now on. `highest` is at least as accurate as
 * an IEEE float32 product, `high` rounds inputs to TF32 (10 stored significand bits, nearest, ties
 * away), `medium` to bfloat16. Storage and accumulation stay float32.
 * @throws ArgumentError for any other value.
 */
export function setFloat32MatmulPrecision(precision: MatmulPrecision): void {
  context.matmulPrecision = checkPrecision(precision, "setFloat32MatmulPrecision");
}

/** The present float32 matmul precision; `highest` at start. */
export function getFloat32MatmulPrecision(): MatmulPrecision {
  return context.matmulPrecision;
}

/** Runs a synchronous function at a float32 matmul precision, and returns what it returns. */
export function withFloat32MatmulPrecision<T>(precision: MatmulPrecision, fn: () => T): T {
  checkFunction(fn, "withFloat32MatmulPrecision");
  const previous = context.matmulPrecision;
  context.matmulPrecision = checkPrecision(precision, "withFloat32MatmulPrecision");
  try {
    const result = fn();
    rejectPromise(result, "withFloat32MatmulPrecision");
    return result;
  } finally {
    context.matmulPrecision = previous;
  }
}

/** The code of the present precision in `GemmDesc`. */
export function matmulPrecisionCode(): number {
  return PRECISIONS.indexOf(context.matmulPrecision);
}

/**
 * Seeds the random generator that `rand`, `dropout`, `init` and their like draw from.
 * @throws ArgumentError unless `seed` is a whole number from 0 to 2^53-1.
 */
export function manualSeed(seed: number): void {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new ArgumentError(
      `manualSeed: expected a whole number from 0 to 2^53-1, got ${describe(seed)}`,
      { op: "manualSeed" },
    );
  }
  context.random.seed = seed;
  context.random.offset = 0;
}

/** State of the random generator, to be stored in a checkpoint. */
export function getRandomState(): { seed: number; offset: number } {
  return { ...context.random };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * Restores what {@link getRandomState} returned.
 * @throws ArgumentError for anything else.
 */
export function setRandomState(state: { seed: number; offset: number }): void {
  const given: unknown = state;
  const { seed, offset } = (given ?? {}) as Partial<typeof state>;
  if (!isCount(seed) || !isCount(offset)) {
    throw new ArgumentError(
      `setRandomState: expected { seed, offset } as getRandomState returns them, got seed ` +
        `${describe(seed)}, offset ${describe(offset)}`,
      { op: "setRandomState" },
    );
  }
  context.random.seed = seed;
  context.random.offset = offset;
}

/** Takes `count` random numbers off the generator; returns the seed and offset that yield them. */
export function drawRandom(count: number): [seed: number, offset: number] {
  const { seed, offset } = context.random;
  context.random.offset = offset + Math.ceil(count / 4);
  return [seed, offset];
}
