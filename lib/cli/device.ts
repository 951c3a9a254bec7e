// Devices as the command line names them.

import { cuda, memory, type MemoryStatistics } from "../core/memory.js";
import type { Device } from "../dtype.js";
import { DeviceError } from "../errors.js";

/**
 * The device that `--device` means; `auto` is the first CUDA device, or the CPU without one.
 * @throws DeviceError for one that this machine does not have.
 */
export function resolveDevice(device: Device | "auto"): Device {
  const count = cuda.isAvailable() ? cuda.deviceCount() : 0;
  if (device === "auto") return count > 0 ? "cuda:0" : "cpu";
  if (device === "cpu") return device;
  if (count === 0) {
    throw new DeviceError(`--device ${device}: no CUDA device is available here; use cpu`, {
      op: "device",
    });
  }
  const index = device === "cuda" ? 0 : Number(device.slice("cuda:".length));
  if (index >= count) {
    throw new DeviceError(`--device ${device}: there are ${count} CUDA devices, from cuda:0 on`, {
      op: "device",
    });
  }
  return `cuda:${index}`;
}

/** What Fabric is to be told to use one device. */
export function acceleratorOf(device: Device): {
  accelerator: "cpu" | "cuda";
  devices: number[] | 1;
} {
  if (device === "cpu") return { accelerator: "cpu", devices: 1 };
  return { accelerator: "cuda", devices: [Number(device.slice("cuda:".length))] };
}

/** The statistics of a device. */
export function statisticsOf(device: Device): MemoryStatistics {
  return device === "cpu" ? memory : cuda;
}
