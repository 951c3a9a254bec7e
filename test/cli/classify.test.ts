import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { resultLine } from "../../lib/cli/classify/command.js";
import { run } from "../../lib/cli/program.js";
import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";
import { saveTinyClassifier, TEXTS } from "../pipelines/tiny-classifier.js";
import { recordTerminal } from "./terminal.js";

let root: string;
let model: string;
let answers: mp.Classification[];
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "mixprec-classify-"));
  model = path.join(root, "model");
  await saveTinyClassifier(model);
  const classify = await mp.pipeline("text-classification", model, { device: TEST_DEVICE });
  answers = await classify(TEXTS);
  classify.dispose();
});
afterAll(() => rm(root, { recursive: true }));

async function execute(...args: string[]) {
  const terminal = recordTerminal();
  const code = await run(["classify", ...args, "--device", TEST_DEVICE], terminal);
  return { code, out: terminal.stdout.text, err: terminal.stderr.text };
}

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const file = path.join(root, name);
  await writeFile(file, content);
  return file;
}

const parquetOf = (texts: readonly string[]): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({ columnData: [{ name: "text", data: [...texts], type: "STRING" }] }),
  );

interface Line {
  readonly at?: number;
  readonly text: string;
  readonly classes: mp.Classification[];
}

const parseLines = (out: string): Line[] =>
  out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

describe("mixprec classify", () => {
  it("writes a line for each text, what the pipeline answers in bfloat16", async () => {
    const { code, out, err } = await execute(model, "--text", ...TEXTS);
    expect(err).toBe("");
    expect(code).toBe(0);
    const wanted = answers.map(
      ({ label, score }, i) => `${label} ${score.toFixed(3)}  ${TEXTS[i]!}\n`,
    );
    expect(out).toBe(wanted.join(""));
    const apart = await execute(model, ...TEXTS.flatMap((text) => ["--text", text]));
    expect(apart.out).toBe(out);
  });

  it("writes JSON lines, with all classes where that is wanted", async () => {
    const { out, err } = await execute(model, "--text", TEXTS[0]!, "--json", "--top-k", "all");
    expect(err).toBe("");
    const [line] = parseLines(out);
    expect(line!.text).toBe(TEXTS[0]);
    expect(line!.classes).toHaveLength(3);
    expect(line!.classes[0]).toEqual(answers[0]);
    expect(line).not.toHaveProperty("at");
    const control = await execute(model, "--text", "great\u009b31m", "--json");
    expect(control.err).toBe("");
    expect(control.out).toContain("great\\u009b31m");
    expect(parseLines(control.out)[0]!.text).toBe("great\u009b31m");
  });

  it("reads texts from data files and from lines", async () => {
    const csv = ["text,other", ...TEXTS.map((text) => `"${text}",1`)].join("\r\n");
    const files = [
      await write("texts.csv", csv),
      await write("texts.tsv", ["text", ...TEXTS].join("\n")),
      await write("texts.jsonl", TEXTS.map((text) => JSON.stringify({ text })).join("\n")),
      await write("texts.parquet", parquetOf(TEXTS)),
      await write("texts.txt", `\uFEFF${TEXTS.join("\r\n\r\n")}`),
      await write("texts", TEXTS.join("\n")),
    ];
    for (const file of files) {
      const { code, out, err } = await execute(model, file, "--json", "--batch-size", "2");
      expect(err).toBe("");
      expect(code).toBe(0);
      const lines = parseLines(out);
      expect(lines.map(({ text }) => text)).toEqual(TEXTS);
      expect(lines.map(({ classes }) => classes[0]!.label)).toEqual(
        answers.map(({ label }) => label),
      );
    }
    const numbers = async (file: string) =>
      parseLines((await execute(model, file, "--json")).out).map(({ at }) => at);
    expect(await numbers(files[0]!)).toEqual([2, 3, 4, 5, 6]);
    expect(await numbers(files[3]!)).toEqual([1, 2, 3, 4, 5]);
    expect(await numbers(files[4]!)).toEqual([1, 3, 5, 7, 9]);
    const column = await write("column.csv", "review,text\ngreat,cold\n");
    const { out } = await execute(model, column, "--text-column", "review", "--json");
    expect(parseLines(out)[0]!.text).toBe("great");
  });

  it("ends at a bad row, or leaves it out and says so", async () => {
    const lines = [Buffer.from("great\n"), Buffer.from([0xff, 0x0a]), Buffer.from("cold\n")];
    for (const [file, place] of [
      [await write("bad.txt", Buffer.concat(lines)), /bad\.txt, line 2: not UTF-8/],
      [await write("bad.csv", "text,n\ngreat,1\n,2\ncold,3\n"), /bad\.csv, line 3: .*empty/],
    ] as const) {
      const failed = await execute(model, file);
      expect(failed.code).toBe(1);
      expect(failed.err).toMatch(place);
      const skipped = await execute(model, file, "--bad-rows", "skip", "--json");
      expect(skipped.code).toBe(0);
      expect(skipped.err).toMatch(/^1 bad row left out:\n/);
      expect(skipped.err).toMatch(place);
      expect(parseLines(skipped.out).map(({ text }) => text)).toEqual(["great", "cold"]);
    }
  });

  it("says what is wrong with a command line, with code 2, or with a file, with code 1", async () => {
    const usage = async (...args: string[]) => {
      const { code, err } = await execute(...args);
      expect(code).toBe(2);
      return err;
    };
    expect(await usage(model)).toMatch(/expected a file of texts, or --text with texts/);
    expect(await usage(model, "f.txt", "--text", "great")).toMatch(/got both/);
    expect(await usage(model, "--text", "a", "--precision", "8")).toMatch(/--precision: expected/);
    expect(await usage(model, "--text", "a", "--top-k", "0")).toMatch(/whole number of at least 1/);
    expect(await usage(model, "--text", "a", "--batch-size", "x")).toMatch(/from 1 to 65536/);
    expect(await usage(" ", "--text", "a")).toMatch(/<dir-or-repo>: expected a name/);
    expect(await usage()).toMatch(/missing required argument/);

    const failed = async (...args: string[]) => {
      const { code, err } = await execute(...args);
      expect(code).toBe(1);
      expect(err.trimEnd().split("\n")).toHaveLength(1);
      return err;
    };
    expect(await failed(path.join(root, "no"), "--text", "a")).toMatch(/no such directory/);
    expect(await failed(model, path.join(root, "no.txt"))).toMatch(/no\.txt: cannot be read/);
    expect(await failed(model, await write("empty.txt", "\n"))).toMatch(/there is no text in it/);
    expect(await failed(model, await write("c.csv", "a,b\n1,2\n"))).toMatch(/no column "text"/);
  });

  it("keeps a text on one line, within the terminal", () => {
    const classes = [
      { label: "good", score: 0.75 },
      { label: "bad", score: 0.25 },
    ];
    expect(resultLine("so\n good\t!", classes, undefined)).toBe("good 0.750, bad 0.250  so good !");
    expect(resultLine("a long text", classes, 28)).toBe("good 0.750, bad 0.250  a lo…");
    expect(resultLine("a long text", classes, 5)).toBe("good 0.750, bad 0.250…");
  });
});
