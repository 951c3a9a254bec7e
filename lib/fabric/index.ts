// The training loop's helpers, under their public names.

export { Fabric } from "./fabric.js";
export type { ClipOptions, FabricBackwardOptions, FabricOptions, SetupOptions } from "./options.js";
export type { FabricModule } from "./module.js";
export type { FabricOptimizer } from "./optimizer.js";
export { FABRIC_STATE } from "./state.js";
export type { StateFilter } from "./state.js";
export { CSVLogger } from "./loggers.js";
export type { CSVLoggerOptions, Logger } from "./loggers.js";
export { seedEverything } from "./seed.js";
export { parsePrecision, PRECISIONS, precisionMode } from "./precision.js";
export type { PrecisionInput, PrecisionMode, PrecisionName } from "./precision.js";
export type { Watch, WatchOptions } from "./watch.js";
export { formatWatchReport } from "./watch-report.js";
export type { LayerHealth, TensorHealth, WatchReport } from "./watch-report.js";
