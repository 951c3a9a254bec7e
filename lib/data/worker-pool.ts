// Worker threads that run one task over and over. They keep no process alive: they hold it only while
// somebody waits for them, so a loop that is left early leaves nothing behind.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import * as errors from "../errors.js";
import {
  importTask,
  SETUP_KEY,
  type FromWorker,
  type ToWorker,
  type WorkerSetup,
} from "./worker-main.js";

const { DataError, MixprecError } = errors;

/**
 * What workers run: the function that `create` of a module makes of the options. The module is
 * imported in each worker, so it is a file of its own and not a function.
 */
export interface WorkerTask<T = unknown, R = unknown> {
  /** URL of the module; `new URL("./task.js", import.meta.url)`. */
  readonly module: URL | string;
  /** What the module exports; default `createTask`. */
  readonly exportName?: string;
  /** Given to it; plain data, which is copied. */
  readonly options?: unknown;
  /** Only for the compiler: what the function takes and gives. */
  readonly types?: (input: T) => R;
}

/** The function that a task stands for, for use in this thread. */
export function loadTask<T, R>(task: WorkerTask<T, R>): Promise<(input: T) => R | Promise<R>> {
  return importTask(setupOf(task)) as Promise<(input: T) => R | Promise<R>>;
}

function setupOf(task: Omit<WorkerTask, "types">): WorkerSetup {
  const { module, exportName = "createTask", options } = task;
  return { module: String(module), exportName, options };
}

/** An error of a worker as the class it was there. */
function revive(message: Extract<FromWorker, { error: unknown }>): Error {
  const { name, text, code, op, stack } = message.error;
  const found: unknown = (errors as Record<string, unknown>)[name];
  const known = typeof found === "function" && found.prototype instanceof MixprecError;
  const options = op === undefined ? {} : { op };
  if (known) {
    const Revived = found as new (message: string, options: object) => Error;
    const error = new Revived(text, options);
    if (stack !== undefined) error.stack = stack;
    return error;
  }
  const cause = Object.assign(new Error(text), { name, ...(code === undefined ? {} : { code }) });
  if (stack !== undefined) cause.stack = stack;
  return new DataError(`worker: ${name}: ${text}`, { op: "worker", cause });
}

interface Job<R> {
  readonly resolve: (result: R) => void;
  readonly reject: (error: Error) => void;
}

interface Thread<R> {
  readonly worker: Worker;
  readonly jobs: Map<number, Job<R>>;
  /** Why it takes no more jobs. */
  failure: Error | null;
}

/** The threads' entry, beside this file in a built package. */
function entry(): URL {
  const url = new URL("./worker-main.js", import.meta.url);
  if (!existsSync(fileURLToPath(url))) {
    throw new DataError(
      `worker: ${fileURLToPath(url)} is not there — worker threads need the built package ` +
        "(npm run build:ts)",
      { op: "worker" },
    );
  }
  return url;
}

/** Threads that all run one task. */
export class WorkerPool<T, R> {
  private readonly threads: Thread<R>[];
  private nextId = 0;
  private waiting = 0;

  /**
   * @param size number of threads
   * @throws DataError where the options of the task cannot be copied to a thread.
   */
  constructor(size: number, task: WorkerTask<T, R>) {
    const url = entry();
    this.threads = [];
    try {
      for (let i = 0; i < size; i++) this.threads.push(this.start(url, setupOf(task), i));
    } catch (cause) {
      void this.close();
      if (cause instanceof MixprecError) throw cause;
      const what = `the task's options cannot be copied to a thread: ${(cause as Error).message}`;
      throw new DataError(`worker: ${what}`, { op: "worker", cause });
    }
  }

  get size(): number {
    return this.threads.length;
  }

  private start(url: URL, setup: WorkerSetup, index: number): Thread<R> {
    const workerData = { [SETUP_KEY]: setup };
    const worker = new Worker(url, { workerData, name: `mixprec-data-${index}` });
    const thread: Thread<R> = { worker, jobs: new Map(), failure: null };
    const fail = (error: Error): void => {
      thread.failure ??= error;
      for (const job of thread.jobs.values()) job.reject(thread.failure);
      thread.jobs.clear();
    };
    worker.on("message", (message: FromWorker) => {
      const job = thread.jobs.get(message.id);
      thread.jobs.delete(message.id);
      if (job === undefined) return;
      if ("error" in message) job.reject(revive(message));
      else job.resolve(message.result as R);
    });
    worker.on("messageerror", (cause) => {
      fail(new DataError(`worker: a result cannot be copied: ${cause.message}`, { cause }));
    });
    worker.on("error", (cause: unknown) => {
      const text = cause instanceof Error ? cause.message : String(cause);
      fail(new DataError(`worker: thread ${index} failed: ${text}`, { op: "worker", cause }));
    });
    worker.on("exit", (code) => {
      fail(new DataError(`worker: thread ${index} ended with code ${code}`, { op: "worker" }));
    });
    if (this.waiting === 0) worker.unref();
    return thread;
  }

  /**
   * Gives the task an input, which is copied, in the thread that has the least to do.
   * @throws DataError where a thread failed or the input cannot be copied; the task's own errors of
   * this library pass through as the class they are.
   */
  run(input: T): Promise<R> {
    const thread = this.threads.reduce((least, other) =>
      other.jobs.size < least.jobs.size ? other : least,
    );
    const result = new Promise<R>((resolve, reject) => {
      if (thread.failure !== null) {
        reject(thread.failure);
        return;
      }
      const id = this.nextId++;
      try {
        thread.worker.postMessage({ id, input } satisfies ToWorker);
        thread.jobs.set(id, { resolve, reject });
      } catch (cause) {
        const what = `an item cannot be copied to a thread: ${(cause as Error).message}`;
        reject(new DataError(`worker: ${what}`, { op: "worker", cause }));
      }
    });
    // One that nobody waits for any more, because the loop was left, is no unhandled rejection.
    result.catch(() => undefined);
    return result;
  }

  /** Waits for a result of {@link run}; only this keeps the process alive. */
  async wait(result: Promise<R>): Promise<R> {
    if (this.waiting++ === 0) for (const { worker } of this.threads) worker.ref();
    try {
      return await result;
    } finally {
      if (--this.waiting === 0) for (const { worker } of this.threads) worker.unref();
    }
  }

  /** Ends the threads; what is under way is rejected. */
  async close(): Promise<void> {
    const closed = new DataError("worker: the threads were closed", { op: "worker" });
    for (const thread of this.threads) thread.failure ??= closed;
    await Promise.all(this.threads.map(({ worker }) => worker.terminate()));
  }
}
