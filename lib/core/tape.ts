// Reverse-mode differentiation: the engine that walks the nodes of lib/core/grad-node.ts from
// outputs to leaves.

import { describe, DTypeError, GradError, ShapeError } from "../errors.js";
import { formatShape, sameShape } from "../shape.js";
import { context } from "./context.js";
import { edgeOf, FusedGrad, gradOps, type GradNode } from "./grad-node.js";
import { checkOptions } from "./options.js";
import { tapeEntry, Tensor, type BackwardOptions } from "./tensor.js";
import { Walk, type BackwardRequest } from "./walk.js";

export { FusedGrad, gradOps, record, recording, recordNode, Unstored } from "./grad-node.js";
export type { BackwardFn, FusingEngine, InputGrads } from "./grad-node.js";

let enginesRunning = 0;
const atEnd: (() => void)[] = [];

/** Runs `callback` when the backward that is running now, the outermost one, has ended. */
export function afterBackward(callback: () => void): void {
  atEnd.push(callback);
}

/** Nodes reachable from the roots, newest first. */
function reachable(roots: readonly GradNode[]): GradNode[] {
  const seen = new Set<GradNode>(roots);
  const stack = [...seen];
  while (stack.length > 0) {
    for (const next of stack.pop()!.next) {
      if (next !== null && !seen.has(next)) {
        seen.add(next);
        stack.push(next);
      }
    }
  }
  return [...seen].sort((a, b) => b.sequence - a.sequence);
}

/** Those of `nodes` (newest first) from which a target can be reached. */
function leadingTo(nodes: readonly GradNode[], targets: ReadonlySet<GradNode>): Set<GradNode> {
  const needed = new Set<GradNode>(targets);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!;
    if (node.next.some((next) => next !== null && needed.has(next))) needed.add(node);
  }
  return needed;
}

/** Runs one node's backward and hands on what it returns. */
function runNode(
  walk: Walk,
  node: GradNode,
  slots: readonly (Tensor | null)[],
  wanted: (next: GradNode) => boolean,
  createGraph: boolean,
): void {
  const gradOutputs = slots.map((slot, i) => {
    const { shape, dtype, device } = node.outputs[i]!;
    return slot ?? gradOps.full(shape, 0, dtype, device);
  });
  const made: Tensor[] = [];
  if (!createGraph) context.scope = made;
  const grads = walk.run(node, gradOutputs);
  if (!createGraph) context.scope = null;
  const owned = new Set([...made, ...gradOutputs]);
  grads.forEach((returned, i) => {
    const next = node.next[i];
    if (!returned || !next || !wanted(next)) return;
    const fused = returned instanceof FusedGrad ? returned : null;
    const grad = fused === null ? (returned as Tensor) : fused.grad;
    const mayTake = !createGraph && owned.has(grad);
    const taken =
      fused?.passes === true
        ? walk.deliverPast(next, grad, mayTake)
        : walk.deliver(next, node.nextIndex[i]!, grad, mayTake);
    if (taken) owned.delete(grad);
    const sums = fused?.columnSums ?? null;
    if (sums === null) return;
    const receiver = fused!.passes ? next.next[0]! : next;
    if (walk.keepSums(receiver, grad, sums)) owned.delete(sums);
  });
  walk.dropSums(node);
  // What the backward made and did not return is released at once.
  if (!createGraph) for (const tensor of owned) tensor.dispose();
}

function runEngine(request: BackwardRequest): (Tensor | null)[] {
  const { roots, createGraph, retainGraph, targets } = request;
  const rootNodes = roots.map((root) => edgeOf(root)!);
  const order = reachable(rootNodes);
  const needed = targets && leadingTo(order, new Set(targets.map((target) => target.node)));
  const wanted = (node: GradNode): boolean => needed === null || needed.has(node);
  const captured: (Tensor | null)[] = (targets ?? []).map(() => null);
  const walk = new Walk(request);
  const scope = context.scope;
  if (!createGraph) context.scope = null;
  enginesRunning++;
  try {
    roots.forEach((root, i) => {
      const rootGrad = request.rootGrads[i]!;
      walk.deliver(rootNodes[i]!, root.node ? root.outputIndex : 0, rootGrad, false);
      if (!createGraph && rootGrad !== request.givenGrads[i]) rootGrad.dispose();
    });
    for (const node of order) {
      const slots = wanted(node) ? walk.take(node) : undefined;
      if (slots === undefined) {
        if (!retainGraph && walk.wasPassed(node)) node.free();
        continue;
      }
      targets?.forEach((target, i) => {
        const slot = target.node === node ? slots[target.index] : null;
        if (slot) captured[i] = createGraph ? slot : slot.alias();
      });
      if (node.leaf === null && node.next.some((next) => next !== null && wanted(next))) {
        runNode(walk, node, slots, wanted, createGraph);
        if (!retainGraph) node.free();
      } else if (!createGraph) {
        for (const slot of slots) slot?.dispose();
      }
    }
  } finally {
    walk.dropSums();
    context.scope = scope;
    if (--enginesRunning === 0) for (const callback of atEnd.splice(0)) callback();
  }
  return captured;
}

function rootGrad(root: Tensor, gradient: Tensor | undefined, op: string): Tensor {
  root.assertUsable(op);
  if (!root.requiresGrad) {
    throw new GradError(
      `${op}: the ${root.dtype} tensor of shape ${formatShape(root.shape)} does not require ` +
        `gradients: nothing it was made from does, or it was made inside noGrad`,
      { op },
    );
  }
  if (gradient === undefined) {
    if (root.numel !== 1) {
      throw new GradError(
        `${op}: a gradient can be left out for one element only, got a tensor of shape ` +
          formatShape(root.shape),
        { op },
      );
    }
    return gradOps.full(root.shape, 1, root.dtype, root.device);
  }
  if (!((gradient as unknown) instanceof Tensor)) {
    throw new DTypeError(`${op}: expected the gradient to be a Tensor, got ${describe(gradient)}`, {
      op,
    });
  }
  gradient.assertUsable(op);
  if (!sameShape(gradient.shape, root.shape)) {
    throw new ShapeError(
      `${op}: gradient of shape ${formatShape(gradient.shape)} for a tensor of shape ` +
        formatShape(root.shape),
      { op },
    );
  }
  return gradient;
}

function withMode<T>(createGraph: boolean, fn: () => T): T {
  const { gradEnabled, autocast } = context;
  context.gradEnabled = createGraph;
  // Each backward computes in the dtypes that its forward saved.
  context.autocast = null;
  try {
    return fn();
  } finally {
    context.gradEnabled = gradEnabled;
    context.autocast = autocast;
  }
}

tapeEntry.backward = (root: Tensor, gradient: Tensor | undefined, options: BackwardOptions) => {
  checkOptions("backward", options, ["retainGraph", "createGraph"]);
  const createGraph = options.createGraph ?? false;
  withMode(createGraph, () =>
    runEngine({
      roots: [root],
      rootGrads: [rootGrad(root, gradient, "backward")],
      givenGrads: [gradient],
      retainGraph: options.retainGraph ?? createGraph,
      createGraph,
      targets: null,
    }),
  );
};

/** Options of {@link grad}. */
export interface GradOptions extends BackwardOptions {
  /** Gradients of the outputs; ones for outputs of one element where left out. */
  gradOutputs?: Tensor | readonly (Tensor | undefined)[];
  /** Gives null, instead of an error, for inputs that the outputs do not depend on. */
  allowUnused?: boolean;
}

function tensorList(op: string, role: string, given: unknown): readonly Tensor[] {
  const list: unknown = given instanceof Tensor ? [given] : given;
  if (Array.isArray(list) && list.every((item) => item instanceof Tensor)) return list;
  throw new DTypeError(`${op}: expected ${role} to be a Tensor or a list, got ${describe(given)}`, {
    op,
  });
}

/**
 * Gradients of `outputs` with respect to `inputs`, without touching any `grad`.
 * @returns one gradient for one input, a list for a list.
 * @throws GradError when an input is not part of the graph, unless `allowUnused`.
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor,
  options?: GradOptions & { allowUnused?: false },
): Tensor;
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options?: GradOptions & { allowUnused?: false },
): Tensor[];
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options?: GradOptions,
): Tensor | null | (Tensor | null)[];
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradOptions = {},
): Tensor | null | (Tensor | null)[] {
  checkOptions("grad", options, ["gradOutputs", "retainGraph", "createGraph", "allowUnused"]);
  const roots = tensorList("grad", "outputs", outputs);
  const list = tensorList("grad", "inputs", inputs);
  const given =
    options.gradOutputs instanceof Tensor ? [options.gradOutputs] : (options.gradOutputs ?? []);
  const createGraph = options.createGraph ?? false;
  const targets = list.map((input, i) => {
    const node = edgeOf(input);
    if (node !== null) return { node, index: input.node ? input.outputIndex : 0 };
    throw new GradError(`grad: input ${i} does not require gradients`, { op: "grad" });
  });
  const result = withMode(createGraph, () =>
    runEngine({
      roots,
      rootGrads: roots.map((root, i) => rootGrad(root, given[i], "grad")),
      givenGrads: given,
      retainGraph: options.retainGraph ?? createGraph,
      createGraph,
      targets,
    }),
  );
  result.forEach((found, i) => {
    if (found !== null) {
      context.scope?.push(found);
      return;
    }
    if (options.allowUnused !== true) {
      throw new GradError(
        `grad: input ${i} was not used to compute the outputs; pass { allowUnused: true } to get ` +
          `null for it`,
        { op: "grad" },
      );
    }
  });
  return inputs instanceof Tensor ? result[0]! : result;
}
