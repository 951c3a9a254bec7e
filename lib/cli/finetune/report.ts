// What a command leaves in --out: results.json, charts, the model. Written when all is known, each
// file as a whole, so that what stood there before is replaced by something complete or not at all.

import { constants } from "node:fs";
import { access, mkdir, realpath, rm, stat } from "node:fs/promises";
import path from "node:path";

import { writeFileAtomic } from "../../io/atomic-write.js";
import type { ClassifierConfig, SequenceClassifier } from "../../models/index.js";
import type { TextTokenizer } from "../../data/index.js";
import { comparisonCharts } from "../charts.js";
import type { Environment } from "../environment.js";
import { UsageError } from "../usage.js";
import type { RunResult } from "./result.js";

/** The content of results.json. A number that is not finite is null there. */
export interface Report {
  readonly format: "mixprec-finetune-1";
  /** ISO 8601. */
  readonly created: string;
  /** False where a comparison was stopped before its last run. */
  readonly complete: boolean;
  readonly environment: Environment;
  readonly device: string;
  readonly data: {
    readonly source: string;
    readonly classes: readonly string[];
    readonly train: number;
    readonly validation: number;
    readonly test: number;
    /** Texts that were longer than `maxLength`. */
    readonly truncated: number;
    /** Rows that were left out because nothing could be made of them. */
    readonly badRows: number;
  };
  readonly model: {
    readonly source: string;
    readonly parameters: number;
    readonly config: Readonly<ClassifierConfig>;
  };
  readonly options: {
    /** Null where `steps` took their place, and the other way round. */
    readonly epochs: number | null;
    readonly steps: number | null;
    readonly batchSize: number;
    readonly accumulate: number;
    readonly clipNorm: number | null;
    readonly schedule: string;
    readonly evalEvery: number | null;
    readonly patience: number | null;
    readonly learningRate: number;
    readonly maxLength: number;
    readonly padding: string;
    readonly seed: number;
  };
  readonly runs: readonly RunResult[];
}

/** Results of a comparison that was stopped. */
export const PARTIAL_RESULTS = "results.partial.json";

/**
 * Makes sure before a run that its results can be written; changes no file.
 * @throws UsageError where the directory is a file, cannot be written, or holds the model to start
 * from.
 */
export async function checkOutput(directory: string, model: string | null): Promise<void> {
  const found = await stat(directory).catch(() => null);
  if (found !== null && !found.isDirectory()) {
    throw new UsageError(`--out ${directory}: expected a directory, got a file`);
  }
  try {
    await mkdir(directory, { recursive: true });
    await access(directory, constants.W_OK);
  } catch (cause) {
    throw new UsageError(
      `--out ${directory}: cannot be written: ${(cause as NodeJS.ErrnoException).message}`,
      cause,
    );
  }
  if (model === null) return;
  const [target, source] = await Promise.all(
    [directory, model].map((name) => realpath(name).catch(() => null)),
  );
  if (target !== null && target === source) {
    throw new UsageError(
      `--out ${directory}: holds the model to start from, which would be replaced; choose another`,
    );
  }
}

const toJson = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** Lists of numbers on one line each: a loss per line makes thousands of them. */
function compact(json: string): string {
  return json.replace(/\[\s+(?:-?[\d.e+-]+|null)(?:,\s+(?:-?[\d.e+-]+|null))*\s+\]/g, (list) =>
    list.replace(/\s+/g, " ").replace("[ ", "[").replace(" ]", "]"),
  );
}

/** Writes results.json, or under another name those of a comparison that was stopped. */
export async function writeReport(directory: string, report: Report): Promise<string[]> {
  const name = report.complete ? "results.json" : PARTIAL_RESULTS;
  await writeFileAtomic(path.join(directory, name), compact(toJson(report)));
  if (report.complete) await rm(path.join(directory, PARTIAL_RESULTS), { force: true });
  return [name];
}

/** Writes the charts of a comparison. */
export async function writeCharts(
  directory: string,
  runs: readonly RunResult[],
): Promise<string[]> {
  const charts = comparisonCharts(runs);
  for (const [name, svg] of Object.entries(charts)) {
    await writeFileAtomic(path.join(directory, name), svg);
  }
  return Object.keys(charts);
}

/** Writes a model, with the names of its classes, and its tokenizer. */
export function writeModel(
  directory: string,
  model: SequenceClassifier,
  tokenizer: TextTokenizer,
): Promise<string[]> {
  return model.savePretrained(directory, { tokenizer });
}
