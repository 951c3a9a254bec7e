// Data and options that make a whole run a matter of a second.

import { writeFile } from "node:fs/promises";
import path from "node:path";

import { builtin, generateReviews, toCsv } from "../../scripts/generate-reviews.mjs";

import { TEST_DEVICE } from "../helpers/devices.js";

/** Writes `count` reviews as CSV and returns the file's name. */
export async function writeReviews(directory: string, count = 100): Promise<string> {
  const file = path.join(directory, `reviews-${count}.csv`);
  await writeFile(file, toCsv(generateReviews({ ...builtin, count })));
  return file;
}

/** Options of a run of `epochs` epochs of few, short batches. */
export const tinyRun = (data: string, ...more: string[]): string[] => [
  "finetune",
  ...["--data", data, "--epochs", "1", "--batch-size", "8", "--max-length", "24", "--threads", "1"],
  ...["--device", TEST_DEVICE],
  ...more,
];
