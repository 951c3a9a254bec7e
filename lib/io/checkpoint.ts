// Training state in one safetensors file: the tensors under their paths, and around them a tree of
// plain values, as JSON in the file's metadata. In the tree an object with one key that begins with
// $ stands for what JSON lacks: {"$tensor": name}, {"$number": "NaN"}, {"$bigint": "1"},
// {"$undefined": true}, {"$map": [[key, value], ...]}; {"$object": {...}} is an object with such a
// key.

import { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { ArgumentError, CheckpointError, describe } from "../errors.js";
import { readHeader } from "./safetensors-file.js";
import { loadSafetensors, saveSafetensors } from "./safetensors.js";

/** Anything with a state dictionary: a module, an optimizer, a scaler. It is saved as that. */
export interface Stateful {
  stateDict(): unknown;
}

/** What a checkpoint can hold, at any depth. */
export type CheckpointValue =
  | Tensor
  | Stateful
  | number
  | string
  | boolean
  | bigint
  | null
  | undefined
  | readonly CheckpointValue[]
  | ReadonlyMap<CheckpointValue, CheckpointValue>
  | { readonly [key: string]: CheckpointValue };

const FORMAT = "mixprec-checkpoint";
const VERSION = "1";
const MAX_DEPTH = 200;

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function isStateful(value: object): value is Stateful {
  return "stateDict" in value && typeof value.stateDict === "function";
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** Turns values into the tree, and gathers the tensors. */
class Encoder {
  readonly tensors = new Map<string, Tensor>();
  private readonly names = new Map<Tensor, string>();
  private readonly open = new Set<object>();

  constructor(private readonly file: string) {}

  private fail(path: string, what: string): never {
    throw new ArgumentError(`saveCheckpoint: ${this.file}: ${path || "the state"} ${what}`, {
      op: "saveCheckpoint",
    });
  }

  private tensor(tensor: Tensor, path: string): Json {
    let name = this.names.get(tensor);
    if (name === undefined) {
      // Two paths can read the same where a key has a dot; and one name is taken by the format.
      const base = path === "" || path === "__metadata__" ? `state${path}` : path;
      name = base;
      for (let i = 2; this.tensors.has(name); i++) name = `${base}#${i}`;
      this.names.set(tensor, name);
      this.tensors.set(name, tensor);
    }
    return { $tensor: name };
  }

  encode(value: unknown, path: string): Json {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value;
      case "number":
        if (Number.isFinite(value) && !Object.is(value, -0)) return value;
        return { $number: Object.is(value, -0) ? "-0" : String(value) };
      case "bigint":
        return { $bigint: value.toString() };
      case "undefined":
        return { $undefined: true };
      case "object":
        return value === null ? null : this.object(value, path);
      case "function":
      case "symbol":
        return this.fail(path, `is a ${typeof value}, which a checkpoint cannot hold`);
    }
  }

  private object(value: object, path: string): Json {
    if (value instanceof Tensor) return this.tensor(value, path);
    if (this.open.has(value)) this.fail(path, "contains itself");
    if (this.open.size >= MAX_DEPTH) this.fail(path, `is nested deeper than ${MAX_DEPTH} levels`);
    this.open.add(value);
    try {
      return this.composite(value, path);
    } finally {
      this.open.delete(value);
    }
  }

  private composite(value: object, path: string): Json {
    const at = (key: string): string => (path === "" ? key : `${path}.${key}`);
    if (isStateful(value)) return this.encode(value.stateDict(), path);
    if (Array.isArray(value)) {
      return Array.from(value, (item: unknown, i) => this.encode(item, at(String(i))));
    }
    if (value instanceof Map) {
      const pairs = [...(value as Map<unknown, unknown>)];
      const $map = pairs.map(([key, item], i): Json => {
        const name = typeof key === "string" ? key : String(i);
        return [this.encode(key, at(`${name}.key`)), this.encode(item, at(name))];
      });
      return { $map };
    }
    if (!isPlain(value)) this.fail(path, `is a ${describe(value)}, which a checkpoint cannot hold`);
    const entries = Object.entries(value).map(
      ([key, item]) => [key, this.encode(item, at(key))] as const,
    );
    const object = Object.fromEntries(entries) as Record<string, Json>;
    const special = entries.length === 1 && entries[0]![0].startsWith("$");
    return special ? { $object: object } : object;
  }
}

/** Turns the tree into values again. Whatever a file holds, only a CheckpointError comes of it. */
class Decoder {
  readonly used = new Set<string>();

  constructor(
    private readonly file: string,
    private readonly tensors: Readonly<Record<string, Tensor>>,
  ) {}

  fail(what: string): never {
    return failLoading(this.file, what);
  }

  decode(value: Json, depth = 0): unknown {
    if (depth > MAX_DEPTH) this.fail("the state is nested too deeply");
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map((item) => this.decode(item, depth + 1));
    const entries = Object.entries(value);
    const [first] = entries;
    if (entries.length === 1 && first![0].startsWith("$")) {
      return this.special(first![0], first![1], depth);
    }
    return Object.fromEntries(entries.map(([key, item]) => [key, this.decode(item, depth + 1)]));
  }

  private special(tag: string, value: Json, depth: number): unknown {
    if (tag === "$tensor" && typeof value === "string") {
      if (!Object.hasOwn(this.tensors, value)) this.fail(`lacks the tensor ${describe(value)}`);
      this.used.add(value);
      return this.tensors[value];
    }
    if (tag === "$number" && typeof value === "string" && /^(-0|NaN|-?Infinity)$/.test(value)) {
      return Number(value);
    }
    if (tag === "$bigint" && typeof value === "string" && /^-?\d+$/.test(value)) {
      return BigInt(value);
    }
    if (tag === "$undefined") return undefined;
    if (tag === "$map" && Array.isArray(value)) {
      const pairs = value.map((pair): [unknown, unknown] => {
        if (!Array.isArray(pair) || pair.length !== 2) return this.fail("has a map without pairs");
        return [this.decode(pair[0]!, depth + 1), this.decode(pair[1]!, depth + 1)];
      });
      return new Map(pairs);
    }
    if (tag === "$object" && value !== null && typeof value === "object" && !Array.isArray(value)) {
      const entries = Object.entries(value);
      return Object.fromEntries(entries.map(([key, item]) => [key, this.decode(item, depth + 1)]));
    }
    return this.fail(`has ${describe(tag)} with ${describe(value)} in its state`);
  }
}

function failLoading(file: string, what: string, cause?: unknown): never {
  throw new CheckpointError(`loadCheckpoint: ${file}: ${what}`, { op: "loadCheckpoint", cause });
}

/**
 * Saves nested state - tensors, numbers, strings, booleans, null, undefined, bigint, arrays, maps,
 * plain objects, and anything with a `stateDict` method - to one file, whole or not at all, as
 * `saveSafetensors` does. A tensor that occurs several times is written once.
 * @throws ArgumentError for what a checkpoint cannot hold, named by its path; CheckpointError where
 * the file cannot be written.
 */
export async function saveCheckpoint(file: string, state: CheckpointValue): Promise<void> {
  const encoder = new Encoder(file);
  const tree = JSON.stringify(encoder.encode(state, ""));
  await saveSafetensors(file, encoder.tensors, {
    metadata: { format: FORMAT, version: VERSION, state: tree },
  });
}

/**
 * What {@link saveCheckpoint} saved: modules and optimizers come back as their state dictionaries,
 * tensors without history, on the CPU or on `device`.
 * @throws CheckpointError that names the file and what is wrong with it.
 */
export async function loadCheckpoint<T = unknown>(
  file: string,
  options: { device?: Device | undefined } = {},
): Promise<T> {
  const { metadata } = await readHeader(file);
  if (metadata.format !== FORMAT) {
    failLoading(file, "holds no checkpoint; use loadSafetensors for plain tensors");
  }
  if (metadata.version !== VERSION) {
    failLoading(file, `is of version ${describe(metadata.version)} — expected ${VERSION}`);
  }
  let tree: Json;
  try {
    tree = JSON.parse(metadata.state ?? "") as Json;
  } catch (cause) {
    return failLoading(file, `the state is not JSON: ${(cause as Error).message}`, cause);
  }
  const tensors = await loadSafetensors(file, options);
  try {
    const decoder = new Decoder(file, tensors);
    const state = decoder.decode(tree);
    const unused = Object.keys(tensors).filter((name) => !decoder.used.has(name));
    if (unused.length > 0) decoder.fail(`the state has no place for tensor ${describe(unused[0])}`);
    return state as T;
  } catch (cause) {
    for (const tensor of Object.values(tensors)) tensor.dispose();
    throw cause;
  }
}
