// Recomputation instead of storage: `checkpoint` runs a function whose nodes keep nothing of what
// it computes; backward runs it again for what they need.
//
// The nodes recorded by the first run stay in the graph, so gradients reach parameters that the
// function uses without being passed. What they would have saved becomes a place in a frame,
// counted in the order of saving; the second run, made by the first node that asks, fills the
// places in that order.

import { GradError } from "../errors.js";
import { formatShape } from "../shape.js";
import {
  checkFunction,
  context,
  isGradEnabled,
  type AutocastState,
  type SavedTensor,
} from "./context.js";
import { forEachTensor, tidy } from "./scope.js";
import { checkVersion, saveTensor } from "./grad-node.js";
import { afterBackward } from "./tape.js";
import { Tensor } from "./tensor.js";

/** Replaces what is of a class in nested arrays and plain objects. */
function replaceAll<L>(
  value: unknown,
  leafClass: new (...args: never[]) => L,
  replace: (leaf: L) => unknown,
): unknown {
  if (value instanceof leafClass) return replace(value);
  if (Array.isArray(value)) return value.map((item) => replaceAll(item, leafClass, replace));
  if (value !== null && typeof value === "object") {
    const prototype = Object.getPrototypeOf(value) as unknown;
    if (prototype === Object.prototype || prototype === null) {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, replaceAll(item, leafClass, replace)]),
      );
    }
  }
  return value;
}

/** Stands for a tensor among the arguments. */
class Argument {
  constructor(readonly saved: SavedTensor) {}
}

/** A state of the globals that decide what a function computes. */
class Surroundings {
  private readonly random = { ...context.random };
  private readonly precision = context.matmulPrecision;
  private readonly defaultDtype = context.defaultDtype;
  private readonly autocast = context.autocast;

  /** Runs `fn` as it was then, but with nothing cached in the autocast region, which may have ended. */
  run<T>(fn: () => T): T {
    const present = {
      random: { ...context.random },
      matmulPrecision: context.matmulPrecision,
      defaultDtype: context.defaultDtype,
      autocast: context.autocast,
      gradEnabled: context.gradEnabled,
    };
    const cache: AutocastState["cache"] = this.autocast?.cache ? new Map() : null;
    Object.assign(context.random, this.random);
    context.matmulPrecision = this.precision;
    context.defaultDtype = this.defaultDtype;
    context.autocast = this.autocast && { ...this.autocast, cache };
    context.gradEnabled = true;
    try {
      return fn();
    } finally {
      for (const { cast } of cache?.values() ?? []) cast.dispose();
      const { random, ...others } = present;
      Object.assign(context.random, random);
      Object.assign(context, others);
    }
  }
}

/** What is known of a saved tensor whose memory was let go. */
interface Place {
  readonly like: Pick<Tensor, "shape" | "dtype" | "node" | "outputIndex" | "accumulator">;
  readonly requiresGrad: boolean;
  /** The storage it was in, and its version: where that is not remade it must not change. */
  readonly storage: object;
  readonly version: number;
  value: Tensor | null;
  freed: boolean;
}

/** The places of one call of `checkpoint`. */
class Frame {
  private readonly places: Place[] = [];
  private readonly surroundings = new Surroundings();
  private readonly inputs: SavedTensor[] = [];
  private readonly args: readonly unknown[];
  // The first run has its tensors until it ends, for a gradient that it computes itself.
  private filled = true;

  constructor(
    private readonly fn: (...args: unknown[]) => unknown,
    args: readonly unknown[],
  ) {
    // Places of an enclosing frame, where there is one.
    this.args = args.map((arg) =>
      replaceAll(arg, Tensor, (tensor) => {
        const saved = saveTensor(tensor, "checkpoint");
        this.inputs.push(saved);
        return new Argument(saved);
      }),
    );
  }

  /** Makes a place for a tensor that the first run would have saved. */
  add(tensor: Tensor): SavedTensor {
    const { shape, dtype, node, outputIndex, accumulator, requiresGrad } = tensor;
    const { storage } = tensor.handle;
    const place: Place = {
      like: { shape, dtype, node, outputIndex, accumulator },
      requiresGrad,
      storage,
      version: storage.version,
      value: tensor.alias(),
      freed: false,
    };
    this.places.push(place);
    return {
      unpack: (op) => this.valueOf(place, op),
      free: () => {
        place.freed = true;
        place.value?.dispose();
        place.value = null;
        this.freeIfUnused();
      },
    };
  }

  /** Lets go of the arguments when no node will ask for anything any more. */
  freeIfUnused(): void {
    if (this.places.every((place) => place.freed)) this.free();
  }

  /** Lets go of the arguments. */
  free(): void {
    for (const input of this.inputs) input.free();
    this.inputs.length = 0;
  }

  private valueOf(place: Place, op: string): Tensor {
    if (!this.filled) this.fill();
    const value = place.value!;
    const { storage } = value.handle;
    if (storage === place.storage) checkVersion(value, place.version, op);
    // The recomputed elements, at the place in the graph that the first run's had.
    const { node, outputIndex, accumulator } = place.like;
    const tensor = value.detach();
    tensor.outputIndex = outputIndex;
    tensor.accumulator = accumulator;
    if (node === null && place.requiresGrad) tensor.requiresGrad = true;
    tensor.node = node;
    return tensor;
  }

  /** Runs the function again and keeps what it saves. */
  private fill(): void {
    const { scope, saving } = context;
    let next = 0;
    context.scope = null;
    context.saving = (tensor) => {
      this.put(next++, tensor);
      return { unpack: () => tensor, free: () => undefined };
    };
    try {
      const result = tidy(() => {
        const args = replaceAll(this.args, Argument, ({ saved }) => saved.unpack("checkpoint"));
        return this.surroundings.run(() => this.fn(...(args as unknown[])));
      });
      forEachTensor(result, (tensor) => {
        tensor.dispose();
      });
    } catch (error) {
      this.empty();
      throw error;
    } finally {
      context.scope = scope;
      context.saving = saving;
    }
    if (next < this.places.length) this.differs(`${next} saved tensors`, `${this.places.length}`);
    this.filled = true;
    afterBackward(() => {
      this.empty();
    });
  }

  private put(index: number, tensor: Tensor): void {
    const place = this.places[index];
    if (place === undefined) {
      this.differs(`more than ${this.places.length} saved tensors`, `${this.places.length}`);
    }
    const { shape, dtype } = place.like;
    if (tensor.dtype !== dtype || formatShape(tensor.shape) !== formatShape(shape)) {
      this.differs(
        `${tensor.dtype} ${formatShape(tensor.shape)} as saved tensor ${index}`,
        `${dtype} ${formatShape(shape)}`,
      );
    }
    if (!place.freed) place.value = tensor.alias();
  }

  private differs(got: string, expected: string): never {
    this.empty();
    throw new GradError(
      `checkpoint: the function computed something else the second time — expected ${expected}, ` +
        `got ${got}. It may depend on nothing but its arguments, parameters and the library's random ` +
        `generator`,
      { op: "checkpoint" },
    );
  }

  /**
   * Lets go of what the first run saved, or what a backward that kept its graph has not freed: the
   * next one computes it again.
   */
  empty(): void {
    for (const place of this.places) {
      place.value?.dispose();
      place.value = null;
    }
    this.filled = false;
  }
}

/**
 * Calls `fn(...args)` without keeping what backward needs of it: backward runs it again, with the
 * same random numbers, autocast region and matmul precision. Saves memory for time. Gradients reach
 * the tensors among `args` (also in arrays and plain objects) and the parameters that `fn` uses.
 * What `fn` makes and does not return is released when it ends, as in `tidy`; without gradients
 * recorded it is simply called.
 * @throws GradError when `fn` returns a promise; in backward, when the second run differs from the
 * first, or an argument or parameter was changed in place between the two.
 */
export function checkpoint<A extends unknown[], R>(fn: (...args: A) => R, ...args: A): R {
  checkFunction(fn, "checkpoint");
  if (!isGradEnabled()) return tidy(() => fn(...args));
  const frame = new Frame(fn as (...args: unknown[]) => unknown, args);
  const { saving } = context;
  context.saving = (tensor) => frame.add(tensor);
  try {
    return tidy(() => fn(...args));
  } catch (error) {
    frame.free();
    throw error;
  } finally {
    context.saving = saving;
    frame.empty();
    frame.freeIfUnused();
  }
}
