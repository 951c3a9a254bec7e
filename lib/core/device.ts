// Devices by name: which there are, and the code that crosses into the addon.

import type { Device } from "../dtype.js";
import { ArgumentError, describe, DeviceError } from "../errors.js";
import { cudaInfo } from "../native.js";

/** -1 for the CPU, else the CUDA ordinal. */
export function deviceCode(device: Device): number {
  if (device === "cpu") return -1;
  return device === "cuda" ? 0 : Number(device.slice(5));
}

/** A device by its full name (`cuda` is `cuda:0`). Throws DeviceError for one that is not there. */
export function checkDevice(device: unknown, op: string): Device {
  if (device === "cpu") return device;
  if (typeof device !== "string" || !/^cuda(:\d+)?$/.test(device)) {
    throw new DeviceError(
      `${op}: unknown device — expected "cpu", "cuda" or "cuda:N", got ${describe(device)}`,
      { op },
    );
  }
  const ordinal = deviceCode(device as Device);
  const { devices, reason } = cudaInfo();
  if (ordinal < devices.length) return `cuda:${ordinal}`;
  const why =
    devices.length === 0 ? `${reason}; use "cpu"` : `there are ${devices.length}, from cuda:0 on`;
  throw new DeviceError(`${op}: device ${device} is not available, ${why}`, { op });
}

/** The ordinal of a CUDA device, by default the first. Throws DeviceError where it is not there. */
export function cudaOrdinal(device: Device | undefined, op: string): number {
  const name: unknown = device ?? "cuda";
  if (typeof name !== "string" || !/^cuda(:\d+)?$/.test(name)) {
    throw new ArgumentError(
      `${op}: expected a CUDA device, "cuda" or "cuda:N", got ${JSON.stringify(name)}`,
      { op },
    );
  }
  const { devices, reason } = cudaInfo();
  const ordinal = deviceCode(name as Device);
  if (ordinal < devices.length) return ordinal;
  const why = devices.length === 0 ? reason : `there are ${devices.length}`;
  throw new DeviceError(`${op}: device ${name} is not available, ${why}`, { op });
}
