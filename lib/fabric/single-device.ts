// The part of Fabric that scripts for several processes call: here there is one process, on one
// device, and each of these does what it does then.

import { format } from "node:util";

import { checkFunction } from "../core/context.js";
import { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { ArgumentError, describe } from "../errors.js";
import type { Logger } from "./loggers.js";
import { moveTo } from "./nested.js";
import { seedEverything } from "./seed.js";

function noLogger(): never {
  throw new ArgumentError("logger: no loggers were given to Fabric", { op: "logger" });
}

/** One item, a list of them, or none, as a list. */
export function listOf<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/** One process with one device. */
export class SingleDevice {
  /** Number of processes. */
  readonly worldSize = 1;
  /** Number of this process, among all, on its machine, and of its machine. */
  readonly globalRank = 0;
  readonly localRank = 0;
  readonly nodeRank = 0;
  /** Whether this is the first process. */
  readonly isGlobalZero = true;

  constructor(
    /** Where the run computes. */
    readonly device: Device,
    readonly loggers: readonly Logger[],
    private readonly callbacks: readonly object[],
  ) {}

  /** The first logger. */
  get logger(): Logger {
    return this.loggers[0] ?? noLogger();
  }

  /**
   * `value` with the tensors in nested arrays, maps and plain objects on the device; modules move.
   */
  toDevice<T>(value: T): T {
    return moveTo(value, this.device);
  }

  /** Writes a line to standard output, formatted as by console.log; in the first process only. */
  print(...values: unknown[]): void {
    process.stdout.write(`${format(...values)}\n`);
  }

  /** See {@link seedEverything}. */
  seedEverything(seed?: number): number {
    return seedEverything(seed);
  }

  /** Waits until all processes are here. */
  barrier(_name?: string): Promise<void> {
    return Promise.resolve();
  }

  /** What process `source` has. */
  broadcast<T>(value: T, _source = 0): T {
    return value;
  }

  /** The tensors of all processes along a new first dimension; with one process, as they are. */
  allGather<T>(data: T): T {
    return data;
  }

  /** Mean (or sum) over all processes. */
  allReduce<T>(data: T, _reduceOp: "mean" | "sum" = "mean"): T {
    return data;
  }

  /** Runs `fn` in the first process before the others. */
  rankZeroFirst<T>(fn: () => T): T {
    checkFunction(fn, "rankZeroFirst");
    return fn();
  }

  /** Hands a metric to all loggers; a tensor is read. */
  log(name: string, value: number | Tensor, step?: number): void {
    this.logDict({ [name]: value }, step);
  }

  /** Hands metrics to all loggers; tensors are read. */
  logDict(metrics: Readonly<Record<string, number | Tensor>>, step?: number): void {
    if (typeof metrics !== "object" || (metrics as unknown) === null) {
      throw new ArgumentError(`logDict: expected metrics by name, got ${describe(metrics)}`, {
        op: "logDict",
      });
    }
    const numbers = Object.fromEntries(
      Object.entries(metrics).map(([name, value]) => [
        name,
        value instanceof Tensor ? value.item() : value,
      ]),
    );
    for (const logger of this.loggers) logger.logMetrics(numbers, step);
  }

  /** Calls the method `hook` of every callback that has it. */
  call(hook: string, ...args: unknown[]): void {
    for (const callback of this.callbacks) {
      const method = (callback as Record<string, unknown>)[hook];
      if (typeof method === "function") {
        (method as (...given: unknown[]) => unknown).apply(callback, args);
      }
    }
  }
}
