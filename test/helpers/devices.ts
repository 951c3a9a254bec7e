// The device that this run of the tests is for (MIXPREC_TEST_DEVICE, see vitest.config.ts). A test
// body that names no device runs on it; one that has to name it takes it from here.

import { describe } from "vitest";

import type { Device } from "../../lib/index.js";

const chosen = process.env.MIXPREC_TEST_DEVICE ?? "cpu";
if (!["cpu", "cuda", "cuda-emulated"].includes(chosen)) {
  throw new Error(`MIXPREC_TEST_DEVICE: expected cpu, cuda or cuda-emulated, got "${chosen}"`);
}

/** The full name of the device under test. */
export const TEST_DEVICE: Device = chosen === "cpu" ? "cpu" : "cuda:0";

/** The device under test as Fabric names it, its first device being meant. */
export const TEST_ACCELERATOR = chosen === "cpu" ? "cpu" : "cuda";

/** Whether a CUDA backend is under test, on a GPU or emulated. */
export const ON_CUDA = chosen !== "cpu";

/** Whether the CUDA backend runs on the CPU: large sizes take long there. */
export const EMULATED = chosen === "cuda-emulated";

/** Calls `body` for each device of this run inside a `describe` of its name: on CUDA the CPU, too. */
export function eachDevice(body: (device: Device) => void): void {
  const devices: Device[] = ON_CUDA ? ["cpu", TEST_DEVICE] : ["cpu"];
  for (const device of devices) {
    describe(device, () => {
      body(device);
    });
  }
}
