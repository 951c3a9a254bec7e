// Counting native tensors where the garbage collector may run at any time.

import { setImmediate } from "node:timers/promises";

import * as mp from "../../lib/index.js";

/**
 * How many native tensors are alive once garbage is collected. What a test makes and disposes after
 * that leaves `memory.tensorCount()` at this number, whatever the collector does.
 */
export async function liveTensors(): Promise<number> {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error("liveTensors: expected node to run with --expose-gc");
  for (let last = -1, count = mp.memory.tensorCount(); last !== count;) {
    last = count;
    // Finalizers run in a later turn of the event loop.
    gc();
    await setImmediate();
    await setImmediate();
    count = mp.memory.tensorCount();
  }
  return mp.memory.tensorCount();
}
