// The training loop's helpers, under their public names.

export { parsePrecision, PRECISIONS, precisionMode } from "./precision.js";
export type { PrecisionInput, PrecisionMode, PrecisionName } from "./precision.js";
