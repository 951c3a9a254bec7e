// One walk of the engine (lib/core/tape.ts) over the graph: gradients between the nodes that make
// them and those that wait for them, and what fused backwards may know of the nodes around theirs.

import { ShapeError } from "../errors.js";
import { formatShape, sameShape } from "../shape.js";
import { gradOps, type FusingEngine, type GradNode, type OutputMeta } from "./grad-node.js";
import { keep } from "./scope.js";
import type { Tensor } from "./tensor.js";

/** A run of the engine, as it was asked for. */
export interface BackwardRequest {
  readonly roots: readonly Tensor[];
  readonly rootGrads: readonly Tensor[];
  /** Those of them that the caller gave; the others are released when they were handed on. */
  readonly givenGrads: readonly (Tensor | undefined)[];
  readonly retainGraph: boolean;
  readonly createGraph: boolean;
  /** Where gradients are wanted; null means to accumulate into the leaves. */
  readonly targets: readonly { node: GradNode; index: number }[] | null;
}

function checkGrad(grad: Tensor, meta: OutputMeta, name: string): Tensor {
  if (!sameShape(grad.shape, meta.shape)) {
    throw new ShapeError(
      `backward: ${name} returned a gradient of shape ${formatShape(grad.shape)} for an input of ` +
        `shape ${formatShape(meta.shape)}`,
      { op: name },
    );
  }
  return grad.dtype === meta.dtype ? grad : gradOps.cast(grad, meta.dtype);
}

/**
 * Adds a gradient to a leaf's `grad`. With `mayTake` the caller gives the tensor away, and it
 * becomes the gradient itself unless its memory has another owner. Returns whether it was taken.
 */
function accumulateInto(
  leaf: Tensor,
  grad: Tensor,
  createGraph: boolean,
  mayTake: boolean,
): boolean {
  const previous = leaf.grad;
  if (previous !== null && !previous.isDisposed) {
    // A gradient that is a view (set by the user, or recorded) need not be dense.
    if (createGraph || !previous.isContiguous) leaf.grad = keep(gradOps.add(previous, grad));
    else gradOps.accumulate(previous, grad);
    return false;
  }
  const take = createGraph || (mayTake && grad.handle.isSoleOwner && grad.isContiguous);
  leaf.grad = keep(take ? grad : gradOps.clone(grad));
  return take;
}

/** One walk over the graph: the gradients on their way to each node that was not reached yet. */
export class Walk implements FusingEngine {
  private readonly pending = new Map<GradNode, (Tensor | null)[]>();
  private readonly sums = new Map<GradNode, { readonly of: Tensor; readonly sums: Tensor }>();
  private readonly passed = new Set<GradNode>();
  private current: GradNode | null = null;

  constructor(private readonly request: BackwardRequest) {}

  get node(): GradNode {
    return this.current!;
  }

  get accumulates(): boolean {
    return this.request.targets === null;
  }

  isTarget(node: GradNode): boolean {
    return this.request.targets?.some((target) => target.node === node) ?? false;
  }

  columnSums(gradOutput: Tensor): Tensor | null {
    const found = this.sums.get(this.node);
    return found?.of === gradOutput ? found.sums : null;
  }

  /** Whether a gradient went by this node, so that its turn may come without one. */
  wasPassed(node: GradNode): boolean {
    return this.passed.has(node);
  }

  /** Computes the gradients of a node's inputs. */
  run(node: GradNode, gradOutputs: Tensor[]): ReturnType<GradNode["apply"]> {
    this.current = node;
    return node.apply(gradOutputs, this.request.createGraph ? null : this);
  }

  /** Hands a gradient past `node`, which would only have changed what it was already changed to. */
  deliverPast(node: GradNode, grad: Tensor, mayTake: boolean): boolean {
    this.passed.add(node);
    return this.deliver(node.next[0]!, node.nextIndex[0]!, grad, mayTake);
  }

  /** Keeps the sums that came with a gradient, where it is the only one of its node so far. */
  keepSums(receiver: GradNode, grad: Tensor, sums: Tensor): boolean {
    if (this.pending.get(receiver)?.[0] !== grad) return false;
    this.sums.set(receiver, { of: grad, sums });
    return true;
  }

  /** Lets go of the sums for a node, or for all. */
  dropSums(node?: GradNode): void {
    for (const [receiver, { sums }] of this.sums) {
      if (node !== undefined && receiver !== node) continue;
      sums.dispose();
      this.sums.delete(receiver);
    }
  }

  take(node: GradNode): (Tensor | null)[] | undefined {
    const slots = this.pending.get(node);
    this.pending.delete(node);
    return slots;
  }

  /** Hands a gradient to a node; returns whether the tensor itself was taken. */
  deliver(node: GradNode, index: number, grad: Tensor, mayTake: boolean): boolean {
    const { createGraph, targets } = this.request;
    const checked = checkGrad(grad, node.outputs[index]!, node.name);
    const converted = checked !== grad;
    if (node.leaf !== null && targets === null) {
      const taken = accumulateInto(node.leaf, checked, createGraph, mayTake || converted);
      if (converted && !taken && !createGraph) checked.dispose();
      return taken && !converted;
    }
    let slots = this.pending.get(node);
    if (slots === undefined) {
      slots = node.outputs.map(() => null);
      this.pending.set(node, slots);
    }
    const arrived = slots[index];
    if (arrived === null || arrived === undefined) {
      slots[index] = converted || mayTake || createGraph ? checked : grad.alias();
      return !converted && mayTake;
    }
    slots[index] = gradOps.add(arrived, checked);
    if (!createGraph) {
      arrived.dispose();
      if (converted) checked.dispose();
    }
    return false;
  }
}
