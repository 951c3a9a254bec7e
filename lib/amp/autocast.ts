// The scope in which operations choose their own precision. What is cast is decided by
// lib/core/policy.ts and done by lib/core/autocast-inputs.ts; here regions open, nest and close.

import { checkOptions } from "../core/options.js";
import { context, rejectPromise, type AutocastRegion, type CastCache } from "../core/context.js";
import { isDefinedOp } from "../core/dispatch.js";
import { cuda } from "../core/memory.js";
import type { CastPolicy } from "../core/policy.js";
import { isHalfWidth, type Device, type DType, type FloatDType } from "../dtype.js";
import { ArgumentError, describe, DeviceError, DTypeError } from "../errors.js";

/** What an autocast region does. What is left out is taken from the region around it. */
export interface AutocastOptions {
  /** Whose tensors are cast. Default: `cuda` where there is a CUDA device, else `cpu`. */
  device?: Device | undefined;
  /** `float16` or `bfloat16`. Default: `float16` on CUDA, `bfloat16` on the CPU. */
  dtype?: DType | undefined;
  /** With false nothing is cast inside, whatever the region around does; default true. */
  enabled?: boolean | undefined;
  /** Whether a weight that is used repeatedly is cast once; default true. */
  cacheEnabled?: boolean | undefined;
  /** Changes to the lists of operations, by name: `{ softmax: "none" }`. */
  policy?: Readonly<Record<string, CastPolicy>> | undefined;
}

const OP = "autocast";
const OPTIONS = ["device", "dtype", "enabled", "cacheEnabled", "policy"];
const POLICIES: readonly CastPolicy[] = ["low", "float32", "float32-output", "promote", "none"];

type DeviceType = AutocastRegion["device"];

function deviceTypeOf(device: unknown): DeviceType {
  if (device === "cpu") return "cpu";
  if (typeof device === "string" && /^cuda(:\d+)?$/.test(device)) return "cuda";
  throw new DeviceError(
    `${OP}: unknown device — expected "cpu", "cuda" or "cuda:N", got ${describe(device)}`,
    { op: OP },
  );
}

function defaultDevice(): DeviceType {
  return cuda.isAvailable() ? "cuda" : "cpu";
}

function defaultDtype(device: DeviceType): FloatDType {
  return device === "cuda" ? "float16" : "bfloat16";
}

function checkLowDtype(dtype: unknown): FloatDType {
  if (typeof dtype === "string" && isHalfWidth(dtype as DType)) return dtype as FloatDType;
  throw new DTypeError(`${OP}: dtype — expected float16 or bfloat16, got ${describe(dtype)}`, {
    op: OP,
  });
}

function checkFlag(name: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw new ArgumentError(`${OP}: ${name} — expected true or false, got ${describe(value)}`, {
    op: OP,
  });
}

function checkPolicy(policy: unknown): Readonly<Record<string, CastPolicy>> {
  if (typeof policy !== "object" || policy === null || Array.isArray(policy)) {
    throw new ArgumentError(
      `${OP}: policy — expected an object such as { softmax: "none" }, got ${describe(policy)}`,
      { op: OP },
    );
  }
  for (const [name, value] of Object.entries(policy as Record<string, unknown>)) {
    if (!isDefinedOp(name)) {
      throw new ArgumentError(`${OP}: policy — there is no operation "${name}" that is cast`, {
        op: OP,
      });
    }
    if (!POLICIES.includes(value as CastPolicy)) {
      throw new ArgumentError(
        `${OP}: policy of ${name} — expected one of ${POLICIES.join(", ")}, got ${describe(value)}`,
        { op: OP },
      );
    }
  }
  return policy as Record<string, CastPolicy>;
}

function checkAvailable({ device, dtype }: AutocastRegion): void {
  if (device === "cpu") return;
  if (!cuda.isAvailable()) {
    throw new DeviceError(
      `${OP}: no CUDA device is available; use device "cpu", or leave the device out`,
      { op: OP },
    );
  }
  if (dtype === "bfloat16" && !cuda.isBf16Supported()) {
    throw new DTypeError(`${OP}: the CUDA device does not compute in bfloat16; use float16`, {
      op: OP,
    });
  }
}

function newRegion(options: AutocastOptions, outer: AutocastRegion | null): AutocastRegion {
  const { cacheEnabled, policy } = options;
  const device =
    options.device === undefined
      ? (outer?.device ?? defaultDevice())
      : deviceTypeOf(options.device);
  const inherited = outer?.device === device ? outer : null;
  const changes = policy === undefined ? null : checkPolicy(policy);
  return {
    device,
    dtype:
      options.dtype === undefined
        ? (inherited?.dtype ?? defaultDtype(device))
        : checkLowDtype(options.dtype),
    cacheEnabled:
      cacheEnabled === undefined
        ? (outer?.cacheEnabled ?? true)
        : checkFlag("cacheEnabled", cacheEnabled),
    policy: changes === null ? (outer?.policy ?? null) : { ...outer?.policy, ...changes },
    caches: outer?.caches ?? new Map<FloatDType, CastCache>(),
  };
}

function cacheOf(region: AutocastRegion): CastCache {
  let cache = region.caches.get(region.dtype);
  if (cache === undefined) {
    cache = new Map();
    region.caches.set(region.dtype, cache);
  }
  return cache;
}

/**
 * Runs a synchronous function with autocast: operations that gain from 16 bits compute in `dtype`,
 * those that need the range or the accuracy of float32 in float32, and the others in what they are
 * given (`policyOf` tells which is which). Tensors of float64 and integers are never cast.
 * Parameters keep their dtype, and their gradients have it. Run backward outside: each operation's
 * gradient is computed in the dtype of its forward.
 *
 * Regions nest. The cast of a float32 leaf that requires gradients is made once, for all regions
 * inside the outermost one, and again after the leaf was written to.
 * @returns what `fn` returns
 * @throws DTypeError for another dtype than float16 and bfloat16, DeviceError for a device that is
 *   not there, ArgumentError for a bad policy, GradError when `fn` returns a promise.
 */
export function autocast<T>(options: AutocastOptions, fn: () => T): T {
  if (typeof fn !== "function" || typeof options !== "object" || (options as unknown) === null) {
    throw new ArgumentError(
      `${OP}: expected options and a function, got ${describe(options)} and ${describe(fn)}`,
      { op: OP },
    );
  }
  checkOptions(OP, options, OPTIONS);
  const { autocast: outerState, autocastRegion: outer } = context;
  const region = newRegion(options, outer);
  const enabled = options.enabled === undefined || checkFlag("enabled", options.enabled);
  if (enabled) checkAvailable(region);
  const { device, dtype, policy } = region;
  const cache = region.cacheEnabled ? cacheOf(region) : null;
  context.autocastRegion = region;
  context.autocast = enabled ? { device, dtype, policy, cache } : null;
  try {
    const result = fn();
    rejectPromise(result, OP);
    return result;
  } finally {
    context.autocast = outerState;
    context.autocastRegion = outer;
    if (outer === null) releaseCasts(region);
  }
}

/** What backward needs of the casts is held by the graph. */
function releaseCasts(region: AutocastRegion): void {
  for (const cache of region.caches.values()) {
    for (const { cast } of cache.values()) cast.dispose();
    cache.clear();
  }
}

/** Runs `fn` with nothing cast, whatever region it is called in. */
export function withoutAutocast<T>(fn: () => T): T {
  const outer = context.autocast;
  context.autocast = null;
  try {
    return fn();
  } finally {
    context.autocast = outer;
  }
}

/** Whether operations on tensors of a device (default: of any) are cast now. */
export function isAutocastEnabled(device?: Device): boolean {
  const type = device === undefined ? undefined : deviceTypeOf(device);
  const state = context.autocast;
  return state !== null && (type === undefined || type === state.device);
}

/**
 * The 16-bit dtype that autocast uses for a device: that of the innermost region, also where it is
 * disabled, else the default. Without a device, that of the region's or the default device.
 */
export function getAutocastDtype(device?: Device): FloatDType {
  const region = context.autocastRegion;
  const type = device === undefined ? (region?.device ?? defaultDevice()) : deviceTypeOf(device);
  return region?.device === type ? region.dtype : defaultDtype(type);
}
