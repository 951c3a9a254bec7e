import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const workers = Math.max(1, Math.min(4, availableParallelism()));

// Which device tensors are made on that name none: cpu, cuda (a GPU), or cuda-emulated (the CUDA
// backend on the CPU, built by scripts/test.mjs --emulated).
const device = process.env.MIXPREC_TEST_DEVICE ?? "cpu";
const emulated = {
  MIXPREC_ADDON: fileURLToPath(new URL("build/emulated/Release/mixprec.node", import.meta.url)),
  // Errors name the call that caused them, as on the CPU.
  MIXPREC_LAUNCH_BLOCKING: process.env.MIXPREC_LAUNCH_BLOCKING ?? "1",
};

export default defineConfig({
  resolve: {
    // Tests that import the package by its name see the sources, not the last build of them.
    alias: { mixprec: fileURLToPath(new URL("lib/index.ts", import.meta.url)) },
  },
  test: {
    include: ["test/**/*.test.ts"],
    // A native addon is safest in a process of its own; threads would share its thread pool.
    pool: "forks",
    maxWorkers: workers,
    // At least two threads each, so that the parallel paths are tested on every machine.
    env: {
      MIXPREC_TEST_DEVICE: device,
      // Not the user's own.
      MIXPREC_CACHE: fileURLToPath(new URL("build/test-cache", import.meta.url)),
      ...(device === "cuda-emulated" ? emulated : {}),
      MIXPREC_NUM_THREADS: String(Math.max(2, Math.floor(availableParallelism() / workers))),
    },
    setupFiles: ["test/helpers/device-setup.ts"],
    execArgv: ["--expose-gc"],
    // A GPU is emulated a hundred times slower than the CPU computes.
    testTimeout: device === "cuda-emulated" ? 120_000 : 30_000,
    hookTimeout: 120_000,
  },
});
