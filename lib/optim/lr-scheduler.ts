// Schedules of the learning rate, stepped once per update of the weights: the bookkeeping. The
// formulas are in schedules.ts.

import { ArgumentError, CheckpointError, describe } from "../errors.js";
import { checkFunction } from "../core/context.js";
import type { Optimizer, StepOutcome } from "./optimizer.js";

/** The learning rate of group `group` at `step`, where it would be `baseLr` without a schedule. */
export type Schedule = (baseLr: number, step: number, group: number) => number;

/** State of an {@link LRScheduler}. */
export interface LRSchedulerState {
  /** Steps taken. */
  lastEpoch: number;
  /** Learning rates of the groups without the schedule. */
  baseLrs: number[];
  /** Learning rates that the schedule gave the groups. */
  lastLr: number[];
}

/** Options that every schedule has. */
export interface ScheduleOptions {
  /** Steps taken before, to go on from there; default -1, a new schedule. */
  lastEpoch?: number;
}

/** What a schedule needs of an optimizer; the one that Fabric gives back has it too. */
export type ScheduledOptimizer = Pick<Optimizer, "paramGroups" | "defaults" | "beforeGroupsRead">;

/** Throws ArgumentError for what has no groups of parameters. */
export function checkOptimizer(optimizer: unknown, op: string): void {
  const { paramGroups } = (optimizer ?? {}) as Partial<ScheduledOptimizer>;
  if (Array.isArray(paramGroups)) return;
  throw new ArgumentError(`${op}: expected an optimizer, got ${describe(optimizer)}`, { op });
}

/**
 * Sets the learning rate of every group by a schedule, starting with step 0 as it is made. Call
 * `step()` after each step of the optimizer.
 *
 * With loss scaling a step may be left out. Given what `GradScaler.step` returned, `step(outcome)`
 * advances only where the weights were updated. It does not wait for the device to say so: the
 * outcome is looked at when the learning rate is next needed, by the optimizer's next step at the
 * latest.
 */
export class LRScheduler {
  private readonly optimizer: ScheduledOptimizer;
  private readonly schedule: Schedule;
  private baseLrs: number[];
  private epoch: number;
  private pending: StepOutcome[] = [];

  constructor(optimizer: ScheduledOptimizer, schedule: Schedule, options: ScheduleOptions = {}) {
    checkOptimizer(optimizer, "LRScheduler");
    checkFunction(schedule, "LRScheduler");
    const { lastEpoch = -1 } = options;
    if (!Number.isInteger(lastEpoch) || lastEpoch < -1) {
      throw new ArgumentError(
        `LRScheduler: lastEpoch — expected a whole number of at least -1, got ` +
          describe(lastEpoch),
        { op: "LRScheduler" },
      );
    }
    this.optimizer = optimizer;
    this.schedule = schedule;
    const groups = optimizer.paramGroups;
    groups.forEach((group, i) => {
      if (lastEpoch === -1) group.initialLr = group.lr;
      else if (group.initialLr === undefined) {
        throw new ArgumentError(
          `LRScheduler: lastEpoch is ${lastEpoch}, but group ${i} has no initialLr; load the ` +
            `optimizer's state first`,
          { op: "LRScheduler" },
        );
      }
    });
    this.baseLrs = groups.map((group) => group.initialLr!);
    this.epoch = lastEpoch + 1;
    this.apply();
  }

  /** Steps of the optimizer that count. */
  get lastEpoch(): number {
    this.settle();
    return this.epoch;
  }

  /**
   * Moves on by one step of the optimizer.
   * @param outcome what the step returned, where it may have been skipped.
   */
  step(outcome?: StepOutcome | null): void {
    if (outcome === undefined || outcome === null) {
      this.settle();
      this.epoch++;
      this.apply();
      return;
    }
    if (typeof outcome !== "object" || !("skipped" in outcome)) {
      throw new ArgumentError(
        `LRScheduler.step: expected nothing or the outcome of a step, got ${describe(outcome)}`,
        { op: "LRScheduler.step" },
      );
    }
    this.pending.push(outcome);
    if (this.pending.length > 1) return;
    this.optimizer.beforeGroupsRead(() => {
      this.settle();
    });
  }

  /** The learning rates of the groups, as the schedule last set them. */
  getLastLr(): number[] {
    this.settle();
    return this.lastLr();
  }

  stateDict(): LRSchedulerState {
    this.settle();
    return { lastEpoch: this.epoch, baseLrs: [...this.baseLrs], lastLr: this.lastLr() };
  }

  /**
   * Goes on from a state, and sets the learning rates it had.
   * @throws CheckpointError where it is not one, or for another number of groups.
   */
  loadStateDict(state: LRSchedulerState): void {
    const groups = this.optimizer.paramGroups;
    const isRates = (value: unknown): value is number[] =>
      Array.isArray(value) &&
      value.length === groups.length &&
      value.every((lr) => typeof lr === "number" && Number.isFinite(lr));
    const given: unknown = state;
    const { lastEpoch, baseLrs, lastLr } = (given ?? {}) as Partial<LRSchedulerState>;
    if (!Number.isInteger(lastEpoch) || lastEpoch! < 0 || !isRates(baseLrs) || !isRates(lastLr)) {
      throw new CheckpointError(
        `LRScheduler.loadStateDict: expected { lastEpoch, baseLrs, lastLr } for ${groups.length} ` +
          `groups, got ${describe(JSON.stringify(state))}`,
        { op: "LRScheduler.loadStateDict" },
      );
    }
    this.pending = [];
    this.epoch = lastEpoch!;
    this.baseLrs = [...baseLrs];
    groups.forEach((group, i) => {
      group.initialLr = baseLrs[i]!;
      group.lr = lastLr[i]!;
    });
  }

  private lastLr(): number[] {
    return this.baseLrs.map((base, i) => this.schedule(base, this.epoch, i));
  }

  private settle(): void {
    const { pending } = this;
    if (pending.length === 0) return;
    this.pending = [];
    this.epoch += pending.filter(({ skipped }) => !skipped).length;
    this.apply();
  }

  private apply(): void {
    const rates = this.lastLr();
    this.optimizer.paramGroups.forEach((group, i) => {
      if (i < rates.length) group.lr = rates[i]!;
    });
  }
}
