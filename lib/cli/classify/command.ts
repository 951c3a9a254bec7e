// `mixprec classify`: sorts texts into classes with a trained model and writes a line for each.

import { BadRows, describeBadRows } from "../../data/index.js";
import { setNumThreads } from "../../native.js";
import { pipeline, type Classification } from "../../pipelines/index.js";
import { resolveDevice } from "../device.js";
import { createDownloadProgress } from "../finetune/download-progress.js";
import { writeLine, type Terminal } from "../terminal.js";
import type { ClassifyCommandOptions } from "./options.js";
import { readTexts, type PlacedText } from "./texts.js";

/** Batches that are read and answered together, so that texts of about one length share one. */
const BATCHES_AT_ONCE = 16;

/** A text on one line. */
const onOneLine = (text: string): string => text.replace(/\s+/g, " ").trim();

/** A line for people, cut to the width of the terminal where there is one. */
export function resultLine(
  text: string,
  classes: readonly Classification[],
  columns: number | undefined,
): string {
  const answers = classes
    .map(({ label, score }) => `${onOneLine(label)} ${score.toFixed(3)}`)
    .join(", ");
  const line = [...`${answers}  ${onOneLine(text)}`];
  if (columns === undefined || line.length <= columns) return line.join("");
  return `${line.slice(0, Math.max(columns - 1, answers.length)).join("")}…`;
}

function jsonLine({ text, at }: PlacedText, classes: readonly Classification[]): string {
  const json = JSON.stringify({ ...(at === null ? {} : { at }), text, classes });
  // JSON leaves these control characters as they are, and a terminal may take them for commands.
  return json.replace(/[\x7f-\x9f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

async function* inGroups<T>(
  items: Iterable<T> | AsyncIterable<T>,
  size: number,
): AsyncGenerator<T[], void> {
  let group: T[] = [];
  for await (const item of items) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/**
 * Runs the command. Answers are written as they are found, in the order of the texts; notices go to
 * standard error.
 * @throws CheckpointError, DataError, DeviceError, HubError …
 */
export async function classify(options: ClassifyCommandOptions, terminal: Terminal): Promise<void> {
  const { stdout, stderr } = terminal;
  const { batchSize, precision, textColumn, badRows, topK } = options;
  const device = resolveDevice(options.device);
  if (options.threads !== null) setNumThreads(options.threads);
  const classifier = await pipeline("text-classification", options.model, {
    precision,
    device,
    batchSize,
    maxLength: options.maxLength ?? undefined,
    revision: options.revision ?? undefined,
    onProgress: createDownloadProgress(stderr),
  });
  try {
    const notice = classifier.model.loadReport?.notice ?? null;
    if (notice !== null) writeLine(stderr, notice);
    const bad = new BadRows();
    const texts: Iterable<PlacedText> | AsyncIterable<PlacedText> =
      options.file === null
        ? (options.texts ?? []).map((text) => ({ text, at: null }))
        : readTexts(options.file, { textColumn, badRows, bad });
    const columns = stdout.isTTY === true ? stdout.columns : undefined;
    for await (const group of inGroups(texts, batchSize * BATCHES_AT_ONCE)) {
      const answers = await classifier(
        group.map(({ text }) => text),
        { topK },
      );
      answers.forEach((classes, i) => {
        const placed = group[i]!;
        if (options.json) stdout.write(`${jsonLine(placed, classes)}\n`);
        else writeLine(stdout, resultLine(placed.text, classes, columns));
      });
    }
    if (bad.count > 0) {
      writeLine(stderr, `${bad.count} bad ${bad.count === 1 ? "row" : "rows"} left out:`);
      for (const line of describeBadRows(bad)) writeLine(stderr, `  ${line}`);
    }
  } finally {
    classifier.dispose();
  }
}
