// Runs that are stopped and gone on with: what they give is what an uninterrupted run gives.

import { copyFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { CHECKPOINT_FILE } from "../../lib/cli/finetune/checkpoint.js";
import type { Report } from "../../lib/cli/finetune/report.js";
import type { RunResult } from "../../lib/cli/finetune/result.js";
import { run } from "../../lib/cli/program.js";
import { saveCheckpoint } from "../../lib/index.js";
import { recordStream, recordTerminal } from "../cli/terminal.js";
import { tinyRun, writeReviews } from "./tiny-data.js";

let directory: string;
let data: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-resume-"));
  data = await writeReviews(directory);
});
afterAll(() => rm(directory, { recursive: true }));

const at = (...names: string[]) => path.join(directory, ...names);

async function execute(...args: string[]) {
  const terminal = recordTerminal();
  const code = await run(args, terminal);
  return { code, out: terminal.stdout.text, err: terminal.stderr.text };
}

/** Runs until the output matches, and then presses Ctrl-C. */
async function interrupt(when: RegExp, ...args: string[]) {
  // A terminal, on which each epoch begins with a bar.
  const stdout = recordStream({ isTTY: true, columns: 120 });
  const stderr = recordStream();
  let pressed = false;
  const write = stdout.write.bind(stdout);
  stdout.write = (text) => {
    const done = write(text);
    if (!pressed && when.test(stdout.text)) {
      pressed = true;
      process.emit("SIGINT");
    }
    return done;
  };
  const code = await run(args, { stdout, stderr });
  return { code, err: stderr.text, pressed };
}

async function resultOf(name: string): Promise<RunResult> {
  const report = JSON.parse(await readFile(at(name, "results.json"), "utf8")) as Report;
  return report.runs[0]!;
}

/** What must not depend on stops. */
async function expectSame(name: string, whole: string): Promise<void> {
  const [again, once] = [await resultOf(name), await resultOf(whole)];
  for (const key of ["losses", "scales", "skippedSteps", "test", "evaluations", "best"] as const) {
    expect(again[key]).toEqual(once[key]);
  }
  const facts = ({ epochs }: RunResult) =>
    epochs.map(({ seconds: _, samplesPerSecond: __, ...facts }) => facts);
  expect(facts(again)).toEqual(facts(once));
  const weights = "model.safetensors";
  expect(await readFile(at(name, weights))).toEqual(await readFile(at(whole, weights)));
}

/** Arguments; steps in an epoch; steps after which checkpoints are written, one within the first. */
const RUNS: [precision: string, steps: number, every: number, more: string[]][] = [
  [
    "32-true",
    3,
    2,
    ["--accumulate", "3", "--clip-norm", "0.5", "--schedule", "cosine", "--eval-every", "2"],
  ],
  ["16-mixed", 8, 7, []],
];

describe.each(RUNS)("a run in %s of %d steps an epoch", (precision, steps, every, more) => {
  const options = (name: string) =>
    tinyRun(data, "--precision", precision, "--epochs", "2", "--out", at(name), ...more);
  const whole = `whole-${precision}`;
  const killed = `killed-${precision}`;
  beforeAll(async () => {
    await mkdir(at(killed));
    // Copied while the run goes on: written before the end of the epoch.
    const terminal = recordTerminal();
    const { stdout } = terminal;
    const write = stdout.write.bind(stdout);
    stdout.write = (text) => {
      if (/epoch 1\/2 {2}loss/.test(text)) {
        copyFileSync(at(whole, CHECKPOINT_FILE), at(killed, CHECKPOINT_FILE));
      }
      return write(text);
    };
    expect(await run([...options(whole), "--checkpoint-every", String(every)], terminal)).toBe(0);
    expect(terminal.stderr.text).toBe("");
  });

  it("that Ctrl-C stopped within an epoch goes on bitwise as if it had not", async () => {
    // A name that a shell would take apart.
    const name = `it's stopped in ${precision}`;
    const stopped = await interrupt(/epoch 2\/2.*loss/, ...options(name));
    expect(stopped.pressed).toBe(true);
    expect(stopped.err).toBe(
      "mixprec: interrupted: go on with: mixprec finetune --resume " +
        `'${at("it")}'\\''s stopped in ${precision}'\n`,
    );
    expect(stopped.code).toBe(130);
    expect(await readdir(at(name))).toEqual([CHECKPOINT_FILE]);
    const { code, err, out } = await execute("finetune", "--resume", at(name), "--threads", "2");
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^resume .*safetensors, after step ${steps + 1}$`, "m"));
    await expectSame(name, whole);
    // Nothing is left to go on with.
    expect(await readdir(at(name))).not.toContain(CHECKPOINT_FILE);
  });

  it("that was killed goes on from the last checkpoint", async () => {
    // What a save that was cut off leaves.
    await writeFile(at(killed, `.${CHECKPOINT_FILE}.1.tmp`), "half a file");
    const { code, err, out } = await execute("finetune", "--resume", at(killed));
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^resume .*, after step ${every}$`, "m"));
    await expectSame(killed, whole);
  });
});

describe("--resume", () => {
  it("names a directory without a run, a file that holds none, and other data", async () => {
    await mkdir(at("none"));
    expect(await execute("finetune", "--resume", at("none"))).toMatchObject({
      code: 2,
      err: expect.stringMatching(
        /^mixprec: --resume .*none: expected the --out directory/,
      ) as string,
    });
    await saveCheckpoint(at("none", CHECKPOINT_FILE), { format: "other", state: 1 });
    expect(await execute("finetune", "--resume", at("none"))).toMatchObject({
      code: 1,
      err: expect.stringMatching(
        /holds no run of this command — expected .*, got "other"/,
      ) as string,
    });
    const own = at("own.csv");
    await copyFile(data, own);
    await interrupt(/epoch 2\/9.*loss/, ...tinyRun(own, "--epochs", "9", "--out", at("own")));
    const before = await readFile(at("own", CHECKPOINT_FILE));
    const rows = await readFile(own, "utf8");
    await writeFile(own, rows.replace(/\n"?[A-Za-z]+ /, "\nquite another beginning of a text "));
    const { code, err } = await execute("finetune", "--resume", at("own"));
    expect(err).toMatch(/the data of this run, .*own\.csv, or its tokenizer changed since/);
    expect(code).toBe(1);
    expect(await readFile(at("own", CHECKPOINT_FILE))).toEqual(before);
    // A damaged file is no run, and stays as it is.
    await writeFile(at("own", CHECKPOINT_FILE), before.subarray(0, before.length - 10));
    const damaged = await execute("finetune", "--resume", at("own"));
    expect(damaged.err).toMatch(/checkpoint\.safetensors/);
    expect(damaged.code).toBe(1);
  });
});
