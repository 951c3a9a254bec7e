// What a worker thread runs: it makes the task's function, and answers each message with its result.
// Buffers of a result are moved to the other thread, not copied.

import { isMainThread, parentPort, workerData } from "node:worker_threads";

import { DataError, MixprecError } from "../errors.js";

/** What a thread is started with. */
export interface WorkerSetup {
  readonly module: string;
  readonly exportName: string;
  readonly options: unknown;
}

/** A message to a thread. */
export interface ToWorker {
  readonly id: number;
  readonly input: unknown;
}

/** Its answer. */
export type FromWorker =
  | { readonly id: number; readonly result: unknown }
  | {
      readonly id: number;
      readonly error: {
        readonly name: string;
        readonly text: string;
        readonly code: string | undefined;
        readonly op: string | undefined;
        readonly stack: string | undefined;
      };
    };

/**
 * The function of a task.
 * @throws DataError where the module cannot be imported or has no such function.
 */
export async function importTask(setup: WorkerSetup): Promise<(input: unknown) => unknown> {
  const { module, exportName, options } = setup;
  let exports: Record<string, unknown>;
  try {
    exports = (await import(module)) as Record<string, unknown>;
  } catch (cause) {
    const what = `${module} cannot be imported: ${(cause as Error).message}`;
    throw new DataError(`worker: ${what}`, { op: "worker", cause });
  }
  const create = exports[exportName];
  if (typeof create !== "function") {
    throw new DataError(`worker: ${module} exports no function ${exportName}`, { op: "worker" });
  }
  const task: unknown = await (create as (options: unknown) => unknown)(options);
  if (typeof task === "function") return task as (input: unknown) => unknown;
  throw new DataError(`worker: ${exportName} of ${module} returned no function`, { op: "worker" });
}

/** The buffers of typed arrays in a value, down to a few levels. */
function buffersOf(value: unknown, into: Set<ArrayBuffer>, depth = 0): Set<ArrayBuffer> {
  if (value === null || typeof value !== "object" || depth > 4) return into;
  if (ArrayBuffer.isView(value)) {
    const { buffer, byteLength } = value;
    // A view of a part would take the rest away from its owner, such as node's pool of buffers.
    if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) into.add(buffer);
    return into;
  }
  // A long list of numbers has no buffers in it.
  if (Array.isArray(value) && typeof value[0] === "number") return into;
  for (const part of Object.values(value)) buffersOf(part, into, depth + 1);
  return into;
}

function describeError(cause: unknown): Extract<FromWorker, { error: unknown }>["error"] {
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const code = (error as NodeJS.ErrnoException).code;
  const op = cause instanceof MixprecError ? cause.op : undefined;
  return { name: error.name, text: error.message, code, op, stack: error.stack };
}

/** Answers messages, in order. */
function serve(port: NonNullable<typeof parentPort>, setup: WorkerSetup): void {
  const task = importTask(setup);
  // Each message reports it; until one comes it is nobody's.
  task.catch(() => undefined);
  port.on("message", (message: ToWorker) => {
    const { id, input } = message;
    task
      .then((run) => run(input))
      .then((result) => {
        const answer: FromWorker = { id, result };
        port.postMessage(answer, [...buffersOf(result, new Set())]);
      })
      .catch((cause: unknown) => {
        const answer: FromWorker = { id, error: describeError(cause) };
        port.postMessage(answer);
      });
  });
}

/** What {@link SETUP_KEY} of a thread's data holds makes it a worker. */
export const SETUP_KEY = "mixprecTask";

// The thread that starts workers imports this module too, and may be a worker of something else.
const setup = (workerData as Record<string, WorkerSetup | undefined> | null)?.[SETUP_KEY];
if (!isMainThread && parentPort !== null && setup !== undefined) serve(parentPort, setup);
