import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { Report } from "../../lib/cli/finetune/report.js";
import type { RunResult } from "../../lib/cli/finetune/result.js";
import { COMPARED_MODES } from "../../lib/cli/finetune/modes.js";
import { run } from "../../lib/cli/program.js";
import { cuda } from "../../lib/core/memory.js";
import { EMULATED, TEST_DEVICE } from "../helpers/devices.js";
import { recordTerminal } from "../cli/terminal.js";
import { tinyRun, writeReviews } from "./tiny-data.js";

let directory: string;
let data: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-finetune-"));
  data = await writeReviews(directory);
});
afterAll(() => rm(directory, { recursive: true }));

const at = (...names: string[]) => path.join(directory, ...names);

async function execute(...args: string[]) {
  const terminal = recordTerminal();
  const code = await run(args, terminal);
  return { code, out: terminal.stdout.text, err: terminal.stderr.text };
}

async function readReport(name: string): Promise<Report> {
  return JSON.parse(await readFile(at(name, "results.json"), "utf8")) as Report;
}

/** A single run into a directory of its own; its result. */
async function runInto(name: string, ...more: string[]): Promise<RunResult> {
  const { code, err } = await execute(...tinyRun(data, "--out", at(name), ...more));
  expect(err).toBe("");
  expect(code).toBe(0);
  return (await readReport(name)).runs[0]!;
}

/** Pure float16 breaks within a few steps of this rate, which the others stand. */
const HIGH_RATE = ["--lr", "0.01"];

describe("mixprec finetune --compare", () => {
  let out: string;
  let report: Report;
  let byName: Record<string, RunResult>;
  beforeAll(async () => {
    const ran = await execute(...tinyRun(data, "--compare", ...HIGH_RATE, "--out", at("all")));
    expect(ran.err).toBe("");
    expect(ran.code).toBe(0);
    out = ran.out;
    report = await readReport("all");
    byName = Object.fromEntries(report.runs.map((result) => [result.name, result]));
  });

  it("says in results.json what was run, on what", () => {
    expect(report).toMatchObject({
      format: "mixprec-finetune-1",
      complete: true,
      device: TEST_DEVICE,
      data: {
        source: data,
        classes: ["negative", "positive"],
        train: 60,
        validation: 10,
        test: 30,
      },
      model: { source: "built-in" },
      options: { epochs: 1, batchSize: 8, learningRate: 0.01, maxLength: 24, seed: 1 },
    });
    expect(new Date(report.created).toISOString()).toBe(report.created);
    expect(report.environment.node).toBe(process.versions.node);
  });

  it("runs every precision, and prints each with its place in the table", () => {
    const names = COMPARED_MODES.map(({ name }) => name);
    expect(report.runs.map(({ name }) => name)).toEqual(names);
    for (const name of names) {
      expect(out).toMatch(new RegExp(`^${name} +\\d+\\.\\d +\\d+ +(\\d+\\.\\d\\d×|–)`, "m"));
    }
    for (const result of report.runs.filter(({ name }) => name !== "float16 pure")) {
      expect(result.diverged).toBeNull();
      expect(result.losses).toHaveLength(8);
      expect(result.seconds).toBeGreaterThan(0);
      expect(result.samplesPerSecond).toBeCloseTo(60 / result.seconds, 6);
      expect(result.epochs).toHaveLength(1);
      const right = result.testAccuracy! * 30;
      expect(right).toBeCloseTo(Math.round(right), 9);
      const scaled = result.precision === "16-mixed";
      expect(result.scales?.length ?? null).toBe(scaled ? 8 : null);
      expect(result.skippedSteps !== null).toBe(scaled);
    }
  });

  it("starts every precision from the same weights and batches", () => {
    const exact = byName.float64!.losses[0]!;
    for (const { losses, precision } of report.runs) {
      const tolerance = precision === "32-true" ? 1e-3 : 2e-2;
      expect(Math.abs(losses[0]! - exact)).toBeLessThan(tolerance);
    }
    expect(new Set(report.runs.map(({ losses }) => losses.join())).size).toBe(report.runs.length);
  });

  it("measures each run's own memory: double for float64, about half for pure 16 bit", () => {
    const base = byName["float32 highest"]!.peakMemoryBytes;
    expect(byName["float32 medium"]!.peakMemoryBytes / base).toBeCloseTo(1, 2);
    expect(byName.float64!.peakMemoryBytes / base).toBeGreaterThan(1.8);
    for (const name of ["float16 pure", "bfloat16 pure"]) {
      expect(byName[name]!.peakMemoryBytes / base).toBeLessThan(0.55);
    }
  });

  it("reports pure float16 as diverged, at its step and with the reason, and goes on", () => {
    const half = byName["float16 pure"]!;
    const { step, epoch, findings } = half.diverged!;
    expect(half.losses).toHaveLength(step);
    expect(epoch).toBe(1);
    // The loss that is not finite is null in JSON.
    expect(half.losses.at(-1)).toBeNull();
    expect(half.losses.slice(0, -1)).not.toContain(null);
    expect(half.testAccuracy).toBeNull();
    expect(findings.join("\n")).toMatch(/second moments underflowed to 0 in float16/);
    expect(out).toContain(`diverged at step ${step} (epoch ${epoch})`);
    expect(out).toMatch(new RegExp(`^float16 pure .* diverged at step ${step}$`, "m"));
  });

  it("draws charts of all runs", async () => {
    expect((await readdir(at("all"))).sort()).toEqual([
      "comparison.svg",
      "loss.svg",
      "results.json",
    ]);
    for (const file of ["comparison.svg", "loss.svg"]) {
      const svg = await readFile(at("all", file), "utf8");
      expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg"[^]*<\/svg>\n$/);
      expect(svg).not.toMatch(/NaN|undefined/);
      for (const { name } of COMPARED_MODES) expect(svg).toContain(name);
      expect(svg).toContain(`diverged at step ${byName["float16 pure"]!.diverged!.step}`);
    }
  });
});

describe("a single run", () => {
  it("gives bitwise the same losses with the same seed and any number of threads", async () => {
    const options = ["--precision", "16-mixed", "--epochs", "2"];
    const first = await runInto("a", ...options);
    expect(first.losses).toHaveLength(16);
    const same = ["losses", "scales", "testAccuracy"] as const;
    for (const [name, ...more] of [["b"], ["c", "--threads", "2"], ["d", "--threads", "3"]]) {
      const again = await runInto(name!, ...options, ...more);
      for (const key of same) expect(again[key]).toEqual(first[key]);
    }
    const other = await runInto("e", ...options, "--seed", "2");
    expect(other.losses).not.toEqual(first.losses);
  });

  it("reports F1 and the confusion matrix of the test texts, in the file and on the terminal", async () => {
    const { code, out } = await execute(...tinyRun(data, "--out", at("metrics")));
    expect(code).toBe(0);
    const { test, testAccuracy, epochs } = (await readReport("metrics")).runs[0]!;
    const { accuracy, macroF1, classes, confusion } = test!;
    expect(accuracy).toBe(testAccuracy);
    expect(classes.map(({ name }) => name)).toEqual(["negative", "positive"]);
    expect(confusion.map((row) => row[0]! + row[1]!)).toEqual(classes.map((c) => c.support));
    expect(classes[0]!.support + classes[1]!.support).toBe(30);
    expect((confusion[0]![0]! + confusion[1]![1]!) / 30).toBe(accuracy);
    expect(macroF1).toBeCloseTo((classes[0]!.f1 + classes[1]!.f1) / 2, 12);
    expect(epochs[0]!.validationF1).toBeLessThanOrEqual(1);
    expect(out).toContain(`F1 ${(100 * macroF1).toFixed(1)} %`);
    expect(out).toMatch(/^ +class +precision \(%\) +recall \(%\) +F1 \(%\) +texts +→ negative/m);
  });

  it("saves a model that a later run starts from", async () => {
    const first = await runInto("saved", "--precision", "bf16-true", "--epochs", "20");
    expect((await readdir(at("saved"))).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "results.json",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    const config = JSON.parse(await readFile(at("saved", "config.json"), "utf8")) as object;
    expect(config).toMatchObject({
      model_type: "distilbert",
      id2label: { 0: "negative", 1: "positive" },
      label2id: { negative: 0, positive: 1 },
    });
    const next = await runInto("next", "--model", at("saved"), "--max-length", "20");
    // It goes on where training ended, far below where a new model begins.
    expect(next.losses[0]).toBeLessThan(0.8 * first.losses[0]!);
    const { model } = await readReport("next");
    expect(model.source).toBe(at("saved"));
  });

  it("draws the head anew for other classes, and says so", async () => {
    await runInto("two");
    const lines = Array.from({ length: 40 }, (_, i) => `{"text":"good ${i}","label":${i % 3}}`);
    await writeFile(at("three.jsonl"), lines.join("\n"));
    const args = tinyRun(at("three.jsonl"), "--model", at("two"), "--out", at("three"));
    const { code, out } = await execute(...args);
    expect(code).toBe(0);
    expect(out).toContain("its head of 2 classes is drawn anew for 3");
    expect((await readReport("three")).data.classes).toEqual(["0", "1", "2"]);
  });

  it("that diverges fails, and leaves the model that stood in --out", async () => {
    await runInto("kept");
    const before = await readFile(at("kept", "model.safetensors"));
    const args = ["--precision", "16-true", ...HIGH_RATE, "--out", at("kept")];
    const { code, out } = await execute(...tinyRun(data, ...args));
    expect(code).toBe(1);
    expect(out).toMatch(/diverged at step \d+ \(epoch \d\)/);
    expect(await readFile(at("kept", "model.safetensors"))).toEqual(before);
    expect((await readReport("kept")).runs[0]!.diverged).not.toBeNull();
  });

  it("pads to --max-length where asked", async () => {
    const padded = await runInto("padded", "--padding", "max-length");
    const dynamic = await runInto("dynamic");
    // Padding changes no answer, so the first losses agree but for dropout, and the memory grows.
    expect(padded.peakMemoryBytes).toBeGreaterThanOrEqual(dynamic.peakMemoryBytes);
  });
});

describe("a data set in folders", () => {
  it("is read as aclImdb has it, with its own test part, and says which files it left out", async () => {
    const { generateReviews, builtin } = await import("../../scripts/generate-reviews.mjs");
    const reviews = generateReviews({ ...builtin, count: 60 });
    for (const [i, { text, label }] of reviews.entries()) {
      const folder = at("imdb", i < 40 ? "train" : "test", label === "positive" ? "pos" : "neg");
      await mkdir(folder, { recursive: true });
      await writeFile(path.join(folder, `${i}_5.txt`), text);
    }
    await mkdir(at("imdb", "train", "unsup"));
    await writeFile(at("imdb", "train", "unsup", "0_0.txt"), "no label");
    const empty = at("imdb", "train", "neg", "empty.txt");
    await writeFile(empty, "\n");

    const refused = await execute(...tinyRun(at("imdb")));
    expect(refused.code).toBe(1);
    expect(refused.err).toBe(`mixprec: finetune: ${empty}: the text is empty\n`);

    const more = ["--bad-rows", "skip", "--validation-share", "0.2", "--out", at("folders")];
    const { code, out, err } = await execute(...tinyRun(at("imdb"), ...more));
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(out).toContain("1 row of no use is left out:");
    expect(out).toContain(`${empty}: the text is empty`);
    expect((await readReport("folders")).data).toMatchObject({
      classes: ["neg", "pos"],
      train: 32,
      validation: 8,
      test: 20,
      badRows: 1,
    });
  });
});

describe("what cannot be run", () => {
  const files: [name: string, content: string | Uint8Array, message: RegExp][] = [
    ["columns.csv", "txt,label\na,0\n", /no column "text"/],
    ["quotes.csv", 'text,label\na,0\n"b,1\n', /broken quotes/],
    ["empty.csv", "", /the file is empty/],
    ["latin.csv", Buffer.from("text,label\na\xff,0\n", "latin1"), /line 2: not UTF-8/],
    ["range.csv", "text,label\na,0\nb,7\n", /line 3: label 7 out of range/],
    ["few.csv", "text,label\na,0\nb,1\n", /too few samples/],
    ["words.txt", "text,label\na,0\n", /expected a file .csv, .tsv, .jsonl, /],
    ["broken.jsonl", '{"text":\n', /line 1: not JSON/],
  ];

  it.each(files)("%s: one line, exit code 1, --out as it was", async (name, content, message) => {
    await writeFile(at(name), content);
    const out = at(`out-${name}`);
    const { code, err, out: text } = await execute(...tinyRun(at(name), "--out", out));
    expect(code).toBe(1);
    expect(err).toMatch(/^mixprec: [^\n]*\n$/);
    expect(err).toMatch(message);
    expect(text).toBe("");
    expect(await readdir(directory)).not.toContain(`out-${name}`);
  });

  async function expectFailure(code: number, message: RegExp, ...args: string[]): Promise<void> {
    const result = await execute(...args);
    expect(result.err).toMatch(message);
    expect(result.err).toMatch(/^mixprec: [^\n]*\n$/);
    expect(result.code).toBe(code);
  }

  it("names a missing file, column and device", async () => {
    await expectFailure(1, /none.csv: cannot be read: ENOENT/, ...tinyRun(at("none.csv")));
    await expectFailure(1, /no column "opinion"/, ...tinyRun(data, "--text-column", "opinion"));
    await expectFailure(1, /device cuda:7: /, ...tinyRun(data, "--device", "cuda:7"));
  });

  it("names what is wrong with a model's directory", async () => {
    await runInto("model");
    const broken = async (name: string, file: string, content: string | Uint8Array | null) => {
      await mkdir(at(name));
      for (const entry of ["config.json", "model.safetensors", "tokenizer.json"]) {
        const bytes = entry === file ? content : await readFile(at("model", entry));
        if (bytes !== null) await writeFile(at(name, entry), bytes);
      }
      return tinyRun(data, "--model", at(name));
    };
    await expectFailure(
      1,
      /nowhere: no such directory/,
      ...tinyRun(data, "--model", at("nowhere")),
    );
    await expectFailure(1, /not a directory/, ...tinyRun(data, "--model", data));
    await expectFailure(1, /config.json: cannot be/, ...(await broken("m1", "config.json", null)));
    await expectFailure(1, /config.json: is not JSON/, ...(await broken("m2", "config.json", "{")));
    await expectFailure(1, /tokenizer.json/, ...(await broken("m3", "tokenizer.json", "[]")));
    const weights = await readFile(at("model", "model.safetensors"));
    const cut = weights.subarray(0, weights.length - 100);
    await expectFailure(1, /model.safetensors/, ...(await broken("m4", "model.safetensors", cut)));
    const long = ["--max-length", "100"];
    const args = tinyRun(data, "--model", at("model"), ...long);
    await expectFailure(2, /--max-length: expected at most 24, the positions of/, ...args);
  });

  it("refuses a place to write to that is none, before it trains", async () => {
    await expectFailure(2, /expected a directory, got a file/, ...tinyRun(data, "--out", data));
    const below = path.join(data, "below");
    await expectFailure(2, /cannot be written/, ...tinyRun(data, "--out", below));
    await runInto("source");
    const onto = ["--model", at("source"), "--out", at("source")];
    await expectFailure(2, /holds the model to start from/, ...tinyRun(data, ...onto));
  });
});

describe("mixprec info", () => {
  it("shows the device, as text and as JSON", async () => {
    const text = await execute("info");
    expect(text.code).toBe(0);
    expect(text.out).toMatch(/^instruction set {2}(portable|avx2|avx512)$/m);
    const json = await execute("info", "--json");
    const environment = JSON.parse(json.out) as Record<string, unknown>;
    expect(environment.node).toBe(process.versions.node);
    const devices = environment.cudaDevices as { name: string; totalMemory: number }[];
    expect(devices).toHaveLength(cuda.deviceCount());
    for (const [i, { name, totalMemory }] of devices.entries()) {
      const line = text.out.split("\n").find((text) => text.startsWith(`cuda:${i} `));
      expect(line).toContain(`  ${name}, compute capability `);
      expect(totalMemory).toBe(cuda.deviceProperties(`cuda:${i}`).totalMemory);
    }
    if (devices.length === 0) expect(text.out).toMatch(/^cuda +no device$/m);
    expect(environment.threads).toBeGreaterThan(0);
  });
});

describe("Ctrl-C", () => {
  it("ends the run between two steps, keeps what is done, exit code 130", async () => {
    // Enough of them that the second run goes on for a while.
    const epochs = EMULATED ? "4" : "30";
    const options = tinyRun(data, "--compare", "--epochs", epochs, "--out", at("stopped"));
    const args = [path.resolve("dist/cli/main.js"), ...options];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      // Once: the second run has begun.
      if (!child.killed && /^float32 high\n {2}epoch 1/m.test(out)) child.kill("SIGINT");
    });
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(err).toBe("mixprec: interrupted\n");
    expect(code).toBe(130);
    const text = await readFile(at("stopped", "results.partial.json"), "utf8");
    const report = JSON.parse(text) as Report;
    expect(report.complete).toBe(false);
    expect(report.runs.map(({ name }) => name)).toEqual(["float32 highest"]);
  }, 120_000);
});
