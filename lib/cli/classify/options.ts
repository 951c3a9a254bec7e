// The options of `mixprec classify`: what they are called, what they may be, what they default to.

import { Option, type Command } from "commander";

import type { BadRowPolicy } from "../../data/index.js";
import type { Device } from "../../dtype.js";
import { MixprecError } from "../../errors.js";
import { parsePrecision, type PrecisionName } from "../../fabric/precision.js";
import { UsageError, wholeNumber } from "../usage.js";

/** A checked command line. */
export interface ClassifyCommandOptions {
  /** A directory, or a name on the hub. */
  readonly model: string;
  /** Texts given by themselves; null where they are in a file. */
  readonly texts: readonly string[] | null;
  readonly file: string | null;
  readonly textColumn: string;
  readonly badRows: BadRowPolicy;
  readonly revision: string | null;
  /** Classes of each text to show; null for all. */
  readonly topK: number | null;
  readonly precision: PrecisionName;
  readonly batchSize: number;
  /** Null: what the model takes. */
  readonly maxLength: number | null;
  readonly device: Device | "auto";
  readonly threads: number | null;
  readonly json: boolean;
}

/** As commander gives them. */
export interface RawClassifyOptions {
  text?: string[];
  textColumn: string;
  badRows: BadRowPolicy;
  revision?: string;
  topK: number | "all";
  precision: string;
  batchSize: number;
  maxLength?: number;
  device: string;
  threads?: number;
  json?: true;
}

const HELP = `
Each text gives a line: its classes with their probabilities, and the text. With --json that is
{"text": …, "classes": [{"label": …, "score": …}]}, with the line or row where it came from a file.

Exit code: 0 after success, 1 after a failure, 2 for a wrong command line.`;

function topK(text: string): number | "all" {
  return text.trim() === "all" ? "all" : wholeNumber({ least: 1 })(text);
}

/** Declares arguments and options on a command. */
export function declareClassifyOptions(command: Command): Command {
  return command
    .argument(
      "<dir-or-repo>",
      "a classifier: a directory with config.json, model.safetensors and tokenizer.json, as" +
        " finetune --out writes it, or a name on the hub",
    )
    .argument(
      "[file]",
      "texts: .csv, .tsv, .jsonl or .parquet; any other file has a text in each line",
    )
    .option("--text <text...>", "texts to classify, instead of a file")
    .option("--text-column <name>", "column of the texts in the file", "text")
    .addOption(
      new Option("--bad-rows <what>", "end at a row of no use, or leave it out and say so")
        .choices(["fail", "skip"])
        .default("fail"),
    )
    .option("--revision <name>", "branch, tag or commit of a model on the hub (default: main)")
    .option("--top-k <n>", "classes of each text, the likeliest first, or all", topK, 1)
    .option(
      "--precision <mode>",
      "32-true, 16-mixed, bf16-mixed, 16-true, bf16-true or 64-true",
      "bf16-true",
    )
    .option(
      "--batch-size <n>",
      "texts that go through the model at once",
      wholeNumber({ least: 1, most: 65_536 }),
      32,
    )
    .option(
      "--max-length <n>",
      "tokens of a text at most, special ones included (default: what the model takes)",
      wholeNumber({ least: 1, most: 65_536 }),
    )
    .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
    .option(
      "--threads <n>",
      "threads of the CPU; results do not depend on it",
      wholeNumber({ least: 1, most: 1024 }),
    )
    .option("--json", "a JSON object in each line")
    .addHelpText("after", HELP);
}

function precisionOf(name: string): PrecisionName {
  try {
    return parsePrecision(name);
  } catch (cause) {
    if (cause instanceof MixprecError) throw new UsageError(`--${cause.message}`, cause);
    throw cause;
  }
}

/**
 * What the declared arguments and options were parsed to, checked as a whole.
 * @throws UsageError for a value that does not exist, no texts, or texts from two places.
 */
export function checkClassifyOptions(
  model: string,
  file: string | undefined,
  raw: RawClassifyOptions,
): ClassifyCommandOptions {
  const { text = null, textColumn, badRows, batchSize } = raw;
  for (const [name, value] of [
    ["<dir-or-repo>", model],
    ["[file]", file],
    ["--text-column", textColumn],
    ["--revision", raw.revision],
  ] as const) {
    if (value?.trim() === "") throw new UsageError(`${name}: expected a name, got an empty one`);
  }
  if ((text === null) === (file === undefined)) {
    throw new UsageError(
      text === null
        ? "classify: expected a file of texts, or --text with texts"
        : `classify: expected a file or --text, got both (with --text, name the model first)`,
    );
  }
  if (!/^(auto|cpu|cuda(:\d{1,3})?)$/.test(raw.device)) {
    throw new UsageError(`--device: expected auto, cpu, cuda or cuda:N, got "${raw.device}"`);
  }
  return {
    model,
    texts: text,
    file: file ?? null,
    textColumn,
    badRows,
    revision: raw.revision ?? null,
    topK: raw.topK === "all" ? null : raw.topK,
    precision: precisionOf(raw.precision),
    batchSize,
    maxLength: raw.maxLength ?? null,
    device: raw.device as Device | "auto",
    threads: raw.threads ?? null,
    json: raw.json === true,
  };
}
