import { inspect } from "node:util";

import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";

const CPU = { device: "cpu" } as const;

describe("explain", () => {
  it("says what runs on the CPU, with which instructions", () => {
    const blocked = mp.explain("matmul", [256, 512], [512, 128], CPU);
    expect(blocked).toMatchObject({
      op: "matmul",
      device: "cpu",
      dtype: "float32",
      size: { M: 256, N: 128, K: 512, batch: 1 },
      calls: 1,
      kernel: "blocked",
      splits: 1,
      seconds: null,
      shareOfPeak: null,
      measured: false,
    });
    expect(["portable", "avx2", "avx512"]).toContain(blocked.instructionSet);
    expect(blocked.threads).toBe(mp.getNumThreads());
    expect(blocked.tile).toHaveLength(2);
    expect(String(blocked)).toMatch(
      /^matmul \[256, 512\] x \[512, 128\] of float32 on cpu: blocked\n {2}instructions {2}(portable|avx)/,
    );
    expect(inspect(blocked)).toBe(String(blocked));
    expect(mp.explain("matmul", [1, 512], [512, 128], CPU).kernel).toBe("vector");
    expect(mp.explain("matmul", [512], [512, 128], CPU).kernel).toBe("vector");
    expect(mp.explain("matmul", [64, 512], [512], CPU).kernel).toBe("vector");
    const whole = mp.explain("matmul", [8, 8], [8, 8], { ...CPU, dtype: "int32" });
    expect(whole.kernel).toBe("integer");
    expect(mp.explain("matmul", [8, 0], [0, 8], CPU).kernel).toBe("none");
    expect(mp.explain("matmul", [2, 0, 8], [2, 8, 8], CPU).kernel).toBe("none");
  });

  it("counts batches as the backend takes them", () => {
    const stacked = mp.explain("matmul", [4, 6, 8], [8, 3], CPU);
    expect(stacked).toMatchObject({ size: { M: 24, N: 3, K: 8, batch: 1 }, calls: 1 });
    const batched = mp.explain("matmul", [4, 6, 8], [4, 8, 3], CPU);
    expect(batched).toMatchObject({ size: { M: 6, batch: 4 }, calls: 1 });
    expect(String(batched)).toContain("4 x [6, 8] x [8, 3]");
    const spread = mp.explain("matmul", [2, 1, 3, 1, 6, 8], [1, 5, 1, 7, 8, 3], CPU);
    expect(spread).toMatchObject({ size: { batch: 21 }, calls: 10 });
    expect(String(spread)).toContain("10 calls");
  });

  it("takes tensors, with their layout, device and dtype", () => {
    const x = mp.ones([12, 20], { dtype: "bfloat16" });
    const weight = mp.ones([30, 20], { dtype: "bfloat16" });
    const found = mp.explain("linear", x, weight);
    expect(found).toMatchObject({
      op: "linear",
      device: TEST_DEVICE,
      dtype: "bfloat16",
      size: { M: 12, N: 30, K: 20 },
    });
    const turned = mp.explain("matmul", x, weight.transpose(0, 1));
    expect(turned).toMatchObject({ size: found.size, kernel: found.kernel });
    expect(mp.explain("matmul", x, [20, 4]).dtype).toBe("bfloat16");
    // Of no use to read from: a column that is strided is not read where it lies.
    const column = mp
      .ones([20, 2], { ...CPU })
      .select(1, 0)
      .select(0, 0);
    expect(column.shape).toEqual([]);
    const strided = mp.ones([40, 60], CPU).slice(0, 0, 40, 2).slice(1, 0, 60, 3);
    expect(mp.explain("matmul", [1, 20], strided, CPU).kernel).toBe("blocked");
  });

  it("computes nothing and keeps nothing", () => {
    const before = mp.memory.tensorCount();
    const allocated = mp.memory.memoryAllocated();
    mp.explain("matmul", [1 << 20, 1 << 20], [1 << 20, 1 << 20], CPU);
    expect(mp.memory.tensorCount()).toBe(before);
    expect(mp.memory.memoryAllocated()).toBe(allocated);
  });

  it("rejects what has no explanation", () => {
    const call =
      (...args: unknown[]): (() => unknown) =>
      () =>
        (mp.explain as (...given: unknown[]) => unknown)(...args);
    expect(call("conv2d", [1], [1])).toThrow(
      'explain: expected "matmul" or "linear", got "conv2d"',
    );
    expect(call("matmul", [2, 3], [4, 5])).toThrow(mp.ShapeError);
    expect(call("matmul", [2, 3], [4, 5])).toThrow("K is 3 and 4");
    expect(call("linear", [2, 3], [4, 5])).toThrow("K is 3 and 5");
    expect(call("linear", [2, 3], [2, 4, 3])).toThrow(mp.ShapeError);
    expect(call("matmul", [], [3])).toThrow(mp.ShapeError);
    expect(call("matmul", [3, 2, 3], [2, 3, 5])).toThrow(mp.ShapeError);
    expect(call("matmul", 3, [3])).toThrow(mp.ArgumentError);
    expect(call("matmul", [2, -1], [3])).toThrow(mp.ArgumentError);
    expect(call("matmul", [3], [3], { dtypes: "float32" })).toThrow(mp.ArgumentError);
    expect(call("matmul", [3], [3], { dtype: "float8" })).toThrow(mp.DTypeError);
    expect(call("matmul", [3], [3], { dtype: "bool" })).toThrow(mp.DTypeError);
    expect(call("matmul", [3], [3], { precision: "low" })).toThrow(mp.ArgumentError);
    expect(call("matmul", mp.ones([3]), [3], { dtype: "float64" })).toThrow(mp.DTypeError);
    expect(call("matmul", [3], [3], { device: "cuda:77" })).toThrow(mp.DeviceError);
    const gone = mp.ones([3]);
    gone.dispose();
    expect(call("matmul", gone, [3])).toThrow(mp.DisposedError);
  });
});

describe.runIf(ON_CUDA)("explain on a CUDA device", () => {
  const families = ["wgmma_sm90", "mma_sm80", "gemv", "simt"];

  it("predicts a time, and orders the kernels by it", () => {
    for (const dtype of ["float32", "bfloat16", "float64", "int32"] as const) {
      for (const precision of ["highest", "high", "medium"] as const) {
        const found = mp.explain("matmul", [512, 384], [384, 640], {
          device: TEST_DEVICE,
          dtype,
          precision,
        });
        expect(families).toContain(found.kernel);
        expect(found.seconds).toBeGreaterThan(0);
        expect(found.shareOfPeak).toBeGreaterThan(0);
        expect(found.shareOfPeak).toBeLessThanOrEqual(1);
        expect(found.waves).toBeGreaterThan(0);
        const times = [found.seconds!, ...found.alternatives.map((other) => other.seconds)];
        expect(times).toEqual([...times].sort((a, b) => a - b));
        expect([found.kernel, ...found.alternatives.map((other) => other.family)]).toContain(
          "simt",
        );
        expect(String(found)).toMatch(/ {2}expected {6}[\d.]+ (µs|ms), [\d.]+ % of peak\n/);
        expect(String(found)).toContain(found.why);
        expect(found.measured).toBe(false);
      }
    }
  });

  it("has nothing to say of an empty product", () => {
    const found = mp.explain("matmul", [0, 4], [4, 4], { device: TEST_DEVICE });
    expect(found).toMatchObject({ kernel: "none", seconds: null });
  });
});
