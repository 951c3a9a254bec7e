import { describe, expect, it } from "vitest";

import { acceleratorOf, resolveDevice, statisticsOf } from "../../lib/cli/device.js";
import * as mp from "../../lib/index.js";

describe("--device", () => {
  it("auto is the first GPU where there is one, else the CPU", () => {
    expect(resolveDevice("auto")).toBe(mp.cuda.isAvailable() ? "cuda:0" : "cpu");
    expect(resolveDevice("cpu")).toBe("cpu");
  });

  it.runIf(mp.cuda.isAvailable())("names a GPU by its number, and only those there are", () => {
    expect(resolveDevice("cuda")).toBe("cuda:0");
    expect(resolveDevice("cuda:0")).toBe("cuda:0");
    const beyond: mp.Device = `cuda:${mp.cuda.deviceCount()}`;
    expect(() => resolveDevice(beyond)).toThrow(mp.DeviceError);
    expect(() => resolveDevice(beyond)).toThrow(/there are \d+ CUDA devices/);
  });

  it.skipIf(mp.cuda.isAvailable())("says where there is no GPU", () => {
    expect(() => resolveDevice("cuda")).toThrow(mp.DeviceError);
    expect(() => resolveDevice("cuda")).toThrow(/no CUDA device is available here; use cpu/);
  });

  it("decides Fabric's accelerator, and whose memory is counted", () => {
    expect(acceleratorOf("cpu")).toEqual({ accelerator: "cpu", devices: 1 });
    expect(acceleratorOf("cuda:2")).toEqual({ accelerator: "cuda", devices: [2] });
    expect(statisticsOf("cpu")).toBe(mp.memory);
    expect(statisticsOf("cuda:0")).toBe(mp.cuda);
  });
});
