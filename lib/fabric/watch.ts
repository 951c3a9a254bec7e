// Watches the layers of a model while it trains: counts, on the device, what their number formats
// could not hold in activations and in the gradients of these.

import { checkOptions } from "../core/options.js";
import { context, noGrad } from "../core/context.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { isFloating } from "../dtype.js";
import { ArgumentError, describe, DisposedError } from "../errors.js";
import { Module } from "../nn/index.js";
import { markTransparent } from "../nn/linear.js";
import { isWrappedModule } from "./module.js";
import { mapTensors } from "./nested.js";
import type { PrecisionName } from "./precision.js";
import {
  findingsOf,
  formatWatchReport,
  type TensorHealth,
  type WatchReport,
} from "./watch-report.js";
import { readTallies, Tally, type Counts } from "./watch-tally.js";

/** What to watch. */
export interface WatchOptions {
  /** Looks at one of so many forward passes of a layer, and its backward; default 1: at all. */
  every?: number | undefined;
}

const OP = "watch";

type Forward = (...inputs: unknown[]) => unknown;

function healthOf(counts: Counts | undefined): TensorHealth | null {
  if (counts === undefined) return null;
  const { dtype, tensors, elements, largest, zeros, notFinite, subnormal, underflow } = counts;
  return {
    dtype,
    tensors,
    elements,
    largest,
    overflow: notFinite / elements,
    underflow: underflow / elements,
    subnormal: subnormal / elements,
    zeros: zeros / elements,
  };
}

/** A layer whose `forward` is replaced by one that looks at what comes out. */
class WatchedLayer {
  readonly activations = new Tally();
  readonly gradients = new Tally();
  private readonly own: PropertyDescriptor | undefined;
  private calls = 0;

  constructor(
    readonly name: string,
    readonly module: Module,
    private readonly every: number,
    private readonly nextPlace: () => number,
  ) {
    this.own = Object.getOwnPropertyDescriptor(module, "forward");
    const original: Forward = module.forward.bind(module);
    const forward: Forward = (...inputs) => {
      const output = original(...inputs);
      if (this.calls++ % this.every !== 0) return output;
      return mapTensors(output, (tensor) => this.look(tensor));
    };
    // Where it is the class's own, a layer may go on fusing what comes after it.
    if (this.own === undefined) markTransparent(forward, module);
    Object.defineProperty(module, "forward", {
      value: forward,
      configurable: true,
      writable: true,
      enumerable: false,
    });
  }

  private look(tensor: Tensor): Tensor {
    if (!isFloating(tensor.dtype)) return tensor;
    this.activations.add(tensor, this.nextPlace());
    if (!tensor.requiresGrad || !context.gradEnabled) return tensor;
    const seen = noGrad(() => tensor.detach());
    record(OP, [tensor], [seen], [], ([grad]) => {
      this.gradients.add(grad!, this.nextPlace());
      return [grad];
    });
    return seen;
  }

  reset(): void {
    this.activations.reset();
    this.gradients.reset();
  }

  restore(): void {
    if (this.own === undefined) Reflect.deleteProperty(this.module, "forward");
    else Object.defineProperty(this.module, "forward", this.own);
  }
}

const watched = new WeakSet<Module>();

/** Watches the layers of a model; what `Fabric.watch` gives. */
export class Watch {
  private layers: WatchedLayer[];
  private readonly modules: readonly Module[];
  private place = 0;
  private stopped = false;

  /** @throws ArgumentError for what is no module, is watched already or has no layers. */
  constructor(
    model: Module,
    private readonly precision: PrecisionName,
    options: WatchOptions = {},
  ) {
    checkOptions(OP, options, ["every"]);
    const { every = 1 } = options;
    if (!((model as unknown) instanceof Module)) {
      throw new ArgumentError(`${OP}: expected a Module, got ${describe(model)}`, { op: OP });
    }
    if (!Number.isSafeInteger(every) || every < 1) {
      throw new ArgumentError(
        `${OP}: every — expected a whole number above 0, got ${describe(every)}`,
        { op: OP },
      );
    }
    const layers = layersOf(model);
    this.modules = layers.map(([, module]) => module);
    const twice = layers.find(([, module]) => watched.has(module));
    if (twice !== undefined) {
      throw new ArgumentError(
        `${OP}: ${describe(twice[0])} is watched already; stop() the other watch first`,
        { op: OP },
      );
    }
    for (const module of this.modules) watched.add(module);
    this.layers = layers.map(
      ([name, module]) => new WatchedLayer(name, module, every, () => this.place++),
    );
  }

  private checkRunning(): void {
    if (!this.stopped) return;
    throw new DisposedError(`${OP}: it was stopped; ask for the report before stop()`, { op: OP });
  }

  /**
   * What was seen since the beginning, or {@link reset}. Reads everything at once: the only time that
   * the device is waited for.
   * @throws DisposedError after `stop`.
   */
  async report(): Promise<WatchReport> {
    this.checkRunning();
    const { precision } = this;
    const tallies = this.layers.flatMap(({ activations, gradients }) => [activations, gradients]);
    const counts = await readTallies(tallies);
    const seen = this.layers.filter(
      ({ activations, gradients }) => counts.has(activations) || counts.has(gradients),
    );
    const layers = seen.map(({ name, module, activations, gradients }) => ({
      name,
      kind: (isWrappedModule(module) ? module.module : module).constructor.name,
      activations: healthOf(counts.get(activations)),
      gradients: healthOf(counts.get(gradients)),
    }));
    let firstOverflow: WatchReport["firstOverflow"] = null;
    let earliest = Infinity;
    for (const layer of seen) {
      for (const kind of ["activations", "gradients"] as const) {
        const place = counts.get(layer[kind])?.firstNotFinite ?? Infinity;
        if (place >= earliest) continue;
        earliest = place;
        firstOverflow = { layer: layer.name, in: kind };
      }
    }
    const findings = findingsOf(precision, layers, firstOverflow);
    return { precision, layers, firstOverflow, findings };
  }

  /** {@link report} as text: a table of the layers, and what to do. */
  async summary(): Promise<string> {
    return formatWatchReport(await this.report());
  }

  /** Forgets what was seen. */
  reset(): void {
    this.checkRunning();
    for (const layer of this.layers) layer.reset();
  }

  /** Gives the model its forward passes back and frees the counts; a second call does nothing. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    for (const layer of this.layers) {
      layer.restore();
      layer.reset();
    }
    for (const module of this.modules) watched.delete(module);
    this.layers = [];
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

/** The modules without modules of their own; of a model that is one itself, as it was given. */
function layersOf(model: Module): [string, Module][] {
  const all = model.namedModules();
  const leaves = all.filter(([, module]) => module.children().length === 0);
  return leaves.map(([name, module]) => [name, name === "" ? model : module]);
}
