// Results of runs that never were, for tables and charts.

import type { RunResult } from "../../lib/cli/finetune/result.js";

export function run(name: string, changes: Partial<RunResult> = {}): RunResult {
  return {
    name,
    precision: "32-true",
    matmulPrecision: "highest",
    seed: 0,
    seconds: 10,
    samplesPerSecond: 100,
    peakMemoryBytes: 10e6,
    epochs: [],
    evaluations: [],
    best: null,
    stoppedEarly: false,
    testAccuracy: 0.9,
    test: { accuracy: 0.9, macroF1: 0.85, classes: [], confusion: [] },
    diverged: null,
    skippedSteps: null,
    losses: [1, 0.5, 0.25],
    scales: null,
    ...changes,
  };
}
