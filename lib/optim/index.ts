// Optimizers, schedules of the learning rate, clipping of gradients.

export { Optimizer } from "./optimizer.js";
export type { StepOutcome, ZeroGradOptions } from "./optimizer.js";
export type { NamedParameter, ParamGroup, ParamGroupInput, Params } from "./param-group.js";
export type { OptimizerStateDict, ParameterState } from "./state-dict.js";
export { Adam, AdamW } from "./adam.js";
export type { AdamGroup, AdamOptions } from "./adam.js";
export { SGD } from "./sgd.js";
export type { SGDGroup, SGDOptions } from "./sgd.js";
export { clipGradNorm, clipGradValue } from "./clip-grad.js";
export type { ClipGradNormOptions } from "./clip-grad.js";
export { LRScheduler } from "./lr-scheduler.js";
export type { LRSchedulerState, ScheduledOptimizer, ScheduleOptions } from "./lr-scheduler.js";
export * as lrScheduler from "./schedules.js";
