// How long a run trains, and in what steps.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { CHECKPOINT_FILE, type SavedRun } from "../../lib/cli/finetune/checkpoint.js";
import type { Report } from "../../lib/cli/finetune/report.js";
import type { RunResult } from "../../lib/cli/finetune/result.js";
import { run } from "../../lib/cli/program.js";
import { loadCheckpoint, saveCheckpoint, type CheckpointValue } from "../../lib/index.js";
import { recordTerminal } from "../cli/terminal.js";
import { tinyRun, writeReviews } from "./tiny-data.js";

let directory: string;
let data: string;
const at = (...names: string[]) => path.join(directory, ...names);

/** A run; `--epochs 1` of the usual options is left out, so that `--steps` may be named. */
async function train(name: string, ...more: string[]): Promise<RunResult> {
  const terminal = recordTerminal();
  const usual = tinyRun(data).filter(
    (arg, i, all) => arg !== "--epochs" && all[i - 1] !== "--epochs",
  );
  const code = await run([...usual, "--out", at(name), ...more], terminal);
  expect(terminal.stderr.text).toBe("");
  expect(code).toBe(0);
  const report = JSON.parse(await readFile(at(name, "results.json"), "utf8")) as Report;
  return report.runs[0]!;
}

/** Presses Ctrl-C when an epoch is done, its validation included. */
async function interruptAfterEpoch(epoch: number, ...args: string[]): Promise<void> {
  const terminal = recordTerminal();
  const { stdout } = terminal;
  const write = stdout.write.bind(stdout);
  stdout.write = (text) => {
    if (text.includes(`epoch ${epoch}/2  loss`)) process.emit("SIGINT");
    return write(text);
  };
  expect(await run(args, terminal)).toBe(130);
}

/** A model without dropout, so that the same texts give the same losses in any batches. */
const PLAIN = () => ["--model", at("plain"), "--padding", "max-length", "--max-length", "24"];

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-training-"));
  data = await writeReviews(directory);
  await train("plain", "--steps", "1");
  const file = at("plain", "config.json");
  const config = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  const off = { dropout: 0, attention_dropout: 0, seq_classif_dropout: 0 };
  await writeFile(file, JSON.stringify({ ...config, ...off }));
});
afterAll(() => rm(directory, { recursive: true }));

function expectClose(losses: readonly number[], others: readonly number[]): void {
  expect(losses).toHaveLength(others.length);
  for (const [i, loss] of losses.entries()) expect(Math.abs(loss - others[i]!)).toBeLessThan(1e-5);
}

describe("--steps", () => {
  it("ends the run in the middle of an epoch", async () => {
    const { losses, epochs, testAccuracy } = await train("steps", "--steps", "11");
    expect(losses).toHaveLength(11);
    expect(epochs).toHaveLength(2);
    expect(epochs[1]!.loss).toBeCloseTo(losses.slice(8).reduce((a, b) => a + b) / 3, 12);
    expect(testAccuracy).not.toBeNull();
  });
});

describe("--accumulate", () => {
  it("gives the losses of larger batches, the last of which are not full", async () => {
    const large = await train("large", ...PLAIN(), "--epochs", "2", "--lr", "0.001");
    const small = ["--batch-size", "4", "--accumulate", "2"];
    const added = await train("added", ...PLAIN(), "--epochs", "2", "--lr", "0.001", ...small);
    expect(large.losses).toHaveLength(16);
    expectClose(added.losses, large.losses);
    expect(added.epochs[0]!.trainAccuracy).toBe(large.epochs[0]!.trainAccuracy);
    // And not those of the small batches alone.
    const [alone] = (await train("small", ...PLAIN(), "--steps", "1", "--batch-size", "4")).losses;
    expect(Math.abs(alone! - large.losses[0]!)).toBeGreaterThan(1e-5);
  });
});

describe("--clip-norm", () => {
  it("bounds the gradients: of a norm far below AdamW's eps, weights stay as they are", async () => {
    const rate = ["--lr", "0.01", "--steps", "8"];
    const free = await train("free", ...PLAIN(), ...rate);
    const still = await train("still", ...PLAIN(), "--lr", "1e-12", "--steps", "8");
    const clipped = await train("clipped", ...PLAIN(), ...rate, "--clip-norm", "1e-14");
    expectClose(clipped.losses.slice(0, 2), still.losses.slice(0, 2));
    expect(Math.abs(free.losses.at(-1)! - clipped.losses.at(-1)!)).toBeGreaterThan(1e-3);
  });
});

describe("--eval-every and --patience", () => {
  it("end the run when it gets no better, and test and save the best weights", async () => {
    const early = ["--lr", "0.01", "--steps", "60", "--eval-every", "3", "--patience", "4"];
    const { evaluations, best, stoppedEarly, losses, epochs } = await train("early", ...early);
    expect(stoppedEarly).toBe(true);
    expect(losses.length).toBeLessThan(60);
    expect(evaluations.at(-1)!.step).toBe(losses.length);
    // Every third step and the end of each epoch, once where they are the same.
    const due = (step: number) => step % 3 === 0 || step % 8 === 0;
    const steps = losses.map((_, i) => i + 1);
    expect(evaluations.map(({ step }) => step)).toEqual(steps.filter(due));
    expect(epochs).toHaveLength(Math.ceil(losses.length / 8));
    const accuracies = evaluations.map(({ accuracy }) => accuracy);
    const first = accuracies.indexOf(Math.max(...accuracies));
    expect(best).toEqual(evaluations[first]);
    expect(accuracies.length - 1 - first).toBe(4);
    // What was saved answers as the best did.
    const still = ["--model", at("early"), "--steps", "1", "--lr", "1e-12"];
    const saved = await train("again", ...still);
    expect(saved.evaluations[0]!.accuracy).toBe(best!.accuracy);
    expect(saved.evaluations[0]!.macroF1).toBe(best!.macroF1);
    expect(saved.best).toBeNull();
  });
});

describe("--schedule", () => {
  it("changes the rates", async () => {
    const linear = await train("linear", ...PLAIN(), "--lr", "0.001", "--steps", "8");
    const cosine = ["--schedule", "cosine"];
    const other = await train("cosine", ...PLAIN(), "--lr", "0.001", "--steps", "8", ...cosine);
    expect(other.losses.slice(0, 2)).toEqual(linear.losses.slice(0, 2));
    expect(other.losses).not.toEqual(linear.losses);
  });

  it("stands still while the loss scaler skips steps", async () => {
    const mixed = ["--precision", "16-mixed", "--epochs", "2", "--out", at("skips")];
    await interruptAfterEpoch(1, ...tinyRun(data), ...mixed);
    const file = at("skips", CHECKPOINT_FILE);
    const content = await loadCheckpoint<SavedRun>(file);
    const { state } = content;
    const { skippedSteps } = state.record;
    expect(state.scheduler.lastEpoch).toBe(8 - skippedSteps);
    // Gradients of this scale overflow, over and over.
    const high = { ...state, scaler: { ...state.scaler, scale: 2 ** 60 } };
    await saveCheckpoint(file, { ...content, state: high } as unknown as CheckpointValue);
    await interruptAfterEpoch(2, "finetune", "--resume", at("skips"));
    const { state: after } = await loadCheckpoint<SavedRun>(file);
    expect(after.record.losses).toHaveLength(16);
    expect(after.record.skippedSteps).toBe(skippedSteps + 8);
    expect(after.scheduler.lastEpoch).toBe(8 - skippedSteps);
    // What is left is the test alone.
    expect(await run(["finetune", "--resume", at("skips")], recordTerminal())).toBe(0);
    const report = JSON.parse(await readFile(at("skips", "results.json"), "utf8")) as Report;
    expect(report.runs[0]!.losses).toEqual(after.record.losses);
    expect(report.runs[0]!.epochs).toEqual(after.record.epochs);
    expect(report.runs[0]!.test).not.toBeNull();
  });
});
