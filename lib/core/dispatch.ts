// The one door from operations to the addon: checks what is common to all, runs, wraps the result.
// Autocast is applied around whole operations by `defineOp`, so it comes before recording and saved
// tensors are in the dtype that was computed with.

import type { Device, DType, FloatDType } from "../dtype.js";
import { DeviceError } from "../errors.js";
import { runNative, runNativeMany, viewNative } from "../native.js";
import { OP, type NativeOp } from "../op-names.js";
import { formatShape, type Shape } from "../shape.js";
import { context, type AutocastState } from "./context.js";
import { deviceCode } from "./device.js";
import { autocastInputs, finishCasts } from "./autocast-inputs.js";
import { policyOf, type CastPolicy } from "./policy.js";
import { Tensor } from "./tensor.js";

/** A tensor as errors name it: `float32 [2, 3]`. */
export function describe(tensor: Tensor): string {
  return `${tensor.dtype} ${formatShape(tensor.shape)}`;
}

function checkInputs(name: string, inputs: readonly Tensor[]): Device {
  const device = inputs[0]!.device;
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i]!;
    if (input.isDisposed) input.assertUsable(name);
    if (input.device !== device) {
      throw new DeviceError(
        `${name}: operands are on different devices, ${describe(inputs[0]!)} on ${device}, ` +
          `${describe(input)} on ${input.device}`,
        { op: name },
      );
    }
  }
  return device;
}

/** Runs a native op that has inputs and one output. `name` is the operation that errors name. */
export function run(
  name: string,
  op: NativeOp,
  inputs: readonly Tensor[],
  dtype: DType,
  shape: Shape,
  attrs: readonly number[],
): Tensor {
  const device = checkInputs(name, inputs);
  const handle = runNative(name, OP[op], deviceCode(device), inputs, dtype, shape, attrs);
  return new Tensor(handle, shape, null, dtype, device);
}

/** Runs a native op that has inputs and several outputs. */
export function runMany(
  name: string,
  op: NativeOp,
  inputs: readonly Tensor[],
  outputs: readonly { readonly dtype: DType; readonly shape: Shape }[],
  attrs: readonly number[],
): Tensor[] {
  const device = checkInputs(name, inputs);
  const handles = runNativeMany(name, OP[op], deviceCode(device), inputs, outputs, attrs);
  const tensors: Tensor[] = [];
  for (let i = 0; i < handles.length; i++) {
    const { shape, dtype } = outputs[i]!;
    tensors.push(new Tensor(handles[i]!, shape, null, dtype, device));
  }
  return tensors;
}

/** Runs a native op that makes a tensor from nothing. */
export function runCreate(
  name: string,
  op: NativeOp,
  device: Device,
  dtype: DType,
  shape: Shape,
  attrs: readonly number[],
): Tensor {
  const handle = runNative(name, OP[op], deviceCode(device), [], dtype, shape, attrs);
  return new Tensor(handle, shape, null, dtype, device);
}

/** Runs a native op that writes to some of its inputs; `written` are told that they changed. */
export function runInPlace(
  name: string,
  op: NativeOp,
  inputs: readonly Tensor[],
  written: readonly Tensor[],
  attrs: readonly number[],
): void {
  if (inputs.length === 0) return;
  const device = checkInputs(name, inputs);
  runNativeMany(name, OP[op], deviceCode(device), inputs, [], attrs);
  for (const tensor of written) tensor.handle.storage.version++;
}

/** A view of the memory of `base`; `offset` counts elements from its first one. */
export function view(
  name: string,
  base: Tensor,
  offset: number,
  shape: Shape,
  strides: readonly number[],
): Tensor {
  if (base.isDisposed) base.assertUsable(name);
  const handle = viewNative(base.handle, offset, shape, strides);
  return new Tensor(handle, shape, strides, base.dtype, base.device);
}

const definedOps = new Set<string>();

/** Whether an operation of this name goes through {@link defineOp}, so that a policy can name it. */
export function isDefinedOp(name: string): boolean {
  return definedOps.has(name);
}

/** Makes `name` an operation that the policy of an autocast region may name. */
export function defineName(name: string): void {
  definedOps.add(name);
}

/**
 * Runs `implementation` on the arguments cast as `policy` says (or to a dtype), with autocast off,
 * so that what it is made of is not cast again.
 */
export function runCast<A extends unknown[], R>(
  name: string,
  policy: CastPolicy | FloatDType,
  state: AutocastState,
  args: A,
  implementation: (...args: A) => R,
): R {
  const temporaries: Tensor[] = [];
  const inputs = autocastInputs(name, policy, state, args, temporaries);
  context.autocast = null;
  try {
    return finishCasts(implementation(...inputs), args, inputs, temporaries);
  } finally {
    context.autocast = state;
  }
}

/**
 * Makes a public operation of `implementation`: inside `autocast` its tensors are cast as the
 * operation's row in the policy says, and then it runs with autocast off. An operation whose row is
 * `none` runs as it is.
 */
export function defineOp<A extends unknown[], R>(
  name: string,
  implementation: (...args: A) => R,
): (...args: A) => R {
  defineName(name);
  return (...args: A): R => {
    const state = context.autocast;
    if (state === null) return implementation(...args);
    const policy = policyOf(name, state.policy);
    if (policy === "none") return implementation(...args);
    return runCast(name, policy, state, args, implementation);
  };
}
