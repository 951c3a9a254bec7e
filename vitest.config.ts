import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const workers = Math.max(1, Math.min(4, availableParallelism()));

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
      MIXPREC_NUM_THREADS: String(Math.max(2, Math.floor(availableParallelism() / workers))),
    },
    execArgv: ["--expose-gc"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
