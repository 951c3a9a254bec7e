// The options of `mixprec finetune`: what they are called, what they may be, what they default to.

import { Option, type Command } from "commander";

import type { BadRowPolicy } from "../../data/index.js";
import type { Device } from "../../dtype.js";
import { MixprecError } from "../../errors.js";
import { positiveNumber, share, UsageError, wholeNumber } from "../usage.js";
import { modeOf, type Mode } from "./modes.js";

/** To which length a batch is padded: that of its longest text, or always the largest. */
export type Padding = "longest" | "max-length";

/** A checked command line; null where the default depends on the model. */
export interface FinetuneOptions {
  /** Null: the built-in reviews. */
  readonly data: string | null;
  /** Files that take the place of parts of the data; null: what the data has, or a share of it. */
  readonly validationData: string | null;
  readonly testData: string | null;
  /** Shares of the training rows that become a part for which there is no file. */
  readonly validationShare: number;
  readonly testShare: number;
  readonly badRows: BadRowPolicy;
  /** Directory of kept token ids; null: the default one, false: none. */
  readonly cache: string | null | false;
  /** Threads that tokenize; null: as many as are worth it. */
  readonly workers: number | null;
  readonly textColumn: string;
  readonly labelColumn: string;
  /** A directory in Hugging Face's layout, or a name on the hub; null: the built-in small one. */
  readonly model: string | null;
  /** Of a model on the hub: a branch, tag or commit; null for the main branch. */
  readonly revision: string | null;
  /** Whether the built-in model has DistilBERT's full size, and the built-in texts its length. */
  readonly full: boolean;
  /** What to run: one mode, or with `--compare` null for all of them. */
  readonly mode: Mode | null;
  readonly epochs: number;
  /** Steps that take the place of the epochs; null: none do. */
  readonly steps: number | null;
  readonly batchSize: number;
  /** Batches in a step. */
  readonly accumulate: number;
  /** Largest norm of the gradients; null: any. */
  readonly clipNorm: number | null;
  readonly schedule: "linear" | "cosine";
  /** Steps between evaluations; null: after each epoch only. */
  readonly evalEvery: number | null;
  /** Evaluations without a better one that end a run; null: none do. */
  readonly patience: number | null;
  readonly learningRate: number;
  readonly maxLength: number | null;
  readonly padding: Padding;
  readonly seed: number;
  readonly device: Device | "auto";
  readonly threads: number | null;
  /** Null: nothing is written. */
  readonly out: string | null;
  /** Steps after which a checkpoint is written; null: only when the run is stopped. */
  readonly checkpointEvery: number | null;
  /** The `--out` of a run to go on with, whose options hold; null: a new run. */
  readonly resume: string | null;
}

/** Options that go with `--resume`: they change nothing about what a run gives. */
const WITH_RESUME = ["resume", "device", "threads", "workers", "cache", "checkpointEvery"];

/** The options of a run that is gone on with: its own, and those that may be others. */
export function resumedOptions(own: FinetuneOptions, given: FinetuneOptions): FinetuneOptions {
  return {
    ...own,
    device: given.device === "auto" ? own.device : given.device,
    threads: given.threads ?? own.threads,
    workers: given.workers ?? own.workers,
    cache: given.cache ?? own.cache,
    checkpointEvery: given.checkpointEvery ?? own.checkpointEvery,
    out: given.resume,
    resume: given.resume,
  };
}

/** Where a comparison writes to without `--out`. */
export const REPORT_DIRECTORY = "mixprec-report";

/** What goes with the models: a small new one, a new one of full size, and a trained one. */
const DEFAULTS = {
  builtin: { learningRate: 1e-3, batchSize: 16, padding: "longest" },
  full: { learningRate: 1e-4, batchSize: 12, padding: "max-length" },
  pretrained: { learningRate: 5e-5, batchSize: 16, padding: "longest" },
} as const satisfies Record<string, { learningRate: number; batchSize: number; padding: Padding }>;

interface RawOptions {
  data?: string;
  validationData?: string;
  testData?: string;
  validationShare: number;
  testShare: number;
  badRows: BadRowPolicy;
  cache?: string | false;
  workers?: number;
  textColumn: string;
  labelColumn: string;
  model?: string;
  revision?: string;
  full?: true;
  precision?: string;
  matmulPrecision?: string;
  epochs: number;
  steps?: number;
  accumulate: number;
  clipNorm?: number;
  schedule: "linear" | "cosine";
  evalEvery?: number;
  patience?: number;
  batchSize?: number;
  lr?: number;
  maxLength?: number;
  padding?: Padding;
  seed: number;
  device: string;
  threads?: number;
  compare?: true;
  out?: string;
  checkpointEvery?: number;
  resume?: string;
}

const HELP = `
Exit code: 0 after success, 1 after a failure or a run that diverged (a comparison reports it and
goes on), 2 for a wrong command line, 130 after Ctrl-C.

With --out, a single run writes config.json, model.safetensors, tokenizer.json and results.json, and
a comparison results.json, comparison.svg and loss.svg. Files of these names are replaced when all
is done, others stay. A single run that is stopped leaves checkpoint.safetensors, with which --resume
goes on.`;

/** Declares the options on a command. */
export function declareOptions(command: Command): Command {
  const { builtin, full, pretrained } = DEFAULTS;
  return command
    .option(
      "--data <path>",
      "labelled texts: .csv, .tsv, .jsonl, .parquet, or a directory of them or of classes" +
        " (default: the built-in reviews)",
    )
    .option("--validation-data <path>", "texts that validate (default: what the data has)")
    .option("--test-data <path>", "texts that test (default: what the data has)")
    .option("--validation-share <share>", "taken from the others where there are none", share, 0.1)
    .option("--test-share <share>", "taken from the others where there are none", share, 0.3)
    .addOption(
      new Option("--bad-rows <what>", "end at a row of no use, or leave it out and say so")
        .choices(["fail", "skip"])
        .default("fail"),
    )
    .option("--cache <dir>", "where token ids of --data are kept (default: the user's cache)")
    .option("--no-cache", "keep no token ids")
    .option(
      "--workers <n>",
      "threads that tokenize (default: by the size of the data)",
      wholeNumber({ least: 0, most: 256 }),
    )
    .option("--text-column <name>", "column of the texts", "text")
    .option("--label-column <name>", "column of the labels: 0, 1, … or names", "label")
    .option(
      "--model <dir-or-repo>",
      "DistilBERT, BERT or RoBERTa to start from: a directory with config.json, model.safetensors" +
        " and tokenizer.json, or a name on the hub" +
        " (default: a small new one, its vocabulary trained from the data)",
    )
    .option("--revision <name>", "branch, tag or commit of a model on the hub (default: main)")
    .option(
      "--full",
      "the new model in DistilBERT's full size, 66 million parameters, on texts of 512 tokens:" +
        " for a GPU, on a CPU it takes hours",
    )
    .option(
      "--precision <mode>",
      "32-true, 16-mixed, bf16-mixed, 16-true, bf16-true or 64-true (default: 32-true)",
    )
    .option(
      "--matmul-precision <precision>",
      "of float32 products: highest, high or medium (default: highest)",
    )
    .option(
      "--epochs <n>",
      "passes over the training texts",
      wholeNumber({ least: 1, most: 10_000 }),
      3,
    )
    .option("--steps <n>", "updates of the weights, instead of --epochs", wholeNumber({ least: 1 }))
    .option(
      "--batch-size <n>",
      `texts in a batch (default: ${builtin.batchSize}, with --full ${full.batchSize})`,
      wholeNumber({ least: 1, most: 65_536 }),
    )
    .option(
      "--accumulate <n>",
      "batches whose gradients are added up for one step",
      wholeNumber({ least: 1, most: 65_536 }),
      1,
    )
    .option("--clip-norm <norm>", "scale gradients down to this norm", positiveNumber)
    .addOption(
      new Option("--schedule <shape>", "how the learning rate decays")
        .choices(["linear", "cosine"])
        .default("linear"),
    )
    .option(
      "--eval-every <n>",
      "steps after which to validate, besides after each epoch; the best weights are kept",
      wholeNumber({ least: 1 }),
    )
    .option(
      "--patience <n>",
      "validations without a better one after which a run ends; the best weights are kept",
      wholeNumber({ least: 1 }),
    )
    .option(
      "--lr <rate>",
      "AdamW's learning rate, reached after a tenth of the steps and decaying to 0" +
        ` (default: ${builtin.learningRate}, with --full ${full.learningRate},` +
        ` with --model ${pretrained.learningRate})`,
      positiveNumber,
    )
    .option(
      "--max-length <n>",
      "tokens of a text at most, special ones included (default: 64, with --full 512, with" +
        " --model 128 or what the model takes)",
      wholeNumber({ least: 3, most: 65_536 }),
    )
    .addOption(
      new Option(
        "--padding <length>",
        "pad a batch to its longest text or to --max-length" +
          ` (default: ${builtin.padding}, with --full ${full.padding})`,
      ).choices(["longest", "max-length"]),
    )
    .option("--seed <n>", "decides weights, order, split and dropout", wholeNumber({ least: 0 }), 1)
    .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
    .option(
      "--threads <n>",
      "threads of the CPU; results do not depend on it",
      wholeNumber({ least: 1, most: 1024 }),
    )
    .option("--compare", "run every precision from the same seed and compare them")
    .option("--out <dir>", `where to save (default: nowhere, with --compare ./${REPORT_DIRECTORY})`)
    .option(
      "--checkpoint-every <n>",
      "steps after which the state of the run is saved to --out (default: when it is stopped)",
      wholeNumber({ least: 1 }),
    )
    .option("--resume <dir>", "go on with the run that was stopped, whose --out this was")
    .addHelpText("after", HELP);
}

/** A precision that does not exist is a mistake in the command line. */
function modeOfOptions(precision = "32-true", matmulPrecision = "highest"): Mode {
  try {
    return modeOf(precision, matmulPrecision);
  } catch (cause) {
    if (cause instanceof MixprecError) throw new UsageError(`--${cause.message}`, cause);
    throw cause;
  }
}

function checkName(option: string, value: string | undefined): void {
  if (value?.trim() === "") throw new UsageError(`${option}: expected a name, got an empty one`);
}

/**
 * What the declared options were parsed to, checked as a whole.
 * @param named the keys of those that stood on the command line.
 * @throws UsageError for a value that does not exist or options that exclude each other.
 */
export function checkOptions(raw: RawOptions, named: readonly string[] = []): FinetuneOptions {
  checkName("--resume", raw.resume);
  const other = named.find((key) => !WITH_RESUME.includes(key));
  if (raw.resume !== undefined && other !== undefined) {
    const option = `--${other.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw new UsageError(`${option}: does not go with --resume, where the run's own options hold`);
  }
  checkName("--data", raw.data);
  checkName("--validation-data", raw.validationData);
  checkName("--test-data", raw.testData);
  if (typeof raw.cache === "string") checkName("--cache", raw.cache);
  checkName("--model", raw.model);
  checkName("--revision", raw.revision);
  if (raw.revision !== undefined && raw.model === undefined) {
    throw new UsageError("--revision: goes with --model, and there is none");
  }
  checkName("--out", raw.out);
  checkName("--text-column", raw.textColumn);
  checkName("--label-column", raw.labelColumn);
  if (raw.textColumn === raw.labelColumn) {
    throw new UsageError(
      `--text-column, --label-column: expected different columns, got "${raw.textColumn}" twice`,
    );
  }
  if (raw.validationShare + raw.testShare >= 1) {
    throw new UsageError(
      "--validation-share, --test-share: expected less than 1 together, got " +
        `${raw.validationShare} and ${raw.testShare}`,
    );
  }
  const compare = raw.compare === true;
  for (const [option, value] of [
    ["--precision", raw.precision],
    ["--matmul-precision", raw.matmulPrecision],
  ] as const) {
    if (compare && value !== undefined) {
      throw new UsageError(`${option}: does not go with --compare, which runs every precision`);
    }
  }
  if (raw.checkpointEvery !== undefined && compare) {
    throw new UsageError("--checkpoint-every: does not go with --compare, which is done anew");
  }
  if (raw.checkpointEvery !== undefined && (raw.out ?? raw.resume) === undefined) {
    throw new UsageError("--checkpoint-every: saves to --out, and there is none");
  }
  if (raw.steps !== undefined && named.includes("epochs")) {
    throw new UsageError("--steps: does not go with --epochs, whose place it takes");
  }
  if (!/^(auto|cpu|cuda(:\d{1,3})?)$/.test(raw.device)) {
    throw new UsageError(`--device: expected auto, cpu, cuda or cuda:N, got "${raw.device}"`);
  }
  if (raw.full === true && raw.model !== undefined) {
    throw new UsageError("--full: does not go with --model, which has a size of its own");
  }
  const usual =
    DEFAULTS[raw.full === true ? "full" : raw.model === undefined ? "builtin" : "pretrained"];
  return {
    data: raw.data ?? null,
    validationData: raw.validationData ?? null,
    testData: raw.testData ?? null,
    validationShare: raw.validationShare,
    testShare: raw.testShare,
    badRows: raw.badRows,
    cache: raw.cache === false ? false : (raw.cache ?? null),
    workers: raw.workers ?? null,
    textColumn: raw.textColumn,
    labelColumn: raw.labelColumn,
    model: raw.model ?? null,
    revision: raw.revision ?? null,
    full: raw.full === true,
    mode: compare ? null : modeOfOptions(raw.precision, raw.matmulPrecision),
    epochs: raw.epochs,
    steps: raw.steps ?? null,
    accumulate: raw.accumulate,
    clipNorm: raw.clipNorm ?? null,
    schedule: raw.schedule,
    evalEvery: raw.evalEvery ?? null,
    patience: raw.patience ?? null,
    batchSize: raw.batchSize ?? usual.batchSize,
    learningRate: raw.lr ?? usual.learningRate,
    maxLength: raw.maxLength ?? null,
    padding: raw.padding ?? usual.padding,
    seed: raw.seed,
    device: raw.device as Device | "auto",
    threads: raw.threads ?? null,
    out: raw.out ?? (compare ? REPORT_DIRECTORY : null),
    checkpointEvery: raw.checkpointEvery ?? null,
    resume: raw.resume ?? null,
  };
}
