import { describe, expect, it } from "vitest";

import {
  createProgress,
  formatDuration,
  formatLoss,
  runLine,
  type StepState,
} from "../../lib/cli/finetune/progress.js";
import type { EpochResult } from "../../lib/cli/finetune/result.js";
import { printable } from "../../lib/cli/terminal.js";
import { run } from "./runs.js";
import { recordStream } from "./terminal.js";

const state: StepState = {
  epoch: 1,
  epochs: 3,
  step: 1,
  steps: 10,
  loss: 0.6931,
  scale: 65536,
  samplesPerSecond: 123.4,
};
const epoch: EpochResult = {
  loss: 0.5,
  trainAccuracy: 0.75,
  validationAccuracy: 0.8125,
  validationF1: 0.7,
  seconds: 2.25,
  samplesPerSecond: 200,
};

describe("progress without a terminal", () => {
  it("is plain lines: steps now and then, epochs always", () => {
    const stream = recordStream();
    const often = createProgress(stream, "float16 mixed", 0);
    often.step(state);
    often.epoch(1, 3, epoch, 65536);
    often.stop();
    expect(stream.text.split("\n")).toEqual([
      "  epoch 1/3  step 1/10  loss 0.6931  scale 65536  123 samples/s",
      "  epoch 1/3  loss 0.5000  train 75.0 %  validation 81.3 %, F1 70.0 %  scale 65536  200 samples/s  2.3 s",
      "",
    ]);
    const seldom = recordStream();
    createProgress(seldom, "float32", 1e9).step(state);
    expect(seldom.text).toBe("");
  });

  it("says what a long run is going to take", () => {
    const stream = recordStream();
    createProgress(stream, "float32", 1e9).estimate(5400, 20.34);
    expect(stream.text).toBe("  takes about 1.5 hours at 20.3 s a step\n");
  });

  it("shows a slow pace by tenths", () => {
    const stream = recordStream();
    createProgress(stream, "float32", 0).step({ ...state, samplesPerSecond: 0.67 });
    expect(stream.text).toMatch(/ {2}0\.7 samples\/s\n$/);
  });

  it("names no loss scale where there is none", () => {
    const stream = recordStream();
    const progress = createProgress(stream, "float32", 0);
    progress.step({ ...state, scale: null });
    progress.epoch(1, 3, epoch, null);
    expect(stream.text).not.toContain("scale");
  });
});

describe("progress on a terminal", () => {
  const terminal = () => recordStream({ isTTY: true, columns: 120 });

  it("is a bar with loss, loss scale and speed, which makes way for the epoch's line", () => {
    const stream = terminal();
    const progress = createProgress(stream, "float16 mixed");
    progress.step(state);
    expect(stream.text).toContain("float16 mixed  epoch 1/3");
    expect(stream.text).toContain("1/10  loss 0.6931  scale 65536  123 samples/s");
    progress.epoch(1, 3, epoch, 65536);
    // The bar's last act is to clear its line; then comes the epoch's.
    expect(stream.text.split("\u001b").at(-1)).toMatch(/^\[2K {2}epoch 1\/3 {2}loss 0.5000.*\n$/);
  });

  it("makes way for the time that a run takes, and comes back", () => {
    const stream = terminal();
    const progress = createProgress(stream, "float32");
    progress.step(state);
    progress.estimate(300, 1.5);
    expect(stream.text.split("\u001b").at(-1)).toBe(
      "[2K  takes about 5 minutes at 1.50 s a step\n",
    );
    progress.step({ ...state, step: 2 });
    expect(stream.text.split("a step").at(-1)).toContain("2/10");
    progress.stop();
  });

  it("leaves the cursor visible and lines wrapping, however it ends", () => {
    const stream = terminal();
    const progress = createProgress(stream, "float32");
    progress.step(state);
    expect(stream.text.lastIndexOf("\u001b[?25l")).toBeGreaterThan(-1);
    progress.stop();
    progress.stop();
    expect(stream.text.lastIndexOf("\u001b[?25h")).toBeGreaterThan(
      stream.text.lastIndexOf("\u001b[?25l"),
    );
    expect(stream.text.lastIndexOf("\u001b[?7h")).toBeGreaterThanOrEqual(
      stream.text.lastIndexOf("\u001b[?7l"),
    );
  });
});

describe("the lines of results", () => {
  it("say how a validation within an epoch went", () => {
    const stream = recordStream();
    const progress = createProgress(stream, "float32");
    const best = { step: 20, epoch: 1, accuracy: 0.75, macroF1: 0.5 };
    progress.evaluation(best, best);
    progress.evaluation({ ...best, step: 30, accuracy: 0.5 }, best);
    expect(stream.text).toBe(
      "  step 20  validation 75.0 %, F1 50.0 %  the best so far\n" +
        "  step 30  validation 50.0 %, F1 50.0 %  best after step 20\n",
    );
    expect(runLine(run("float32", { best, stoppedEarly: true }))).toMatch(
      /^ {2}stopped early after step 3, best validation 75.0 % after step 20, test accuracy/,
    );
  });

  it("say how a run ended", () => {
    expect(runLine(run("float32"))).toBe(
      "  test accuracy 90.0 %, F1 85.0 %, 10.0 s of training, peak memory 10.0 MB",
    );
    const broken = {
      testAccuracy: null,
      test: null,
      diverged: { step: 7, epoch: 1, findings: [] },
    };
    expect(runLine(run("half", { ...broken, skippedSteps: 3 }))).toBe(
      "  diverged at step 7 (epoch 1), 10.0 s of training, peak memory 10.0 MB, 3 steps skipped by " +
        "the loss scaler",
    );
  });

  it.each([
    [0.5, "0.5000"],
    [-2, "-2.0000"],
    [123456, "1.23e+5"],
    [NaN, "NaN"],
    [Infinity, "Infinity"],
  ])("show the loss %d as %s", (loss, text) => expect(formatLoss(loss)).toBe(text));

  it.each([
    [0.4, "0 s"],
    [89, "89 s"],
    [91, "2 minutes"],
    [5000, "83 minutes"],
    [40_000, "11.1 hours"],
  ])("say %d seconds as %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  it("take no command from a file's name", () => {
    expect(printable("a\u001b[2Jb\r\u009bc\té")).toBe("a\\x1b[2Jb\\x0d\\x9bc\té");
  });
});
