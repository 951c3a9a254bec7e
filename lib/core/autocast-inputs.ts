// Applies a cast policy to the arguments of an operation, with the cache of weight casts.

import { isDType, isFloating, type DType, type FloatDType } from "../dtype.js";
import { DTypeError } from "../errors.js";
import { context, enableGrad, type AutocastState } from "./context.js";
import type { CastPolicy } from "./policy.js";
import { forEachTensor, keep, outsideScopes } from "./scope.js";
import { gradOps } from "./grad-node.js";
import { Tensor } from "./tensor.js";

function isEligible(tensor: Tensor, state: AutocastState): boolean {
  const { dtype } = tensor;
  return (
    isFloating(dtype) &&
    dtype !== "float64" &&
    (tensor.device === "cpu") === (state.device === "cpu")
  );
}

function castTo(tensor: Tensor, dtype: DType, state: AutocastState, temporaries: Tensor[]): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const cacheable =
    state.cache !== null &&
    dtype === state.dtype &&
    tensor.dtype === "float32" &&
    tensor.requiresGrad &&
    tensor.isLeaf;
  if (!cacheable) {
    const cast = gradOps.cast(tensor, dtype);
    temporaries.push(cast);
    return cast;
  }
  const { storage } = tensor.handle;
  const { version } = storage;
  const cached = state.cache.get(tensor);
  const isCurrent = cached?.storage === storage && cached.version === version;
  if (isCurrent && !cached.cast.isDisposed) return cached.cast;
  cached?.cast.dispose();
  // Always with history: a cast made in a noGrad pass and used again later in the region would lose
  // the weight's gradient.
  const cast = outsideScopes(() => enableGrad(() => keep(gradOps.cast(tensor, dtype))));
  cast.node!.isShared = true;
  state.cache.set(tensor, { cast, storage, version });
  return cast;
}

/** `value` with its tensors that autocast may cast replaced; itself where none was. */
function mapTensors(
  value: unknown,
  cast: (tensor: Tensor) => Tensor,
  state: AutocastState,
): unknown {
  if (value === null || typeof value !== "object") return value;
  if (value instanceof Tensor) return isEligible(value, state) ? cast(value) : value;
  if (Array.isArray(value)) return value.map((item) => mapTensors(item, cast, state));
  // Tensors among the options (an attention mask, a class weight) are operands like the others.
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  let mapped: Record<string, unknown> | null = null;
  for (const key of Object.keys(value)) {
    const item = (value as Record<string, unknown>)[key];
    if (item instanceof Tensor && isEligible(item, state)) {
      mapped ??= { ...value };
      mapped[key] = cast(item);
    }
  }
  return mapped ?? value;
}

function widest(name: string, args: readonly unknown[], state: AutocastState): DType {
  let dtype: DType = state.dtype;
  const visit = (tensor: Tensor): Tensor => {
    if (tensor.dtype === "float32") {
      dtype = "float32";
    } else if (tensor.dtype !== state.dtype) {
      throw new DTypeError(
        `${name}: autocast to ${state.dtype} met a ${tensor.dtype} operand; cast it first`,
        { op: name },
      );
    }
    return tensor;
  };
  for (const arg of args) mapTensors(arg, visit, state);
  return dtype;
}

/** Whether the caller named the dtype of the output. */
function namesDtype(args: readonly unknown[]): boolean {
  for (const arg of args) {
    if (arg !== null && typeof arg === "object" && !(arg instanceof Tensor) && "dtype" in arg) {
      return true;
    }
  }
  return false;
}

/**
 * The arguments of an operation, its tensors cast as `policy` says, or to a dtype; the list itself
 * where nothing is cast. Casts that are not in the cache are added to `temporaries`: they are of
 * use to this call only.
 */
export function autocastInputs<A extends unknown[]>(
  name: string,
  policy: CastPolicy | FloatDType,
  state: AutocastState,
  args: A,
  temporaries: Tensor[],
): A {
  let target: DType = isDType(policy) ? policy : "float32";
  if (policy === "low") target = state.dtype;
  if (policy === "promote") target = widest(name, args, state);
  if (policy === "float32-output") {
    const [first] = args;
    if (!(first instanceof Tensor) || !isEligible(first, state) || namesDtype(args)) return args;
  }
  const cast = (tensor: Tensor): Tensor => castTo(tensor, target, state, temporaries);
  let inputs: unknown[] | null = null;
  for (let i = 0; i < args.length; i++) {
    const input = mapTensors(args[i], cast, state);
    if (input === args[i]) continue;
    inputs ??= args.slice();
    inputs[i] = input;
  }
  return (inputs ?? args) as A;
}

/**
 * Lets go of the casts that were made for one call, now that it is over; what backward needs of
 * them is held by the graph. An operation that returned an argument as it is returned a cast, which
 * then stays: a second owner of one that the cache has.
 */
export function finishCasts<R>(
  result: R,
  args: readonly unknown[],
  inputs: readonly unknown[],
  temporaries: readonly Tensor[],
): R {
  if (inputs === args) return result;
  if (!(result instanceof Tensor)) {
    const returned = new Set<Tensor>();
    if (temporaries.length > 0) forEachTensor(result, (tensor) => returned.add(tensor));
    for (const cast of temporaries) if (!returned.has(cast)) cast.dispose();
    return result;
  }
  let isTemporary = false;
  for (const cast of temporaries) {
    if (cast === result) isTemporary = true;
    else cast.dispose();
  }
  if (isTemporary || !inputs.includes(result) || args.includes(result)) return result;
  const owned = result.alias();
  context.scope?.push(owned);
  return owned as R & Tensor;
}
