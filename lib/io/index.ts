// Files of tensors: safetensors and checkpoints.

export { inspectSafetensors, loadSafetensors, saveSafetensors } from "./safetensors.js";
export type {
  LoadSafetensorsOptions,
  NamedTensors,
  SafetensorsSummary,
  SaveSafetensorsOptions,
} from "./safetensors.js";
export { loadCheckpoint, saveCheckpoint } from "./checkpoint.js";
export type { CheckpointValue, Stateful } from "./checkpoint.js";
export { writeFileAtomic } from "./atomic-write.js";
