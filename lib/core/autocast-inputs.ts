// Applies a cast policy to the arguments of an operation, with the cache of weight casts.

import { isFloating, type DType } from "../dtype.js";
import { DTypeError } from "../errors.js";
import { enableGrad, type AutocastState } from "./context.js";
import type { CastPolicy } from "./policy.js";
import { keep, outsideScopes } from "./scope.js";
import { gradOps } from "./tape.js";
import { Tensor } from "./tensor.js";

function isEligible(value: unknown, state: AutocastState): value is Tensor {
  return (
    value instanceof Tensor &&
    isFloating(value.dtype) &&
    value.dtype !== "float64" &&
    (value.device === "cpu") === (state.device === "cpu")
  );
}

function castTo(tensor: Tensor, dtype: DType, state: AutocastState): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const cacheable =
    state.cache !== null &&
    dtype === state.dtype &&
    tensor.dtype === "float32" &&
    tensor.requiresGrad &&
    tensor.isLeaf;
  if (!cacheable) return gradOps.cast(tensor, dtype);
  const version = tensor.handle.storage.version;
  const cached = state.cache.get(tensor);
  if (cached !== undefined && cached.version === version && !cached.cast.isDisposed) {
    return cached.cast;
  }
  cached?.cast.dispose();
  // Always with history: a cast made in a noGrad pass and used again later in the region would lose
  // the weight's gradient.
  const cast = outsideScopes(() => enableGrad(() => keep(gradOps.cast(tensor, dtype))));
  state.cache.set(tensor, { cast, version });
  return cast;
}

function mapTensors(value: unknown, cast: (tensor: Tensor) => Tensor, state: AutocastState): unknown {
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

/** The arguments of an operation, its tensors cast as `policy` says. */
export function autocastInputs<A extends unknown[]>(
  name: string,
  policy: CastPolicy,
  state: AutocastState,
  args: A,
): A {
  let target: DType = policy === "low" ? state.dtype : "float32";
  if (policy === "promote") target = widest(name, args, state);
  if (policy === "float32-output") {
    const options = args.find(
      (arg) => arg !== null && typeof arg === "object" && "dtype" in arg && !(arg instanceof Tensor),
    );
    if (options !== undefined || !isEligible(args[0], state)) return args;
  }
  return args.map((arg) => mapTensors(arg, (tensor) => castTo(tensor, target, state), state)) as A;
}
