// Copies that change dtype, device or layout.

import { checkDevice, deviceCode } from "../core/device.js";
import { run, runInPlace, view } from "../core/dispatch.js";
import { gradOps, record } from "../core/tape.js";
import { context } from "../core/context.js";
import { Tensor } from "../core/tensor.js";
import { checkDType, isDType, itemSize, type Device, type DType } from "../dtype.js";
import { ArgumentError, GradError } from "../errors.js";
import { toDeviceNative } from "../native.js";
import { broadcastShapes, formatShape, sameShape } from "../shape.js";
import { expandStrides } from "./broadcast.js";
import { isOptions } from "../core/options.js";
import { checkNumber, checkOptions, checkTensor } from "./checks.js";

function cast(x: Tensor, dtype: DType): Tensor {
  const y = run("to", "cast", [x], dtype, x.shape, []);
  const from = x.dtype;
  record("to", [x], [y], [], ([g]) => [to(g!, from)]);
  if (y.node !== null) y.node.isCast = true;
  return y;
}

function move(x: Tensor, device: Device): Tensor {
  const dense = contiguous(x);
  const handle = toDeviceNative(dense.handle, deviceCode(device));
  const y = new Tensor(handle, x.shape, null, x.dtype, device);
  const from = x.device;
  record("to", [dense], [y], [], ([g]) => [to(g!, from)]);
  return y;
}

/** Where and as what to put a tensor. */
export interface ToOptions {
  dtype?: DType | undefined;
  device?: Device | undefined;
}

/**
 * The tensor in another dtype (rounded to nearest, ties to even) or on another device; itself where
 * nothing changes. The gradient is cast back.
 * @throws DTypeError for an unknown dtype, DeviceError for a device that is not there.
 */
export function to(x: Tensor, target: DType | Device | ToOptions): Tensor {
  checkTensor(x, "to");
  x.assertUsable("to");
  let options: ToOptions;
  if (isOptions(target)) {
    checkOptions("to", target, ["dtype", "device"]);
    options = target;
  } else options = isDType(target) ? { dtype: target } : { device: checkDevice(target, "to") };
  const dtype = options.dtype === undefined ? x.dtype : checkDType(options.dtype, "to");
  const device = options.device === undefined ? x.device : checkDevice(options.device, "to");
  if (device === x.device) return dtype === x.dtype ? x : cast(x, dtype);
  // The fewer bytes travel.
  if (itemSize(dtype) < itemSize(x.dtype)) return move(cast(x, dtype), device);
  const moved = move(x, device);
  return dtype === x.dtype ? moved : cast(moved, dtype);
}

/** A copy with memory of its own; gradients flow through. */
export function clone(x: Tensor): Tensor {
  checkTensor(x, "clone");
  const y = run("clone", "cast", [x], x.dtype, x.shape, []);
  record("clone", [x], [y], [], ([g]) => [g]);
  return y;
}

/** The tensor with dense row-major elements: itself where they are, else a copy. */
export function contiguous(x: Tensor): Tensor {
  checkTensor(x, "contiguous");
  return x.isContiguous ? x : clone(x);
}

function checkWritable(destination: Tensor, op: string): void {
  destination.assertUsable(op);
  if (context.gradEnabled && destination.requiresGrad) {
    throw new GradError(
      `${op}: a tensor that requires gradients cannot be written in place while gradients are ` +
        `recorded; write inside noGrad, or to detach()`,
      { op },
    );
  }
}

/**
 * Writes `source`, broadcast and cast, into `destination`. Not recorded: a backward that saved the
 * destination throws GradError.
 * @throws ShapeError where `source` does not broadcast to the destination's shape.
 */
export function copyFrom(destination: Tensor, source: Tensor): Tensor {
  checkTensor(destination, "copyFrom", "destination");
  checkTensor(source, "copyFrom", "source");
  checkWritable(destination, "copyFrom");
  const shape = broadcastShapes(destination.shape, source.shape, "copyFrom");
  if (!sameShape(shape, destination.shape)) {
    throw new ArgumentError(
      `copyFrom: source ${formatShape(source.shape)} does not broadcast to destination ` +
        formatShape(destination.shape),
      { op: "copyFrom" },
    );
  }
  const expanded = view("copyFrom", source, 0, shape, expandStrides(source, shape));
  runInPlace("copyFrom", "copy_into", [destination, expanded], [destination], []);
  expanded.dispose();
  return destination;
}

/** Writes `value` into every element. Not recorded. */
export function fill(destination: Tensor, value: number): Tensor {
  checkTensor(destination, "fill", "destination");
  checkNumber(value, "fill", "value");
  checkWritable(destination, "fill");
  runInPlace("fill", "fill", [destination], [destination], [value]);
  return destination;
}

gradOps.cast = cast;
gradOps.clone = (x) => run("backward", "cast", [x], x.dtype, x.shape, []);
gradOps.accumulate = (destination, source) => {
  runInPlace("backward", "accumulate", [destination, source], [destination], []);
};
