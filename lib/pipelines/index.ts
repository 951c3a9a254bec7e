// A trained model with everything around it, from texts to answers.

export { pipeline } from "./pipeline.js";
export type { PipelineTask } from "./pipeline.js";
export type {
  Classification,
  ClassifyOptions,
  ScoreFunction,
  TextClassificationOptions,
  TextClassificationPipeline,
} from "./text-classification.js";
