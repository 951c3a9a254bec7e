// Parameter groups: what an optimizer takes them from, and the checks that all optimizers share.

import { Tensor } from "../core/tensor.js";
import { isFloating } from "../dtype.js";
import { ArgumentError, DTypeError, describe, formatShape } from "../errors.js";

/** Parameters that are updated with the same options. Options may be changed between steps. */
export interface ParamGroup {
  params: Tensor[];
  /** Learning rate. */
  lr: number;
  /** What a schedule multiplies; set by the first one. */
  initialLr?: number;
}

/** A parameter with the name that errors call it by, as `Module.namedParameters()` yields them. */
export type NamedParameter = readonly [name: string, parameter: Tensor];

/** A group as users write it: options left out take the optimizer's. */
export type ParamGroupInput<G extends ParamGroup> = {
  readonly params: Tensor | Iterable<Tensor | NamedParameter>;
} & Partial<Omit<G, "params">>;

/** What an optimizer is made from: parameters, named parameters, or groups of them. */
export type Params<G extends ParamGroup> = Iterable<Tensor | NamedParameter | ParamGroupInput<G>>;

/** Throws ArgumentError unless `value` is a finite number, at least 0 and below `below`. */
export function checkOption(op: string, name: string, value: unknown, below = Infinity): void {
  if (typeof value === "number" && value >= 0 && value < below) return;
  const range = below === Infinity ? "a finite number of at least 0" : `in [0, ${below})`;
  throw new ArgumentError(`${op}: ${name} — expected ${range}, got ${describe(value)}`, { op });
}

/** Throws ArgumentError unless `value` is true or false. */
export function checkFlag(op: string, name: string, value: unknown): void {
  if (typeof value === "boolean") return;
  throw new ArgumentError(`${op}: ${name} — expected true or false, got ${describe(value)}`, {
    op,
  });
}

/**
 * Options with those that were left out.
 * @throws ArgumentError for an option that does not exist.
 */
export function withDefaults<O extends object>(op: string, defaults: O, options: Partial<O>): O {
  const merged = { ...defaults };
  for (const [key, value] of Object.entries(options)) {
    if (!(key in defaults)) {
      throw new ArgumentError(
        `${op}: there is no option ${describe(key)} — expected ${Object.keys(defaults).join(", ")}`,
        { op },
      );
    }
    if (value !== undefined) Object.assign(merged, { [key]: value });
  }
  return merged;
}

function isNamed(entry: unknown): entry is NamedParameter {
  return Array.isArray(entry) && entry.length === 2 && typeof entry[0] === "string";
}

/** Whether an entry of {@link Params} is a group rather than a parameter. */
export function isGroupInput<G extends ParamGroup>(
  entry: Tensor | NamedParameter | ParamGroupInput<G>,
): entry is ParamGroupInput<G> {
  return (
    typeof entry === "object" &&
    (entry as unknown) !== null &&
    !(entry instanceof Tensor) &&
    !isNamed(entry) &&
    "params" in entry
  );
}

function checkParameter(op: string, entry: unknown, name: string): Tensor {
  if (!(entry instanceof Tensor)) {
    throw new ArgumentError(
      `${op}: ${name} — expected a tensor, a [name, tensor] pair or a group with params, got ` +
        describe(entry),
      { op },
    );
  }
  entry.assertUsable(op);
  if (!isFloating(entry.dtype)) {
    throw new DTypeError(
      `${op}: ${name} — expected a floating-point tensor, got ${entry.dtype} ` +
        formatShape(entry.shape),
      { op },
    );
  }
  if (!entry.isLeaf) {
    throw new ArgumentError(
      `${op}: ${name} — only leaf tensors can be optimized, got one made by ${entry.node!.name}`,
      { op },
    );
  }
  return entry;
}

/**
 * The tensors of a parameter list, checked.
 * @returns the parameters, and the names of those that came with one.
 */
export function collectParameters(
  op: string,
  params: Tensor | Iterable<Tensor | NamedParameter>,
  seen: ReadonlySet<Tensor>,
): { params: Tensor[]; names: Map<Tensor, string> } {
  const given: unknown = params instanceof Tensor ? [params] : params;
  if (typeof given !== "object" || given === null || !(Symbol.iterator in given)) {
    throw new ArgumentError(
      `${op}: params — expected a tensor or a list of them, got ${describe(params)}`,
      { op },
    );
  }
  const list = [...(given as Iterable<Tensor | NamedParameter>)];
  const names = new Map<Tensor, string>();
  const own = new Set<Tensor>();
  const tensors = list.map((entry, i) => {
    const label = isNamed(entry) ? entry[0] : `parameter ${seen.size + i}`;
    const tensor = checkParameter(op, isNamed(entry) ? entry[1] : entry, label);
    if (seen.has(tensor) || own.has(tensor)) {
      throw new ArgumentError(
        `${op}: ${label} was given twice; a shared parameter belongs to one group, once`,
        { op },
      );
    }
    own.add(tensor);
    if (isNamed(entry)) names.set(tensor, label);
    return tensor;
  });
  return { params: tensors, names };
}
