import { Command } from "commander";
import { describe, expect, it } from "vitest";

import {
  checkOptions,
  declareOptions,
  resumedOptions,
  type FinetuneOptions,
} from "../../lib/cli/finetune/options.js";
import { run } from "../../lib/cli/program.js";
import { UsageError } from "../../lib/cli/usage.js";
import { recordTerminal } from "./terminal.js";

function parse(...args: string[]): FinetuneOptions {
  const silent = { writeErr: () => undefined, outputError: () => undefined };
  const command = declareOptions(new Command().exitOverride().configureOutput(silent));
  return checkOptions(command.parse(args, { from: "user" }).opts());
}

describe("the options of finetune", () => {
  it("default to one run in float32 on the built-in data, which writes nothing", () => {
    expect(parse()).toMatchObject({
      data: null,
      validationData: null,
      testData: null,
      validationShare: 0.1,
      testShare: 0.3,
      badRows: "fail",
      cache: null,
      workers: null,
      textColumn: "text",
      labelColumn: "label",
      model: null,
      full: false,
      epochs: 3,
      steps: null,
      batchSize: 16,
      accumulate: 1,
      clipNorm: null,
      schedule: "linear",
      evalEvery: null,
      patience: null,
      mode: { precision: "32-true", matmulPrecision: "highest" },
      maxLength: null,
      padding: "longest",
      device: "auto",
      threads: null,
      out: null,
      checkpointEvery: null,
      resume: null,
    });
  });

  it("take the learning rate and the place of the report from what is to be done", () => {
    expect(parse().learningRate).toBe(1e-3);
    expect(parse("--model", "m").learningRate).toBe(5e-5);
    expect(parse("--model", "m", "--lr", "1e-4").learningRate).toBe(1e-4);
    expect(parse("--compare")).toMatchObject({ mode: null, out: "mixprec-report" });
    expect(parse("--compare", "--out", "o").out).toBe("o");
  });

  it("follow --full to DistilBERT's size, each one unless it is named", () => {
    const full = { full: true, model: null, batchSize: 12, padding: "max-length", maxLength: null };
    expect(parse("--full")).toMatchObject({ ...full, data: null, learningRate: 1e-4, epochs: 3 });
    expect(parse("--compare", "--full")).toMatchObject({ ...full, mode: null });
    const named = "--full --data d.csv --batch-size 2 --padding longest --lr 1 --max-length 8";
    expect(parse(...named.split(" "))).toMatchObject({
      full: true,
      data: "d.csv",
      batchSize: 2,
      padding: "longest",
      learningRate: 1,
      maxLength: 8,
    });
    expect(() => parse("--full", "--model", "m")).toThrow(UsageError);
    expect(() => parse("--full", "--model", "m")).toThrow("--full: does not go with --model");
  });

  it("are all read", () => {
    const args =
      "--data d.csv --text-column t --label-column l --model m --revision r --precision bf16 " +
      "--matmul-precision medium --epochs 2 --batch-size 3 --lr 0.5 --max-length 40 " +
      "--validation-data v.csv --test-data t.csv --validation-share 0.2 --test-share .25 " +
      "--bad-rows skip --cache c --workers 3 " +
      "--padding max-length --seed 9007199254740991 --device cuda:1 --threads 2 --out o " +
      "--checkpoint-every 50 --accumulate 4 --clip-norm 1.5 --schedule cosine " +
      "--eval-every 20 --patience 2";
    expect(parse(...args.split(" "))).toEqual({
      data: "d.csv",
      validationData: "v.csv",
      testData: "t.csv",
      validationShare: 0.2,
      testShare: 0.25,
      badRows: "skip",
      cache: "c",
      workers: 3,
      textColumn: "t",
      labelColumn: "l",
      model: "m",
      revision: "r",
      full: false,
      mode: {
        name: "bf16-mixed medium",
        precision: "bf16-mixed",
        matmulPrecision: "medium",
      },
      epochs: 2,
      steps: null,
      batchSize: 3,
      accumulate: 4,
      clipNorm: 1.5,
      schedule: "cosine",
      evalEvery: 20,
      patience: 2,
      learningRate: 0.5,
      maxLength: 40,
      padding: "max-length",
      seed: 9007199254740991,
      device: "cuda:1",
      threads: 2,
      out: "o",
      checkpointEvery: 50,
      resume: null,
    });
  });

  it("of a run that is gone on with hold, but for those that change nothing of what it gives", () => {
    const own = parse("--lr", "0.5", "--device", "cpu", "--no-cache", "--out", "moved");
    const args = ["--resume", "r", "--threads", "3", "--workers", "0", "--checkpoint-every", "9"];
    expect(resumedOptions(own, parse(...args))).toEqual({
      ...own,
      threads: 3,
      workers: 0,
      checkpointEvery: 9,
      out: "r",
      resume: "r",
    });
  });

  it("end a run after steps instead of epochs", () => {
    expect(parse("--steps", "70").steps).toBe(70);
  });

  it("keep no token ids where that is asked for", () => {
    expect(parse("--no-cache").cache).toBe(false);
  });

  it.each([
    ["--precision", "32"],
    ["--matmul-precision", "high"],
  ])("refuse %s together with --compare", (option, value) => {
    expect(() => parse("--compare", option, value)).toThrow(UsageError);
    expect(() => parse("--compare", option, value)).toThrow(
      `${option}: does not go with --compare`,
    );
  });
});

describe("mixprec", () => {
  it.each([
    [
      ["finetune", "--lr", "nan"],
      /--lr <rate>' argument 'nan' is invalid. Expected a finite number/,
    ],
    [["finetune", "--lr", "NaN"], /finite number above 0/],
    [["finetune", "--lr", "Infinity"], /finite number above 0/],
    [["finetune", "--lr", "1e999"], /finite number above 0/],
    [["finetune", "--lr", "0"], /finite number above 0/],
    [["finetune", "--lr=-1e-3"], /finite number above 0/],
    [["finetune", "--lr", "0x1"], /finite number above 0/],
    [["finetune", "--lr", ""], /finite number above 0/],
    [["finetune", "--epochs", "0"], /whole number from 1 to 10000/],
    [["finetune", "--epochs", "1.5"], /whole number from 1/],
    [["finetune", "--batch-size", "-4"], /whole number from 1/],
    [["finetune", "--batch-size", "1e1"], /whole number from 1/],
    [["finetune", "--max-length", "2"], /whole number from 3/],
    [["finetune", "--seed", "-1"], /whole number of at least 0/],
    [["finetune", "--seed", "9007199254740992"], /whole number of at least 0/],
    [["finetune", "--threads", "0"], /whole number from 1 to 1024/],
    [["finetune", "--padding", "none"], /Allowed choices are longest, max-length/],
    [["finetune", "--precision", "8-true"], /--precision: expected one of 32-true.*got "8-true"/],
    [["finetune", "--precision", "transformer-engine"], /--precision: transformer-engine computes/],
    [["finetune", "--matmul-precision", "low"], /--matmul-precision: expected highest, high or/],
    [["finetune", "--device", "tpu"], /--device: expected auto, cpu, cuda or cuda:N, got "tpu"/],
    [["finetune", "--device", "cuda:"], /--device: expected/],
    [["finetune", "--data", ""], /--data: expected a name/],
    [["finetune", "--test-data", " "], /--test-data: expected a name/],
    [["finetune", "--test-share", "1"], /above 0 and less than 1/],
    [
      ["finetune", "--test-share", "0.6", "--validation-share", "0.4"],
      /less than 1 together, got 0.4 and 0.6/,
    ],
    [["finetune", "--bad-rows", "ignore"], /--bad-rows/],
    [["finetune", "--out", " "], /--out: expected a name/],
    [["finetune", "--text-column", "label"], /expected different columns, got "label" twice/],
    [["finetune", "--steps", "0"], /whole number of at least 1/],
    [["finetune", "--steps", "9", "--epochs", "3"], /--steps: does not go with --epochs/],
    [["finetune", "--eval-every", "0"], /whole number of at least 1/],
    [["finetune", "--patience", "0"], /whole number of at least 1/],
    [["finetune", "--accumulate", "0"], /whole number from 1 to 65536/],
    [["finetune", "--clip-norm", "0"], /finite number above 0/],
    [["finetune", "--schedule", "step"], /Allowed choices are linear, cosine/],
    [["finetune", "--checkpoint-every", "0"], /whole number of at least 1/],
    [
      ["finetune", "--checkpoint-every", "5"],
      /--checkpoint-every: saves to --out, and there is no/,
    ],
    [["finetune", "--compare", "--checkpoint-every", "5"], /does not go with --compare/],
    [["finetune", "--resume", ""], /--resume: expected a name/],
    [["finetune", "--resume", "r", "--batch-size", "4"], /--batch-size: does not go with --resume/],
    [["finetune", "--resume", "r", "--compare"], /--compare: does not go with --resume/],
    [["finetune", "--colour"], /unknown option '--colour'/],
    [["finetune", "--epoch", "1"], /unknown option '--epoch' \(Did you mean --epochs\?\)/],
    [["finetune", "--epochs"], /'--epochs <n>' argument missing/],
    [["finetune", "reviews.csv"], /too many arguments/],
    [["train"], /unknown command 'train'/],
    [["info", "--xml"], /unknown option '--xml'/],
  ])("%j is a wrong command line: one line, exit code 2", async (args, message) => {
    const terminal = recordTerminal();
    expect(await run(args, terminal)).toBe(2);
    expect(terminal.stderr.text).toMatch(message);
    expect(terminal.stderr.text).toMatch(/^mixprec: [^\n]*\n$/);
    expect(terminal.stdout.text).toBe("");
  });

  it("shows help and version on standard output", async () => {
    for (const [args, text] of [
      [["--help"], "finetune [options]"],
      [["finetune", "--help"], "--matmul-precision"],
      [["help", "info"], "--json"],
      [["--version"], /^\d+\.\d+\.\d+\n$/],
    ] as const) {
      const terminal = recordTerminal();
      expect(await run(args, terminal)).toBe(0);
      expect(terminal.stdout.text).toMatch(text);
      expect(terminal.stderr.text).toBe("");
    }
  });

  it("shows help as an error where no command was given", async () => {
    const terminal = recordTerminal();
    expect(await run([], terminal)).toBe(2);
    expect(terminal.stderr.text).toContain("Usage: mixprec");
  });
});
