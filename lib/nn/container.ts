// Modules made of a list or a dictionary of modules.

import type { Tensor } from "../core/tensor.js";
import { ArgumentError, describe } from "../errors.js";
import { Module } from "./module.js";

function checkModule(container: string, module: unknown): asserts module is Module {
  if (module instanceof Module) return;
  throw new ArgumentError(`${container}: expected a module, got ${describe(module)}`, {
    op: container,
  });
}

function isIterable(value: unknown): boolean {
  return typeof value === "object" && value !== null && Symbol.iterator in value;
}

/** A list of modules that are found as `0`, `1`, … */
export class ModuleList<M extends Module = Module> extends Module {
  /** The modules by position; assigning replaces one. */
  [index: number]: M;
  readonly #items: M[] = [];

  /** @throws ArgumentError for an item that is no module. */
  constructor(modules: Iterable<M> = []) {
    super();
    this.extend(modules);
  }

  protected override ownEntries(): Iterable<readonly [string, unknown]> {
    return this.#items.map((module, i) => [String(i), module] as const);
  }

  /** Gives every position a property. */
  #index(): void {
    for (let i = 0; i < this.#items.length; i++) {
      if (Object.hasOwn(this, i)) continue;
      Object.defineProperty(this, i, {
        get: () => this.#items[i],
        set: (module: M) => {
          checkModule("ModuleList", module);
          this.#items[i] = module;
        },
        enumerable: true,
      });
    }
  }

  /** Number of modules. */
  get length(): number {
    return this.#items.length;
  }

  /** The module at a position; negative ones count from the end. */
  at(index: number): M | undefined {
    return this.#items.at(index);
  }

  [Symbol.iterator](): IterableIterator<M> {
    return this.#items.values();
  }

  /** Adds a module at the end. */
  append(module: M): this {
    checkModule("ModuleList", module);
    this.#items.push(module);
    this.#index();
    return this;
  }

  /** Adds modules at the end. */
  extend(modules: Iterable<M>): this {
    if (!isIterable(modules)) {
      throw new ArgumentError(`ModuleList: expected a list of modules, got ${describe(modules)}`, {
        op: "ModuleList",
      });
    }
    for (const module of modules) this.append(module);
    return this;
  }

  /** Puts a module before a position. */
  insert(index: number, module: M): this {
    checkModule("ModuleList", module);
    this.#items.splice(index, 0, module);
    this.#index();
    return this;
  }
}

/** A dictionary of modules that are found under their keys. */
export class ModuleDict<M extends Module = Module> extends Module {
  readonly #items = new Map<string, M>();

  /** @throws ArgumentError for a value that is no module, or a key that is empty or has a dot. */
  constructor(modules: Readonly<Record<string, M>> | Iterable<readonly [string, M]> = {}) {
    super();
    this.update(modules);
  }

  protected override ownEntries(): Iterable<readonly [string, unknown]> {
    return this.#items;
  }

  /** Number of modules. */
  get size(): number {
    return this.#items.size;
  }

  get(key: string): M | undefined {
    return this.#items.get(key);
  }

  has(key: string): boolean {
    return this.#items.has(key);
  }

  set(key: string, module: M): this {
    checkModule("ModuleDict", module);
    if (key === "" || key.includes(".")) {
      throw new ArgumentError(
        `ModuleDict: expected a key that is not empty and has no dot, got ${describe(key)}`,
        { op: "ModuleDict" },
      );
    }
    this.#items.set(key, module);
    return this;
  }

  /** Adds modules, or replaces those that are there. */
  update(modules: Readonly<Record<string, M>> | Iterable<readonly [string, M]>): this {
    if (typeof modules !== "object" || (modules as unknown) === null) {
      throw new ArgumentError(`ModuleDict: expected modules by key, got ${describe(modules)}`, {
        op: "ModuleDict",
      });
    }
    const entries = Symbol.iterator in modules ? modules : Object.entries(modules);
    for (const entry of entries) {
      if (!Array.isArray(entry)) {
        throw new ArgumentError(
          `ModuleDict: expected [key, module] pairs, got ${describe(entry)}`,
          {
            op: "ModuleDict",
          },
        );
      }
      this.set(...(entry as [string, M]));
    }
    return this;
  }

  delete(key: string): boolean {
    return this.#items.delete(key);
  }

  keys(): IterableIterator<string> {
    return this.#items.keys();
  }

  values(): IterableIterator<M> {
    return this.#items.values();
  }

  entries(): IterableIterator<[string, M]> {
    return this.#items.entries();
  }

  [Symbol.iterator](): IterableIterator<[string, M]> {
    return this.#items.entries();
  }
}

/**
 * Modules that run one after the other, each on what the one before gives. `new Sequential(a, b)`
 * finds them as `0` and `1`, `new Sequential({ a, b })` under their names.
 */
export class Sequential extends Module {
  readonly #items = new Map<string, Module>();

  /** @throws ArgumentError for what is no module. */
  constructor(...modules: readonly Module[] | [Readonly<Record<string, Module>>]) {
    super();
    const [first] = modules as readonly unknown[];
    const named = modules.length === 1 && first !== null && typeof first === "object";
    const list = named && !(first instanceof Module) ? first : modules;
    const entries: [string, unknown][] = Object.entries(list);
    for (const [key, module] of entries) {
      checkModule("Sequential", module);
      this.#items.set(key, module);
    }
  }

  protected override ownEntries(): Iterable<readonly [string, unknown]> {
    return this.#items;
  }

  /** Number of modules. */
  get length(): number {
    return this.#items.size;
  }

  /** The module at a position; negative ones count from the end. */
  at(index: number): Module | undefined {
    return [...this.#items.values()].at(index);
  }

  [Symbol.iterator](): IterableIterator<Module> {
    return this.#items.values();
  }

  /** Adds a module at the end, under its position. */
  append(module: Module): this {
    checkModule("Sequential", module);
    this.#items.set(String(this.#items.size), module);
    return this;
  }

  override forward(input: Tensor): Tensor {
    let x = input;
    for (const module of this.#items.values()) x = module.forward(x) as Tensor;
    return x;
  }
}
