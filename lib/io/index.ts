// Files of tensors: safetensors and checkpoints.

export {
  inspectSafetensors,
  loadSafetensors,
  readSafetensorsInto,
  saveSafetensors,
} from "./safetensors.js";
export type {
  LoadSafetensorsOptions,
  NamedTensors,
  SafetensorsSummary,
  SaveSafetensorsOptions,
} from "./safetensors.js";
export { loadCheckpoint, saveCheckpoint } from "./checkpoint.js";
export type { CheckpointValue, Stateful } from "./checkpoint.js";
export { shardsOf } from "./sharded.js";
export { writeFileAtomic } from "./atomic-write.js";
export { HUB_OPTIONS, isRepoName, openRepo, type HubOptions } from "./hub/index.js";
