// `mixprec finetune`: one run, or with --compare one at every precision.

import { cuda } from "../../core/memory.js";
import { setNumThreads } from "../../native.js";
import { describeBadRows, type EncodedDataset } from "../../data/index.js";
import type { Device } from "../../dtype.js";
import { CheckpointError } from "../../errors.js";
import { resolveDevice } from "../device.js";
import { readEnvironment } from "../environment.js";
import { classificationTable, comparisonTable } from "../table.js";
import { writeLine, type Terminal } from "../terminal.js";
import { EXIT, InterruptedError } from "../usage.js";
import { fingerprintOf, openRun, removeRun, saveRun, type SavedRun } from "./checkpoint.js";
import {
  encodeData,
  fromHub,
  openData,
  samplesOf,
  trainingTextsOf,
  type EncodedData,
} from "./dataset.js";
import { createDownloadProgress } from "./download-progress.js";
import { findModel, planModel, planTokenizer, type ModelPlan } from "./model.js";
import { COMPARED_MODES, type Mode } from "./modes.js";
import { resumedOptions, type FinetuneOptions } from "./options.js";
import { createProgress, runLine } from "./progress.js";
import { checkOutput, writeCharts, writeModel, writeReport, type Report } from "./report.js";
import type { RunResult } from "./result.js";
import { train, type TrainedRun, type TrainOptions } from "./train.js";

/** All that is the same for every run. */
interface Job {
  readonly options: FinetuneOptions;
  readonly device: Device;
  /** What the report calls the data. */
  readonly source: string;
  readonly texts: EncodedDataset;
  readonly plan: ModelPlan;
  readonly data: EncodedData;
  /** The run to go on with. */
  readonly saved: SavedRun | null;
  readonly terminal: Terminal;
  readonly signal: AbortSignal | undefined;
}

/** @throws CheckpointError where the data is not that of the run to go on with. */
function checkData(saved: SavedRun, data: EncodedData, classes: readonly string[]): void {
  if (fingerprintOf(data, classes) === saved.data) return;
  throw new CheckpointError(
    `finetune: ${saved.file}: the data of this run, ${saved.options.data ?? "built-in"}, or its ` +
      "tokenizer changed since; expected the same texts",
    { op: "finetune" },
  );
}

async function prepare(
  given: FinetuneOptions,
  terminal: Terminal,
  signal: AbortSignal | undefined,
): Promise<Job> {
  const saved = given.resume === null ? null : await openRun(given.resume);
  const options = saved === null ? given : resumedOptions(saved.options, given);
  const device = resolveDevice(options.device);
  if (options.threads !== null) setNumThreads(options.threads);
  const onProgress = createDownloadProgress(terminal.stdout);
  const found = await findModel(options, onProgress, signal);
  const source = await openData(options, signal, fromHub(onProgress, signal));
  const tokenizer = await planTokenizer(options, found, () => trainingTextsOf(source));
  const texts = await encodeData(source, tokenizer, found?.classes.names ?? null, found !== null);
  const plan = await planModel(options, found, tokenizer, texts.labelNames, device);
  const { maxLength, encoder } = plan;
  const join = options.full && options.data === null;
  const data = samplesOf(texts, { maxLength, vocabSize: encoder.vocabSize, join });
  if (saved !== null) checkData(saved, data, texts.labelNames);
  // Last, so that a command that fails leaves no directory behind.
  if (options.out !== null) await checkOutput(options.out, options.model);
  return { options, device, source: source.source, texts, plan, data, saved, terminal, signal };
}

function describeJob(job: Job): void {
  const { options, device, source, texts, plan, data, saved, terminal } = job;
  const { stdout } = terminal;
  const { encoder, maxLength, tokenizer } = plan;
  const { isa, threads } = readEnvironment();
  const sizes = [data.train, data.validation, data.test].map(({ length }) => length);
  const [train, validation, test] = sizes as [number, number, number];
  const cut = data.truncated > 0 ? `, ${data.truncated} cut off` : "";
  writeLine(
    stdout,
    `data    ${source}: ${texts.labelNames.length} classes, ${train} texts to ` +
      `train, ${validation} to validate, ${test} to test; up to ${maxLength} tokens${cut}`,
  );
  const { badRows } = texts;
  if (badRows.count > 0) {
    const rows = badRows.count === 1 ? "1 row of no use is" : `${badRows.count} rows of no use are`;
    writeLine(stdout, `        ${rows} left out:`);
    for (const line of describeBadRows(badRows)) writeLine(stdout, `          ${line}`);
  }
  writeLine(
    stdout,
    `model   ${plan.source}: ${encoder.name}, ${plan.parameters.toLocaleString("en")} ` +
      `parameters, ${encoder.layers} layers of width ${encoder.width}, ` +
      `${tokenizer.vocabSize} tokens`,
  );
  for (const note of plan.notes) writeLine(stdout, `        ${note}`);
  if (plan.replacedHead !== null) {
    writeLine(
      stdout,
      `        its head of ${plan.replacedHead} classes is drawn anew for ${plan.config.numLabels}`,
    );
  }
  const { steps, accumulate, clipNorm, schedule } = options;
  const howLong = steps === null ? `${options.epochs} epochs` : `${steps} steps`;
  const more =
    (accumulate > 1 ? `, ${accumulate} of them a step` : "") +
    (clipNorm === null ? "" : `, gradients clipped to ${clipNorm}`) +
    (schedule === "linear" ? "" : `, ${schedule} schedule`);
  writeLine(
    stdout,
    `train   ${howLong}, batches of ${options.batchSize}${more}, AdamW at ` +
      `${options.learningRate}, seed ${options.seed}`,
  );
  const where =
    device === "cpu"
      ? `cpu (${isa}, ${threads} threads)`
      : `${device} (${cuda.deviceProperties(device).name})`;
  writeLine(stdout, `device  ${where}`);
  if (saved === null) return;
  writeLine(stdout, `resume  ${saved.file}, after step ${saved.state.record.losses.length}`);
}

/** Keeps the state of a single run in its directory. */
function saverOf({ options, texts, data }: Job): TrainOptions["save"] {
  const { mode, out } = options;
  if (mode === null || out === null) return undefined;
  const fingerprint = fingerprintOf(data, texts.labelNames);
  return (state) => saveRun(out, { options, data: fingerprint, state });
}

/** Runs one mode and says how it went. */
async function runMode(mode: Mode, job: Job): Promise<TrainedRun> {
  const { options, device, texts, plan, data, saved, terminal, signal } = job;
  const { stdout } = terminal;
  writeLine(stdout);
  writeLine(stdout, mode.name);
  const progress = createProgress(stdout, mode.name);
  const trained = await train(
    mode,
    data,
    {
      ...options,
      maxLength: plan.maxLength,
      classes: texts.labelNames,
      padId: plan.encoder.padTokenId,
      device,
      createModel: plan.create,
      signal,
      save: saverOf(job),
      resume: saved?.state,
    },
    progress,
  );
  writeLine(stdout, runLine(trained.result));
  for (const finding of trained.result.diverged?.findings ?? [])
    writeLine(stdout, `    ${finding}`);
  return trained;
}

function reportOf(job: Job, runs: readonly RunResult[], complete: boolean): Report {
  const { options, device, source, texts, plan, data } = job;
  const { epochs, steps, batchSize, accumulate, clipNorm, schedule, learningRate } = options;
  const { evalEvery, patience, padding, seed } = options;
  return {
    format: "mixprec-finetune-1",
    created: new Date().toISOString(),
    complete,
    environment: readEnvironment(),
    device,
    data: {
      source,
      classes: texts.labelNames,
      train: data.train.length,
      validation: data.validation.length,
      test: data.test.length,
      truncated: data.truncated,
      badRows: texts.badRows.count,
    },
    model: { source: plan.source, parameters: plan.parameters, config: plan.config },
    options: {
      epochs: steps === null ? epochs : null,
      steps,
      batchSize,
      accumulate,
      clipNorm,
      schedule,
      evalEvery,
      patience,
      learningRate,
      maxLength: plan.maxLength,
      padding,
      seed,
    },
    runs,
  };
}

function saySaved(job: Job, directory: string, names: readonly string[]): void {
  writeLine(job.terminal.stdout, `saved to ${directory}: ${names.join(", ")}`);
}

/** A directory as it is typed into a shell. */
function quoted(directory: string): string {
  return /^[\w./~:-]+$/.test(directory) ? directory : `'${directory.replaceAll("'", "'\\''")}'`;
}

async function runOne(mode: Mode, job: Job): Promise<number> {
  const { out } = job.options;
  const { result, model } = await runMode(mode, job).catch((error: unknown) => {
    if (!(error instanceof InterruptedError) || out === null) throw error;
    throw new InterruptedError(`go on with: mixprec finetune --resume ${quoted(out)}`);
  });
  const { stdout } = job.terminal;
  try {
    if (result.test !== null) {
      writeLine(stdout);
      for (const line of classificationTable(result.test).split("\n"))
        writeLine(stdout, `  ${line}`);
    }
    if (out !== null) {
      // Weights that are not finite are of no use, and would replace some that may be.
      const saved =
        result.diverged === null ? await writeModel(out, model, job.plan.tokenizer) : [];
      saved.push(...(await writeReport(out, reportOf(job, [result], true))));
      await removeRun(out);
      writeLine(stdout);
      saySaved(job, out, saved);
    }
  } finally {
    model.dispose();
  }
  return result.diverged === null ? EXIT.ok : EXIT.failure;
}

/** Runs every mode from the same seed; what is done when it is stopped or fails is kept. */
async function runAll(job: Job): Promise<number> {
  const { stdout } = job.terminal;
  const out = job.options.out!;
  const results: RunResult[] = [];
  const showTable = (): void => {
    writeLine(stdout);
    for (const line of comparisonTable(results).split("\n")) writeLine(stdout, line);
    writeLine(stdout);
  };
  try {
    for (const mode of COMPARED_MODES) {
      const { result, model } = await runMode(mode, job);
      model.dispose();
      results.push(result);
    }
  } catch (error) {
    if (results.length > 0) {
      showTable();
      saySaved(job, out, await writeReport(out, reportOf(job, results, false)));
    }
    throw error;
  }
  showTable();
  const charts = await writeCharts(out, results);
  saySaved(job, out, [...(await writeReport(out, reportOf(job, results, true))), ...charts]);
  return EXIT.ok;
}

/** Aborts at Ctrl-C, which ends the run between two steps; a second one ends the process at once. */
function abortOnSignals(terminal: Terminal): { signal: AbortSignal; restore: () => void } {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) {
      if (terminal.stdout.isTTY === true) terminal.stdout.write("\x1b[?25h\n");
      process.exit(EXIT.interrupted);
    }
    controller.abort(new InterruptedError());
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return {
    signal: controller.signal,
    restore: () => {
      process.off("SIGINT", onSignal);
      process.off("SIGTERM", onSignal);
    },
  };
}

/**
 * Runs the command.
 * @returns the exit code.
 * @throws UsageError, DataError, DeviceError, CheckpointError … before anything was written, and
 * InterruptedError.
 */
export async function finetune(options: FinetuneOptions, terminal: Terminal): Promise<number> {
  const { signal, restore } = abortOnSignals(terminal);
  try {
    const job = await prepare(options, terminal, signal);
    describeJob(job);
    // Not the given ones: those of the run that is gone on with hold.
    const { mode } = job.options;
    return await (mode === null ? runAll(job) : runOne(mode, job));
  } finally {
    restore();
  }
}
