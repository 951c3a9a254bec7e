// Autocast and loss scaling, under their public names.

export { autocast, getAutocastDtype, isAutocastEnabled } from "./autocast.js";
export type { AutocastOptions } from "./autocast.js";
export { GradScaler } from "./grad-scaler.js";
export type { ScalerStage } from "./grad-scaler.js";
export type { ScalableOptimizer } from "./optimizer-gradients.js";
export type {
  GradScalerOptions,
  GradScalerState,
  RepeatedSkips,
  SkipAlarm,
} from "./scaler-options.js";
export { unscaledStep } from "./step-result.js";
export type { StepResult } from "./step-result.js";
