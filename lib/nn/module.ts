// The base of all modules: finds parameters, buffers and child modules among a module's properties,
// so that a property's name is its key in the state dictionary, as in torch.

import { noGrad } from "../core/context.js";
import { checkOptions, isOptions } from "../core/options.js";
import { keep, outsideScopes } from "../core/scope.js";
import { Tensor } from "../core/tensor.js";
import { checkDType, isDType, isFloating, type Device, type DType } from "../dtype.js";
import { ArgumentError, describe, DTypeError } from "../errors.js";
import { fill, to } from "../ops/index.js";
import { checkDevice } from "../core/device.js";
import { Parameter } from "./parameter.js";
import { loadState, type LoadResult, type StateDict } from "./state.js";

/** Where a listing of parameters, buffers or modules begins, and how far it goes. */
export interface ListOptions {
  /** Put before every name, with a dot. */
  prefix?: string;
  /** Whether the children's are listed too; default true. */
  recurse?: boolean;
}

/** Where and as what to put a module. */
export interface ModuleToOptions {
  dtype?: DType | undefined;
  device?: Device | undefined;
}

const join = (prefix: string, name: string): string => (prefix === "" ? name : `${prefix}.${name}`);

/**
 * A part of a model. A subclass assigns parameters, child modules, or arrays of them, to properties
 * and defines `forward`; they are found in the order of the properties, under their names
 * (`layers.0.weight`). What is in `#private` fields is not found.
 */
export class Module {
  /** Whether modules that behave differently in training (dropout, batch norm) do so. */
  training = true;
  /** Names of the buffers, and whether they belong to the state dictionary. */
  readonly #buffers = new Map<string, boolean>();

  /**
   * Computes the module's output.
   * @throws ArgumentError in a module that defines none.
   */
  forward(..._inputs: unknown[]): unknown {
    throw new ArgumentError(`forward: ${this.constructor.name} does not define it`, {
      op: "forward",
    });
  }

  /** What may hold parameters and modules, by name; overridden where they are stored elsewhere. */
  protected ownEntries(): Iterable<readonly [string, unknown]> {
    return Object.entries(this);
  }

  /** Own properties and, one level deep, the elements of those that are arrays. */
  *#members(): Generator<readonly [string, unknown]> {
    for (const [name, value] of this.ownEntries()) {
      if (!Array.isArray(value)) yield [name, value];
      else for (const [i, item] of value.entries()) yield [`${name}.${i}`, item];
    }
  }

  /** The modules that are properties of this one, with their names; each once. */
  namedChildren(): [string, Module][] {
    const seen = new Set<Module>();
    const found: [string, Module][] = [];
    for (const [name, value] of this.#members()) {
      if (!(value instanceof Module) || seen.has(value)) continue;
      seen.add(value);
      found.push([name, value]);
    }
    return found;
  }

  /** The modules that are properties of this one; each once. */
  children(): Module[] {
    return this.namedChildren().map(([, child]) => child);
  }

  /** This module and all below it, with their paths; a shared one once. This one is called "". */
  namedModules(prefix = ""): [string, Module][] {
    const found = new Map<Module, string>();
    const visit = (module: Module, path: string): void => {
      if (found.has(module)) return;
      found.set(module, path);
      for (const [name, child] of module.namedChildren()) visit(child, join(path, name));
    };
    visit(this, prefix);
    return [...found].map(([module, path]) => [path, module]);
  }

  /** This module and all below it; a shared one once. */
  modules(): Module[] {
    return this.namedModules().map(([, module]) => module);
  }

  #scopes(options: ListOptions): [string, Module][] {
    checkOptions("Module", options, ["prefix", "recurse"]);
    const { prefix = "", recurse = true } = options;
    return recurse ? this.namedModules(prefix) : [[prefix, this]];
  }

  /** The parameters with their paths, in the order of the properties; a shared one once. */
  namedParameters(options: ListOptions = {}): [string, Parameter][] {
    const found = new Map<Parameter, string>();
    for (const [path, module] of this.#scopes(options)) {
      for (const [name, value] of module.#members()) {
        if (value instanceof Parameter && !found.has(value)) found.set(value, join(path, name));
      }
    }
    return [...found].map(([parameter, path]) => [path, parameter]);
  }

  /** The parameters, in the order of the properties; a shared one once. */
  parameters(options: ListOptions = {}): Parameter[] {
    return this.namedParameters(options).map(([, parameter]) => parameter);
  }

  /**
   * Makes a tensor a buffer: state that is no parameter, such as a running mean. It becomes the
   * property `name`, moves with the module, and is in the state dictionary if `persistent`
   * (default). null keeps the place for one that is not used.
   */
  registerBuffer<T extends Tensor | null>(
    name: string,
    tensor: T,
    options: { persistent?: boolean } = {},
  ): T {
    checkOptions("registerBuffer", options, ["persistent"]);
    if (tensor !== null && !((tensor as unknown) instanceof Tensor)) {
      throw new ArgumentError(
        `registerBuffer: ${describe(name)} — expected a tensor or null, got ${describe(tensor)}`,
        { op: "registerBuffer" },
      );
    }
    if (tensor !== null) keep(tensor);
    (this as unknown as Record<string, unknown>)[name] = tensor;
    this.#buffers.set(name, options.persistent ?? true);
    return tensor;
  }

  *#ownBuffers(): Generator<readonly [name: string, buffer: Tensor, persistent: boolean]> {
    for (const [name, persistent] of this.#buffers) {
      const value = (this as unknown as Record<string, unknown>)[name];
      if (value instanceof Tensor) yield [name, value, persistent];
    }
  }

  /** The buffers with their paths; a shared one once. */
  namedBuffers(options: ListOptions = {}): [string, Tensor][] {
    const found = new Map<Tensor, string>();
    for (const [path, module] of this.#scopes(options)) {
      for (const [name, buffer] of module.#ownBuffers()) {
        if (!found.has(buffer)) found.set(buffer, join(path, name));
      }
    }
    return [...found].map(([buffer, path]) => [path, buffer]);
  }

  /** The buffers; a shared one once. */
  buffers(options: ListOptions = {}): Tensor[] {
    return this.namedBuffers(options).map(([, buffer]) => buffer);
  }

  /** What the state dictionary holds, by key; shared tensors under every name they have. */
  #state(): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    const visit = (module: Module, path: string, above: ReadonlySet<Module>): void => {
      if (above.has(module)) return;
      for (const [name, value] of module.#members()) {
        if (value instanceof Parameter) found.set(join(path, name), value);
      }
      for (const [name, buffer, persistent] of module.#ownBuffers()) {
        if (persistent) found.set(join(path, name), buffer);
      }
      const within = new Set(above).add(module);
      for (const [name, value] of module.#members()) {
        if (value instanceof Module) visit(value, join(path, name), within);
      }
    };
    visit(this, "", new Set());
    return found;
  }

  /**
   * Parameters and persistent buffers under torch's names. The tensors share the module's memory:
   * they change as it trains; `clone` them for a snapshot.
   */
  stateDict(): StateDict {
    return Object.fromEntries([...this.#state()].map(([key, tensor]) => [key, tensor.detach()]));
  }

  /**
   * Writes a state dictionary into the parameters and buffers, cast to their dtypes; the tensors of
   * the dictionary stay the caller's. Where something does not fit, nothing is written.
   * @param options.strict whether missing and unexpected keys are errors; default true.
   * @throws CheckpointError that names missing and unexpected keys and shapes that differ.
   */
  loadStateDict(
    state: Readonly<Record<string, Tensor>>,
    options: { strict?: boolean } = {},
  ): LoadResult {
    checkOptions("loadStateDict", options, ["strict"]);
    return loadState(this.constructor.name, this.#state(), state, options.strict ?? true);
  }

  /** Switches this module and all below it to training, or with `false` to evaluation. */
  train(mode = true): this {
    for (const module of this.modules()) module.training = mode;
    return this;
  }

  /** Switches this module and all below it to evaluation. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Converts the floating-point parameters and buffers to a dtype, and moves all to a device. The
   * objects stay the same, so that optimizers made before keep their parameters; gradients
   * go along.
   * @throws DTypeError for a dtype that is not floating point, DeviceError for a missing device.
   */
  to(target: DType | Device | ModuleToOptions): this {
    let options: ModuleToOptions;
    if (isOptions(target)) {
      checkOptions("to", target, ["dtype", "device"]);
      options = target;
    } else options = isDType(target) ? { dtype: target } : { device: checkDevice(target, "to") };
    const dtype = options.dtype === undefined ? undefined : checkDType(options.dtype, "to");
    if (options.device !== undefined) checkDevice(options.device, "to");
    if (dtype !== undefined && !isFloating(dtype)) {
      throw new DTypeError(`to: expected a floating-point dtype for a module, got ${dtype}`, {
        op: "to",
      });
    }
    const { device } = options;
    for (const tensor of [...this.parameters(), ...this.buffers()]) {
      const as = isFloating(tensor.dtype) ? { dtype, device } : { device };
      convertInPlace(tensor, as);
      if (tensor.grad !== null) convertInPlace(tensor.grad, as);
    }
    return this;
  }

  /**
   * Drops the gradients of all parameters and frees their memory, or with `setToNone: false` fills
   * them with zeros.
   */
  zeroGrad(options: { setToNone?: boolean } = {}): void {
    checkOptions("zeroGrad", options, ["setToNone"]);
    for (const parameter of this.parameters()) {
      const { grad } = parameter;
      if (grad === null) continue;
      if (options.setToNone === false) {
        noGrad(() => fill(grad, 0));
      } else {
        parameter.grad = null;
        grad.dispose();
      }
    }
  }

  /** Sets whether the parameters require gradients: `requiresGrad(false)` freezes the module. */
  requiresGrad(value = true): this {
    for (const parameter of this.parameters()) parameter.requiresGrad = value;
    return this;
  }

  /** Calls `fn` with every module below this one, children first, and last with this one. */
  apply(fn: (module: Module) => void): this {
    for (const child of this.children()) child.apply(fn);
    fn(this);
    return this;
  }

  /** Frees the memory of parameters, gradients and buffers; the module cannot be used any more. */
  dispose(): void {
    for (const tensor of [...this.parameters(), ...this.buffers()]) {
      tensor.grad?.dispose();
      tensor.grad = null;
      tensor.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function convertInPlace(tensor: Tensor, options: ModuleToOptions): void {
  const converted = outsideScopes(() => noGrad(() => to(tensor, options)));
  if (converted === tensor) return;
  tensor.setData(converted);
  converted.dispose();
}
