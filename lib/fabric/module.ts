// The module that `Fabric.setup` gives back: the user's own, with inputs, forward pass and outputs
// in the precision of the run. Everything else about it is the original's: names, state, mode,
// methods.

import { ArgumentError } from "../errors.js";
import { Module } from "../nn/index.js";

/**
 * A module as `Fabric.setup` gives it back: all of the original's, and the original as `module`.
 */
export type FabricModule<M extends Module = Module> = M & {
  readonly module: M;
  /** Makes calls of a method get the conversions that `forward` has. */
  markForwardMethod(name: string): void;
};

/**
 * Runs a forward pass in the precision of the run: converts `args`, calls `body`, converts its
 * result.
 */
export type ForwardPass = <A extends unknown[], R>(body: (...args: A) => R, args: A) => R;

type Method = (...args: unknown[]) => unknown;

const INHERITED = new Set(["constructor", "forward", "ownEntries"]);

class WrappedModule extends Module {
  readonly module!: Module;
  readonly #pass: ForwardPass;
  readonly #forward: Method;
  readonly #marked = new Set<string>();

  constructor(module: Module, pass: ForwardPass) {
    super();
    this.#pass = pass;
    // Taken now: while a method of the original runs, its `forward` is this wrapper's.
    this.#forward = module.forward.bind(module);
    const hidden = { enumerable: false, configurable: true };
    Object.defineProperty(this, "module", { ...hidden, value: module });
    Object.defineProperty(this, "training", {
      ...hidden,
      get: () => module.training,
      set: (value: boolean) => {
        module.training = value;
      },
    });
    for (const name of Object.getOwnPropertyNames(Module.prototype)) {
      if (INHERITED.has(name)) continue;
      Object.defineProperty(this, name, { ...hidden, value: delegate(this, module, name) });
    }
    // Names that a module does not have by itself are looked up in the original.
    Object.setPrototypeOf(this, originalBehind(this, module));
  }

  protected override ownEntries(): Iterable<readonly [string, unknown]> {
    return (this.module as WrappedModule).ownEntries();
  }

  override forward(...inputs: unknown[]): unknown {
    return this.#pass(this.#forward, inputs);
  }

  markForwardMethod(name: string): void {
    const method = (this.module as unknown as Record<string, unknown>)[name];
    if (typeof method !== "function" || name in Module.prototype) {
      throw new ArgumentError(
        `markForwardMethod: ${this.module.constructor.name} has no method "${name}" of its own`,
        { op: "markForwardMethod" },
      );
    }
    this.#marked.add(name);
  }

  /** Calls a method of the original; where it calls `this.forward`, the conversions apply. */
  callOriginal(method: Method, name: string, args: unknown[]): unknown {
    if (this.#marked.has(name)) return this.#pass(method.bind(this.module), args);
    const { module } = this;
    const own = Object.getOwnPropertyDescriptor(module, "forward");
    const restore = (): void => {
      if (own === undefined) Reflect.deleteProperty(module, "forward");
      else Object.defineProperty(module, "forward", own);
    };
    Object.defineProperty(module, "forward", {
      value: (...inputs: unknown[]) => this.forward(...inputs),
      configurable: true,
      writable: true,
    });
    let result: unknown;
    try {
      result = method.apply(module, args);
    } catch (error) {
      restore();
      throw error;
    }
    if (result instanceof Promise) return result.finally(restore);
    restore();
    return result;
  }
}

function delegate(wrapper: Module, module: Module, name: string): unknown {
  return (...args: unknown[]) => {
    const method = (module as unknown as Record<string, Method>)[name]!;
    const result = method.apply(module, args);
    return result === module ? wrapper : result;
  };
}

function originalBehind(wrapper: WrappedModule, module: Module): object {
  return new Proxy(Object.create(WrappedModule.prototype) as object, {
    get(prototype, name, receiver): unknown {
      if (name in prototype) return Reflect.get(prototype, name, receiver);
      const value: unknown = Reflect.get(module, name, module);
      if (typeof value !== "function" || typeof name !== "string" || isClass(value)) return value;
      return (...args: unknown[]) => wrapper.callOriginal(value as Method, name, args);
    },
    has: (prototype, name) => name in prototype || name in module,
    set(_prototype, name, value): boolean {
      return Reflect.set(module, name, value, module);
    },
  });
}

function isClass(value: unknown): boolean {
  return typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));
}

/** Wraps a module. */
export function wrapModule<M extends Module>(module: M, pass: ForwardPass): FabricModule<M> {
  return new WrappedModule(module, pass) as unknown as FabricModule<M>;
}

/** Whether a module was wrapped already. */
export function isWrappedModule(value: unknown): value is FabricModule {
  return value instanceof WrappedModule;
}
