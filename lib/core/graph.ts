// CUDA graphs: work that is queued once and replayed with one launch.

import type { Device } from "../dtype.js";
import { DeviceError } from "../errors.js";
import { captureNative, destroyGraphNative, replayNative, type NativeGraph } from "../native.js";
import { checkFunction, rejectPromise } from "./context.js";
import { cudaOrdinal } from "./device.js";
import { checkOptions } from "./options.js";
import { tidy } from "./scope.js";

/** Options of `cuda.graph`. */
export interface GraphOptions {
  /** The device whose work is captured. Default: the first CUDA device. */
  readonly device?: Device;
}

/**
 * Captured work of a CUDA device. Each {@link replay} does it again, in the order in which it was
 * queued, on the same memory: change its inputs in place, replay, and read {@link result}. What the
 * captured function decided on the host stays as it was: shapes, numbers, the masks of dropout,
 * tensors made of host data.
 */
export class CudaGraph<T> {
  /** What the function returned; its tensors hold nothing before the first replay. */
  readonly result: T;
  #graph: NativeGraph | null;

  /** For `cuda.graph`. */
  constructor(result: T, graph: NativeGraph) {
    this.result = result;
    this.#graph = graph;
  }

  /**
   * Queues the work once more; does not wait for it.
   * @throws DeviceError after {@link dispose}, and where earlier work has failed.
   */
  replay(): void {
    if (this.#graph === null) {
      throw new DeviceError("replay: the graph was disposed", { op: "replay" });
    }
    replayNative(this.#graph);
  }

  /** Gives back the graph, and the memory of what it computes on the way. `result` stays. */
  dispose(): void {
    if (this.#graph === null) return;
    destroyGraphNative(this.#graph);
    this.#graph = null;
  }
}

/** `cuda.graph`, which documents it. */
export function captureGraph<T>(fn: () => T, options: GraphOptions = {}): CudaGraph<T> {
  checkFunction(fn, "graph");
  checkOptions("graph", options, ["device"]);
  const ordinal = cudaOrdinal(options.device, "graph");
  // Tensors in between give their memory back to the graph.
  const { result, graph } = captureNative(ordinal, () =>
    tidy(() => {
      const made = fn();
      rejectPromise(made, "graph");
      return made;
    }),
  );
  return new CudaGraph(result, graph);
}
