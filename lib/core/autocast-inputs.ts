// Applies a cast policy to the arguments of an operation, with the cache of weight casts.

import { isDType, isFloating, type DType, type FloatDType } from "../dtype.js";
import { DTypeError } from "../errors.js";
import { context, enableGrad, type AutocastState } from "./context.js";
import type { CastPolicy } from "./policy.js";
import { forEachTensor, keep, outsideScopes } from "./scope.js";
import { gradOps } from "./grad-node.js";
import { Tensor } from "./tensor.js";

function isEligible(value: unknown, state: AutocastState): value is Tensor {
  return (
    value instanceof Tensor &&
    isFloating(value.dtype) &&
    value.dtype !== "float64" &&
    (value.device === "cpu") === (state.device === "cpu")
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

function mapTensors(
  value: unknown,
  cast: (tensor: Tensor) => Tensor,
  state: AutocastState,
): unknown {
  if (isEligible(value, state)) return cast(value);
  if (Array.isArray(value)) return value.map((item) => mapTensors(item, cast, state));
  // Tensors among the options (an attention mask, a class weight) are operands like the others.
  if (value !== null && typeof value === "object") {
    const prototype = Object.getPrototypeOf(value) as unknown;
    if (prototype === Object.prototype && Object.values(value).some((v) => v instanceof Tensor)) {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, mapTensors(item, cast, state)]),
      );
    }
  }
  return value;
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

/**
 * The arguments of an operation, its tensors cast as `policy` says, or to a dtype. Casts that are not in the cache are
 * added to `temporaries`: they are of use to this call only.
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
    const options = args.find(
      (arg) =>
        arg !== null && typeof arg === "object" && "dtype" in arg && !(arg instanceof Tensor),
    );
    if (options !== undefined || !isEligible(args[0], state)) return args;
  }
  const cast = (tensor: Tensor): Tensor => castTo(tensor, target, state, temporaries);
  return args.map((arg) => mapTensors(arg, cast, state)) as A;
}

/**
 * Lets go of the casts that were made for one call, now that it is over; what backward needs of them
 * is held by the graph. An operation that returned an argument as it is returned a cast, which then
 * stays: a second owner of one that the cache has.
 */
export function finishCasts<R>(
  result: R,
  args: readonly unknown[],
  inputs: readonly unknown[],
  temporaries: readonly Tensor[],
): R {
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
