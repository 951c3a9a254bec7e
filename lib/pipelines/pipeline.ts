// The one function that makes a pipeline of any task.

import { ArgumentError, describe } from "../errors.js";
import {
  loadTextClassification,
  type TextClassificationOptions,
  type TextClassificationPipeline,
} from "./text-classification.js";

/** The tasks that there are pipelines for; both names mean the same. */
export type PipelineTask = "text-classification" | "sentiment-analysis";

const TASKS: readonly unknown[] = [
  "text-classification",
  "sentiment-analysis",
] satisfies PipelineTask[];

/**
 * A model with its tokenizer, loaded once and ready to be called with texts; computes in bfloat16
 * unless `precision` says otherwise.
 *
 *     const classify = await pipeline("text-classification", "my-model");
 *     const [best] = await classify("The food was great."); // { label: "positive", score: 0.98 }
 *     classify.dispose();
 *
 * @param dirOrRepo a directory as `saveAs` or `mixprec finetune --out` write it, or a repository
 * @throws ArgumentError for a task or option that does not exist, CheckpointError where the model
 * is missing, broken or has no trained head, DataError where its tokenizer is, HubError where the
 * hub refuses, DeviceError for a device that is not there.
 */
export function pipeline(
  task: PipelineTask,
  dirOrRepo: string,
  options: TextClassificationOptions = {},
): Promise<TextClassificationPipeline> {
  if (TASKS.includes(task)) return loadTextClassification(dirOrRepo, options);
  const names = TASKS.map((name) => describe(name)).join(" or ");
  return Promise.reject(
    new ArgumentError(`pipeline: task — expected ${names}, got ${describe(task)}`, {
      op: "pipeline",
    }),
  );
}
