// Operations with a gradient of the user's own.

import { isDType, isFloating, type FloatDType } from "../dtype.js";
import { ArgumentError, describe, GradError } from "../errors.js";
import { context, noGrad, type AutocastState } from "./context.js";
import { defineName, runCast } from "./dispatch.js";
import { record, type InputGrads } from "./grad-node.js";
import { Tensor } from "./tensor.js";

/** What `forward` may return in place of its outputs: these, and what backward needs. */
export interface OutputsAndSaved<R> {
  readonly outputs: R;
  /** Tensors for {@link BackwardContext.saved}: inputs, outputs, or made on the way. */
  readonly saved: readonly Tensor[];
}

/** What `backward` gets beside the gradients of the outputs. */
export interface BackwardContext<A extends unknown[]> {
  /** What `forward` saved; empty where it saved nothing of its own. */
  readonly saved: readonly Tensor[];
  /**
   * The arguments of the call, after autocast. Where `forward` saved tensors of its own, those
   * among the arguments were not kept, and reading one throws GradError.
   */
  readonly inputs: A;
  /** The outputs; empty where `forward` saved tensors of its own. */
  readonly outputs: readonly Tensor[];
  /** Whether each argument needs a gradient: false for what is no tensor. */
  readonly needs: readonly boolean[];
}

type Gradient<R> = R extends Tensor ? Tensor : { [K in keyof R]: Tensor };

/** The definition of an operation for {@link customOp}. */
export interface CustomOpDefinition<A extends unknown[], R extends Tensor | readonly Tensor[]> {
  /** Name in errors, and in the lists of an autocast region. Default: `customOp`. */
  name?: string;
  /** Computes the outputs; nothing in it is recorded. */
  forward: (...args: A) => R | OutputsAndSaved<R>;
  /**
   * The gradients of the arguments, in their order, null where none flows; a single one may be
   * returned as it is. Gets the gradient of the output, or a list where `forward` returns a list.
   * With `createGraph` it is recorded itself.
   */
  backward: (
    gradOutput: Gradient<R>,
    context: BackwardContext<A>,
  ) => Tensor | null | readonly (Tensor | null | undefined)[];
  /**
   * Inside an autocast region: the dtype, or the policy, by which floating tensors among the
   * arguments are cast before `forward` and `backward` run with autocast off. Default: both run
   * under the region's autocast, as it was at the call.
   */
  autocast?: FloatDType | "low" | "promote" | "none";
}

const POLICIES: readonly unknown[] = [undefined, "low", "promote", "none"];

function checkDefinition(definition: unknown): void {
  const { forward, backward, autocast } = (definition ?? {}) as Record<string, unknown>;
  if (typeof forward !== "function" || typeof backward !== "function") {
    throw new ArgumentError("customOp: expected { forward, backward }, two functions", {
      op: "customOp",
    });
  }
  if (POLICIES.includes(autocast) || (isDType(autocast) && isFloating(autocast))) return;
  throw new ArgumentError(
    `customOp: autocast — expected a floating dtype, "low", "promote" or "none", got ` +
      describe(autocast),
    { op: "customOp" },
  );
}

/** The outputs that `forward` returned, as tensors that a node can be put on. */
function ownOutputs(name: string, returned: unknown, args: readonly unknown[]): Tensor[] {
  const list: readonly unknown[] = Array.isArray(returned) ? returned : [returned];
  return list.map((output) => {
    if (!(output instanceof Tensor)) {
      throw new GradError(
        `${name}: expected forward to return a tensor, a list of tensors, or { outputs, saved }, ` +
          `got ${output === null ? "null" : typeof output}`,
        { op: name },
      );
    }
    // An argument or a parameter that is passed through keeps its own place in the graph.
    return output.requiresGrad || args.includes(output) ? output.detach() : output;
  });
}

/** Brings what `backward` returned to one gradient for each tensor among the arguments. */
function tensorGrads(name: string, returned: unknown, others: readonly unknown[]): InputGrads {
  const isTensor = others.map((other) => other === TENSOR);
  const list: readonly unknown[] = Array.isArray(returned) ? returned : [returned];
  if (list.length !== isTensor.length) {
    throw new GradError(
      `${name}: expected backward to return a gradient or null for each of the ${isTensor.length} ` +
        `arguments, got ${list.length}`,
      { op: name },
    );
  }
  const grads: (Tensor | null)[] = [];
  list.forEach((grad, i) => {
    const none = grad === null || grad === undefined;
    if (!none && (!(grad instanceof Tensor) || isTensor[i] !== true)) {
      throw new GradError(
        `${name}: backward returned a gradient that is no tensor, or one for argument ${i}, which is ` +
          `none`,
        { op: name },
      );
    }
    if (isTensor[i] === true) grads.push(none ? null : grad);
  });
  return grads;
}

/** The arguments and outputs as backward gets them. */
function backwardContext<A extends unknown[]>(
  name: string,
  others: readonly unknown[],
  tensors: readonly Tensor[],
  needs: readonly boolean[],
  chosen: boolean,
): BackwardContext<A> {
  const isTensor = others.map((other) => other === TENSOR);
  let next = 0;
  const inputs = [...others];
  const argumentNeeds = isTensor.map((is) => is && needs[next++] === true);
  next = 0;
  isTensor.forEach((is, i) => {
    if (!is) return;
    if (!chosen) {
      inputs[i] = tensors[next++];
      return;
    }
    Object.defineProperty(inputs, i, {
      get(): never {
        throw new GradError(
          `${name}: backward asked for argument ${i}, which was not kept: forward returned ` +
            `{ outputs, saved }; name it in saved`,
          { op: name },
        );
      },
    });
  });
  return {
    saved: chosen ? tensors : [],
    inputs: inputs as A,
    outputs: chosen ? [] : tensors.slice(next),
    needs: argumentNeeds,
  };
}

/** Runs `body` under the autocast region of the call, whose cache may be gone. */
function underAutocast<T>(state: AutocastState | null, body: () => T): T {
  const present = context.autocast;
  context.autocast = state && { ...state, cache: null };
  try {
    return body();
  } finally {
    context.autocast = present;
  }
}

// In place of a tensor among the arguments, which the node must not hold on to.
const TENSOR = Symbol("tensor");

function call<A extends unknown[], R extends Tensor | readonly Tensor[]>(
  definition: CustomOpDefinition<A, R>,
  name: string,
  args: A,
): R {
  const returned = noGrad(() => definition.forward(...args));
  const chosen = isOutputsAndSaved(returned);
  const raw = chosen ? returned.outputs : returned;
  const outputs = ownOutputs(name, raw, args);
  const tensors = args.filter((arg) => arg instanceof Tensor);
  const saved = chosen ? returned.saved : [...tensors, ...outputs];
  recordCall(definition, name, args, outputs, saved, chosen, !Array.isArray(raw));
  return (Array.isArray(raw) ? outputs : outputs[0]) as unknown as R;
}

// Apart from `call`, so that the node's function holds none of the tensors of the call.
function recordCall<A extends unknown[], R extends Tensor | readonly Tensor[]>(
  definition: CustomOpDefinition<A, R>,
  name: string,
  args: A,
  outputs: readonly Tensor[],
  kept: readonly Tensor[],
  chosen: boolean,
  single: boolean,
): void {
  const others = args.map((arg: unknown) => (arg instanceof Tensor ? TENSOR : arg));
  const state = context.autocast;
  const { backward } = definition;
  const inputs = args.filter((arg) => arg instanceof Tensor);
  record(name, inputs, outputs, kept, (grads, tensors, needs) => {
    const given = backwardContext<A>(name, others, tensors, needs, chosen);
    const gradient = (single ? grads[0] : grads) as Gradient<R>;
    const found = underAutocast(state, () => backward(gradient, given));
    return tensorGrads(name, found, others);
  });
}

function isOutputsAndSaved<R>(returned: R | OutputsAndSaved<R>): returned is OutputsAndSaved<R> {
  return (
    typeof returned === "object" &&
    returned !== null &&
    !(returned instanceof Tensor) &&
    "outputs" in returned &&
    "saved" in returned
  );
}

/**
 * Makes an operation of two functions. `forward` computes outputs without being recorded;
 * `backward` computes the gradients of the arguments from those of the outputs. What backward needs
 * is kept from the call: all arguments and outputs, or, where `forward` returns `{ outputs, saved
 * }`, the tensors in `saved` and nothing else.
 *
 * ```ts
 * const cube = customOp({
 *   forward: (x: Tensor) => x.mul(x).mul(x),
 *   backward: (g, { inputs: [x] }) => g.mul(x.mul(x)).mul(3),
 * });
 * ```
 * @throws ArgumentError for a definition without the two functions; when called, GradError where
 * `forward` or, in a backward, `backward` returns something else than tensors.
 */
export function customOp<A extends unknown[], R extends Tensor | readonly Tensor[]>(
  definition: CustomOpDefinition<A, R>,
): (...args: A) => R {
  checkDefinition(definition);
  const { name = "customOp", autocast = "none" } = definition;
  if (definition.name !== undefined) defineName(name);
  const implementation = (...args: A): R => call(definition, name, args);
  return (...args: A): R => {
    const state = context.autocast;
    if (state === null) return implementation(...args);
    const policy = state.policy?.[name] ?? autocast;
    if (policy === "none") return implementation(...args);
    return runCast(name, policy, state, args, implementation);
  };
}
