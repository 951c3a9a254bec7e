// Where a run computes: the accelerator, devices and strategy options, of which there is one
// device.

import { cuda } from "../core/memory.js";
import type { Device } from "../dtype.js";
import { ArgumentError, describe, DeviceError } from "../errors.js";

/** The options of `Fabric` that say where to compute. */
export interface PlacementOptions {
  /** `auto` (default) takes CUDA where there is a device. */
  accelerator?: "auto" | "cpu" | "cuda" | "gpu" | undefined;
  /** How many devices: one; or its number, in a list. Default `auto`. */
  devices?: number | string | readonly number[] | undefined;
  /** `auto` (default) or `single_device`. */
  strategy?: "auto" | "single_device" | undefined;
}

const OP = "Fabric";
const ACCELERATORS = ["auto", "cpu", "cuda", "gpu"];
const STRATEGIES = ["auto", "single_device"];

function checkOne(name: string, value: unknown, allowed: readonly string[]): void {
  if (allowed.includes(value as string)) return;
  throw new ArgumentError(
    `${OP}: ${name} — expected one of ${allowed.join(", ")}, got ${describe(value)}: training ` +
      `runs on one device, the CPU or a CUDA device`,
    { op: OP },
  );
}

/** The index of the one device that `devices` asks for. */
function deviceIndex(devices: unknown): number {
  if (devices === "auto" || devices === 1 || devices === "1") return 0;
  if (Array.isArray(devices) && devices.length === 1) {
    const index: unknown = devices[0];
    if (Number.isSafeInteger(index) && (index as number) >= 0) return index as number;
  }
  const got = Array.isArray(devices) ? JSON.stringify(devices) : describe(devices);
  throw new ArgumentError(
    `${OP}: devices — expected 1, "auto" or a list with the number of one device, got ${got}: ` +
      `training on several devices is not supported`,
    { op: OP },
  );
}

/**
 * The device that the options ask for.
 * @throws ArgumentError for what is not supported, with what is; DeviceError for one not there.
 */
export function placeOn(options: PlacementOptions): Device {
  const { accelerator = "auto", devices = "auto", strategy = "auto" } = options;
  checkOne("accelerator", accelerator, ACCELERATORS);
  checkOne("strategy", strategy, STRATEGIES);
  const index = deviceIndex(devices);
  if (accelerator === "cpu" || (accelerator === "auto" && !cuda.isAvailable())) {
    if (index > 0) {
      throw new DeviceError(`${OP}: devices — the CPU is one device, 0; got [${index}]`, {
        op: OP,
      });
    }
    return "cpu";
  }
  const count = cuda.deviceCount();
  if (index >= count) {
    throw new DeviceError(
      `${OP}: accelerator ${accelerator} — device ${index} was asked for, there are ${count} ` +
        `CUDA devices; use accelerator "cpu"`,
      { op: OP },
    );
  }
  return `cuda:${index}`;
}
