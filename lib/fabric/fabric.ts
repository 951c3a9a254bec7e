// Fabric: what a training loop needs so that one option chooses its precision. The loop stays the
// user's; Fabric wraps the model and the optimizers, and does what the precision's row says.

import { checkOptions } from "../core/options.js";
import { autocast, GradScaler, unscaledStep, type StepResult } from "../amp/index.js";
import { checkFunction, getDefaultDtype, withDefaultDtype } from "../core/context.js";
import { Tensor } from "../core/tensor.js";
import { ArgumentError, describe } from "../errors.js";
import { loadCheckpoint, saveCheckpoint } from "../io/index.js";
import { Module } from "../nn/index.js";
import { clipGradNorm, clipGradValue, Optimizer } from "../optim/index.js";
import { wrapLoader, type BatchSource } from "./data.js";
import { guardBackward } from "./guard.js";
import { isWrappedModule, wrapModule, type FabricModule } from "./module.js";
import { castFloating, mapTensors, moveTo } from "./nested.js";
import {
  isWrappedOptimizer,
  originalOf,
  wrapOptimizer,
  type AnyOptimizer,
  type FabricOptimizer,
} from "./optimizer.js";
import {
  checkOptionNames,
  type ClipOptions,
  type FabricBackwardOptions,
  type FabricOptions,
  type SetupOptions,
} from "./options.js";
import { placeOn } from "./placement.js";
import { precisionMode, type PrecisionMode } from "./precision.js";
import { ScaledSteps } from "./scaled-steps.js";
import { listOf, SingleDevice } from "./single-device.js";
import { Watch, type WatchOptions } from "./watch.js";
import { loadRawState, restoreState, stateToSave, type StateFilter } from "./state.js";

type WrappedAll<O extends readonly AnyOptimizer[]> = {
  [K in keyof O]: FabricOptimizer<O[K]>;
};

function fail(op: string, what: string): never {
  throw new ArgumentError(`${op}: ${what}`, { op });
}

function chooseScaler(mode: PrecisionMode, given: FabricOptions["scaler"]): GradScaler | null {
  if (!mode.scaler) {
    if (given === undefined) return null;
    return fail("Fabric", `scaler — only 16-mixed scales the loss, the precision is ${mode.name}`);
  }
  return given instanceof GradScaler ? given : new GradScaler(given);
}

/**
 * Runs a training loop at a precision.
 *
 *     const fabric = new Fabric({ precision: "bf16-mixed" });
 *     const [model, optimizer] = fabric.setup(net, new AdamW(net.parameters()));
 *     optimizer.zeroGrad();
 *     fabric.backward(crossEntropy(model.forward(x), labels));
 *     fabric.clipGradients(model, optimizer, { maxNorm: 1 });
 *     optimizer.step();
 */
export class Fabric extends SingleDevice {
  /** What the precision does. */
  readonly mode: PrecisionMode;
  /**
   * The loss scaler of 16-mixed, else null. Fabric updates it once an iteration: at the first
   * backward after all optimizers have stepped, or when `scaler.update()` is called.
   */
  readonly scaler: GradScaler | null;
  private readonly steps: ScaledSteps | null;
  private inBackward = false;

  /**
   * @throws ArgumentError for an option outside what is supported, DeviceError for a missing
   * device.
   */
  constructor(options: FabricOptions = {}) {
    checkOptionNames(options);
    super(placeOn(options), listOf(options.loggers), listOf(options.callbacks));
    this.mode = precisionMode(options.precision ?? "32-true");
    this.scaler = chooseScaler(this.mode, options.scaler);
    this.steps = this.scaler?.isEnabled() === true ? new ScaledSteps(this.scaler) : null;
    if (options.seed !== undefined) this.seedEverything(options.seed);
  }

  /** Full name of the precision. */
  get precision(): PrecisionMode["name"] {
    return this.mode.name;
  }

  /**
   * Makes a module, and optimizers of its parameters, ready for the run: the module is put on the
   * device and into the precision's dtype, its forward pass converts inputs and outputs; the
   * optimizers' steps go through the loss scaler. Use what is returned, in the loop.
   * @returns the module alone, or a list: module, optimizers, scheduler where one is given
   * @throws ArgumentError for what is set up already.
   */
  setup<M extends Module>(
    module: M,
    options?: SetupOptions & { scheduler?: never },
  ): FabricModule<M>;
  setup<M extends Module, O extends readonly [AnyOptimizer, ...AnyOptimizer[]]>(
    module: M,
    ...optimizers: O
  ): [FabricModule<M>, ...WrappedAll<O>];
  setup<M extends Module, O extends readonly AnyOptimizer[], S extends object>(
    module: M,
    ...rest: [...O, SetupOptions & { scheduler: S }]
  ): [FabricModule<M>, ...WrappedAll<O>, S];
  setup<M extends Module, O extends readonly [AnyOptimizer, ...AnyOptimizer[]]>(
    module: M,
    ...rest: [...O, SetupOptions]
  ): [FabricModule<M>, ...WrappedAll<O>];
  setup(module: Module, ...rest: (AnyOptimizer | SetupOptions | undefined)[]): unknown {
    const last = rest.at(-1);
    const hasOptions = rest.length > 0 && !((last as unknown) instanceof Optimizer);
    const options = (hasOptions ? last : undefined) as SetupOptions | undefined;
    const optimizers = (hasOptions ? rest.slice(0, -1) : rest) as AnyOptimizer[];
    checkOptions("setup", options ?? {}, ["scheduler", "moveToDevice"]);
    const { scheduler, ...moduleOptions } = options ?? {};
    for (const optimizer of optimizers) checkOptimizer(optimizer, "setup");
    const wrapped = this.setupModule(module, moduleOptions);
    if (optimizers.length === 0 && scheduler === undefined) return wrapped;
    for (const optimizer of optimizers) optimizer.nameParameters(module.namedParameters());
    const others = optimizers.map((optimizer) => this.wrap(optimizer));
    return scheduler === undefined ? [wrapped, ...others] : [wrapped, ...others, scheduler];
  }

  /** As {@link setup}, the module alone. */
  setupModule<M extends Module>(
    module: M,
    { moveToDevice = true }: { moveToDevice?: boolean } = {},
  ): FabricModule<M> {
    if (!((module as unknown) instanceof Module)) {
      fail("setup", `module — expected a Module, got ${describe(module)}`);
    }
    if (isWrappedModule(module)) fail("setup", "the module was set up already");
    module.to({
      dtype: this.mode.parameterDtype ?? undefined,
      device: moveToDevice ? this.device : undefined,
    });
    return wrapModule(module, (body, args) => this.forwardPass(body, args));
  }

  /**
   * As {@link setup}, optimizers alone.
   * @returns the optimizer, or the list of them
   */
  setupOptimizers<O extends AnyOptimizer>(optimizer: O): FabricOptimizer<O>;
  setupOptimizers<O extends readonly AnyOptimizer[]>(...optimizers: O): WrappedAll<O>;
  setupOptimizers(...optimizers: AnyOptimizer[]): unknown {
    if (optimizers.length === 0) fail("setupOptimizers", "expected at least one optimizer");
    for (const optimizer of optimizers) checkOptimizer(optimizer, "setupOptimizers");
    const wrapped = optimizers.map((optimizer) => this.wrap(optimizer));
    return wrapped.length === 1 ? wrapped[0] : wrapped;
  }

  private wrap(optimizer: AnyOptimizer): FabricOptimizer {
    this.steps?.add(optimizer);
    return wrapOptimizer(optimizer, (closure) => this.optimizerStep(optimizer, closure));
  }

  /**
   * Loaders whose batches are put on the device: anything that is iterated over, now or
   * asynchronously. Before each iteration a loader's `sampler.setEpoch` is called, where there is
   * one.
   * @returns the loader, or the list of them
   */
  setupDataloaders<L extends BatchSource>(loader: L, options?: { moveToDevice?: boolean }): L;
  setupDataloaders<L extends readonly [BatchSource, BatchSource, ...BatchSource[]]>(
    ...loaders: L
  ): L;
  setupDataloaders<L extends readonly [BatchSource, ...BatchSource[]]>(
    ...rest: [...L, { moveToDevice?: boolean }]
  ): L;
  setupDataloaders(...rest: (BatchSource | { moveToDevice?: boolean } | undefined)[]): unknown {
    const last = rest.at(-1);
    const prototype = Object.getPrototypeOf(last ?? []) as unknown;
    const isOptions =
      prototype === Object.prototype &&
      !(Symbol.iterator in (last as object)) &&
      !(Symbol.asyncIterator in (last as object));
    const { moveToDevice = true } = (isOptions ? last : {}) as { moveToDevice?: boolean };
    const loaders = (isOptions ? rest.slice(0, -1) : rest) as BatchSource[];
    if (loaders.length === 0) fail("setupDataloaders", "expected at least one loader");
    const wrapped = loaders.map((loader) => wrapLoader(loader, moveToDevice ? this.device : null));
    return wrapped.length === 1 ? wrapped[0] : wrapped;
  }

  private forwardPass<A extends unknown[], R>(body: (...args: A) => R, args: A): R {
    const { inputDtype, outputDtype } = this.mode;
    const inputs = castFloating(args, inputDtype);
    const output = castFloating(
      this.autocast(() => body(...inputs)),
      outputDtype && getDefaultDtype(),
    );
    if (this.steps === null) return output;
    return mapTensors(output, (tensor) => guardBackward(tensor, () => this.inBackward));
  }

  /**
   * Runs a synchronous function as a forward pass is run, without converting inputs and outputs: in
   * an autocast region, or with the precision's default dtype.
   */
  autocast<T>(fn: () => T): T {
    checkFunction(fn, "autocast");
    const { autocastDtype } = this.mode;
    if (autocastDtype === null) return this.withParameterDtype(fn);
    return autocast({ device: this.device, dtype: autocastDtype }, fn);
  }

  /** Runs a synchronous function with the default dtype being that of the parameters. */
  private withParameterDtype<T>(fn: () => T): T {
    const { parameterDtype } = this.mode;
    return parameterDtype === null ? fn() : withDefaultDtype(parameterDtype, fn);
  }

  /**
   * Computes the gradients of a loss, scaled where the precision asks for it. With a loss scaler,
   * `loss.backward()` would leave it out and is an error.
   */
  backward(loss: Tensor, options: FabricBackwardOptions = {}): void {
    if (!((loss as unknown) instanceof Tensor)) {
      fail("backward", `expected a tensor, got ${describe(loss)}`);
    }
    checkOptions("backward", options, ["gradient", "retainGraph", "createGraph"]);
    const { gradient, ...rest } = options;
    this.inBackward = true;
    try {
      if (this.steps === null) loss.backward(gradient, rest);
      else this.steps.backward(loss, gradient, rest);
    } finally {
      this.inBackward = false;
    }
  }

  /**
   * Clips the gradients of all parameters of an optimizer, between `backward` and its step; with a
   * loss scaler they are unscaled first.
   * @returns the norm before clipping, for `maxNorm`; a scalar
   * @throws ArgumentError unless exactly one of `maxNorm` and `clipVal` is given; GradError for a
   *   norm that is not finite, see `errorIfNonfinite`.
   */
  clipGradients(
    module: Module,
    optimizer: AnyOptimizer,
    options: ClipOptions & { maxNorm: number },
  ): Tensor;
  clipGradients(module: Module, optimizer: AnyOptimizer, options: ClipOptions): Tensor | undefined;
  clipGradients(module: Module, optimizer: AnyOptimizer, options: ClipOptions): Tensor | undefined {
    const op = "clipGradients";
    checkOptions(op, options, ["maxNorm", "clipVal", "normType", "errorIfNonfinite"]);
    const { maxNorm, clipVal, normType = 2, errorIfNonfinite = this.steps === null } = options;
    if (!((module as unknown) instanceof Module)) {
      fail(op, `module — expected a Module, got ${describe(module)}`);
    }
    if ((maxNorm === undefined) === (clipVal === undefined)) {
      fail(
        op,
        `expected one of maxNorm and clipVal, got ${maxNorm === undefined ? "none" : "both"}`,
      );
    }
    const original = this.known(optimizer, op);
    this.steps?.unscale(original);
    if (maxNorm !== undefined) {
      return clipGradNorm(original.parameters(), maxNorm, { normType, errorIfNonfinite });
    }
    clipGradValue(original.parameters(), clipVal!);
    return undefined;
  }

  /**
   * The optimizer's step, what `step` of a wrapped optimizer does: with a loss scaler, on unscaled
   * gradients, and left out where one is not finite.
   * @returns how it went; on a GPU, reading it waits
   * @throws ScalerError, with a loss scaler, when there was no `backward` since the last step, when
   *   no parameter has a gradient, or for a closure.
   */
  optimizerStep(optimizer: AnyOptimizer, closure?: () => unknown): StepResult {
    const original = this.known(optimizer, "optimizerStep");
    if (this.steps !== null) return this.steps.step(original, closure);
    if (closure === undefined) original.step();
    else original.step(closure);
    return unscaledStep();
  }

  /** The user's own optimizer. With a loss scaler it must have been set up. */
  private known(optimizer: AnyOptimizer, op: string): AnyOptimizer {
    if (!((optimizer as unknown) instanceof Optimizer)) {
      fail(op, `expected an optimizer, got ${describe(optimizer)}`);
    }
    const original = originalOf(optimizer);
    if (this.steps?.has(original) === false) {
      fail(op, "the optimizer was not set up with this Fabric; call fabric.setup first");
    }
    return original;
  }

  /**
   * Runs `fn` without exchanging gradients between devices, for all but the last backward of an
   * accumulation. With one device there is nothing to exchange.
   * @throws ArgumentError unless the module was set up.
   */
  noBackwardSync<T>(module: Module, fn: () => T, _options: { enabled?: boolean } = {}): T {
    if (!isWrappedModule(module)) {
      fail("noBackwardSync", "the module was not set up; call fabric.setup first");
    }
    checkFunction(fn, "noBackwardSync");
    return fn();
  }

  /**
   * Makes a module on the device, with the precision's dtype as the default dtype.
   * @param create makes it; may be called as `() => new Net()`.
   */
  initModule<M extends Module>(create: () => M): M {
    checkFunction(create, "initModule");
    const module: unknown = this.withParameterDtype(create);
    if (!(module instanceof Module)) {
      return fail("initModule", `expected a function that makes a Module, got ${describe(module)}`);
    }
    return module.to({ device: this.device }) as M;
  }

  /** Makes tensors on the device, with the precision's dtype as the default dtype. */
  initTensor<T>(create: () => T): T {
    checkFunction(create, "initTensor");
    return moveTo(this.withParameterDtype(create), this.device);
  }

  /**
   * Watches the layers of a model: counts what their number formats could not hold in activations
   * and gradients, until `stop()`. Costs a few reductions for each layer and step, and no wait.
   *
   *     const watch = fabric.watch(model);
   *     // … some steps …
   *     console.log(await watch.summary());
   *     watch.stop();
   *
   * @throws ArgumentError for what is no module or is watched already.
   */
  watch(module: Module, options: WatchOptions = {}): Watch {
    return new Watch(module, this.mode.name, options);
  }

  /**
   * Writes a checkpoint, whole or not at all: of what has a `stateDict` that, of everything else
   * the value. The state of Fabric's loss scaler goes along.
   * @param filter by key of `state`, which entries of it are saved
   * @throws ArgumentError for what a checkpoint cannot hold, CheckpointError where it cannot be
   *   written.
   */
  async save(
    file: string,
    state: Readonly<Record<string, unknown>>,
    { filter = {} }: { filter?: Readonly<Record<string, StateFilter>> } = {},
  ): Promise<void> {
    await saveCheckpoint(file, stateToSave(state, filter, this.scaler));
  }

  /**
   * Reads a checkpoint. What in `state` has `loadStateDict` loads its entry, other entries are
   * replaced, and the loss scaler continues from its own. Without `state` nothing is loaded, and
   * all is returned.
   * @returns the entries that are not in `state`
   * @throws CheckpointError for a damaged file, for keys that it lacks unless `strict` is false,
   *   and for state that does not fit.
   */
  async load(
    file: string,
    state?: Record<string, unknown>,
    { strict = true }: { strict?: boolean } = {},
  ): Promise<Record<string, unknown>> {
    const checkpoint = await loadCheckpoint<Record<string, unknown>>(file);
    if (state === undefined) return checkpoint;
    return restoreState(file, checkpoint, state, strict, this.scaler);
  }

  /** Loads one module's or optimizer's state dictionary that was saved by itself. */
  async loadRaw(
    file: string,
    target: Module | AnyOptimizer,
    { strict = true }: { strict?: boolean } = {},
  ): Promise<void> {
    await loadRawState(file, target, strict);
  }

  /** Runs the training function, with this Fabric before its arguments, in this process. */
  launch<A extends unknown[], R>(main: (fabric: this, ...args: A) => R, ...args: A): R {
    return main(this, ...args);
  }
}

function checkOptimizer(optimizer: unknown, op: string): void {
  if (!(optimizer instanceof Optimizer)) {
    fail(op, `expected an optimizer, got ${describe(optimizer)}`);
  }
  if (isWrappedOptimizer(optimizer)) fail(op, "the optimizer was set up already");
}
