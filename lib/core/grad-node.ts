// The tape: a node for each recorded operation, with what its backward needs. The engine that walks
// them is in lib/core/tape.ts.

import { isFloating, type Device, type DType } from "../dtype.js";
import { GradError } from "../errors.js";
import { formatShape, type Shape } from "../shape.js";
import { context, type SavedTensor } from "./context.js";
import type { Tensor } from "./tensor.js";

/** Gradients of an operation's inputs, in their order; null where none flows. */
export type InputGrads = readonly (Tensor | null | undefined)[];

/**
 * Computes the gradients of an operation's inputs from those of its outputs (absent ones are
 * zeros), the tensors it saved, and which inputs need one. With `createGraph` it is recorded
 * itself; without, `engine` lets it do part of its neighbours' work.
 */
export type BackwardFn = (
  gradOutputs: Tensor[],
  saved: Tensor[],
  needs: readonly boolean[],
  engine: FusingEngine | null,
) => readonly (Tensor | FusedGrad | null | undefined)[];

/** What a backward that computes more than its own gradients may know of the graph around it. */
export interface FusingEngine {
  /** The node whose backward runs. */
  readonly node: GradNode;
  /** Whether gradients are added to the leaves' `grad`, and not collected for `grad()`. */
  readonly accumulates: boolean;
  /** Whether the gradients of a node's outputs are asked for, so that it must not be passed over. */
  isTarget(node: GradNode): boolean;
  /** The sums over all but the last dimension of a gradient that arrived alone, if known: float32. */
  columnSums(gradOutput: Tensor): Tensor | null;
}

/** A gradient with what was computed along with it. */
export class FusedGrad {
  constructor(
    readonly grad: Tensor,
    /** Whether it has gone through the node that made the input, and is one for that node's input. */
    readonly passes: boolean,
    /** Its sums over all but the last dimension. */
    readonly columnSums: Tensor | null = null,
  ) {}
}

/** A value in the graph that no tensor holds, since a fused kernel did not store it. */
export class Unstored {
  readonly requiresGrad = true;
  readonly outputIndex = 0;
  constructor(readonly node: GradNode) {}
}

/** What the engine needs of the operations that stand above it; set by lib/ops. */
export const gradOps: {
  add: (lhs: Tensor, rhs: Tensor) => Tensor;
  accumulate: (destination: Tensor, source: Tensor) => void;
  cast: (x: Tensor, dtype: DType) => Tensor;
  full: (shape: Shape, value: number, dtype: DType, device: Device) => Tensor;
  clone: (x: Tensor) => Tensor;
} = {
  add: missing,
  accumulate: missing,
  cast: missing,
  full: missing,
  clone: missing,
};

function missing(): never {
  throw new GradError("backward: the operations are not loaded");
}

export interface OutputMeta {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly device: Device;
}

let nextSequence = 0;

/** Throws GradError where `tensor` was written to since its storage had `version`. */
export function checkVersion(tensor: Tensor, version: number, op: string): void {
  const now = tensor.handle.storage.version;
  if (now === version) return;
  throw new GradError(
    `backward: ${op} saved a ${tensor.dtype} tensor of shape ${formatShape(tensor.shape)} that was ` +
      `changed in place since: it is at version ${now}, expected ${version}`,
    { op },
  );
}

/** A second owner of a tensor, which keeps its memory until backward has passed. */
class OwnedTensor implements SavedTensor {
  private readonly tensor: Tensor;
  private readonly version: number;

  constructor(tensor: Tensor) {
    this.tensor = tensor.alias();
    this.version = tensor.handle.storage.version;
  }

  unpack(op: string): Tensor {
    checkVersion(this.tensor, this.version, op);
    return this.tensor;
  }

  free(): void {
    this.tensor.dispose();
  }
}

/** Keeps a tensor for a backward to come. */
export function saveTensor(tensor: Tensor, op: string): SavedTensor {
  return context.saving === null ? new OwnedTensor(tensor) : context.saving(tensor, op);
}

/** A recorded operation. */
export class GradNode {
  /** Grows with every node: inputs are always older than what is made of them. */
  readonly sequence: number;
  /** The nodes that made the inputs, or accumulate into them; null where no gradient flows. */
  readonly next: readonly (GradNode | null)[];
  readonly nextIndex: readonly number[];
  private saved: readonly SavedTensor[] = [];
  private freed = false;

  constructor(
    readonly name: string,
    inputs: readonly (Tensor | Unstored | null | undefined)[],
    readonly outputs: readonly OutputMeta[],
    private backwardFn: BackwardFn | null,
    /** The leaf that this node accumulates into, when it does. */
    readonly leaf: Tensor | null = null,
  ) {
    const next: (GradNode | null)[] = [];
    const nextIndex: number[] = [];
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i];
      next.push(input ? (input.node ?? edgeOf(input as Tensor)) : null);
      nextIndex.push(input?.node ? input.outputIndex : 0);
    }
    this.next = next;
    this.nextIndex = nextIndex;
    // After the edges, which may make a node for a leaf.
    this.sequence = nextSequence++;
  }

  save(tensors: readonly Tensor[]): void {
    this.saved = tensors.map((tensor) => saveTensor(tensor, this.name));
  }

  /** Computes the gradients of the inputs. */
  apply(gradOutputs: Tensor[], engine: FusingEngine | null): ReturnType<BackwardFn> {
    if (this.freed) {
      throw new GradError(
        `backward: the graph of ${this.name} was freed by an earlier backward; pass ` +
          `{ retainGraph: true } to the first one to run it again`,
        { op: this.name },
      );
    }
    const tensors = this.saved.map((saved) => saved.unpack(this.name));
    return this.backwardFn!(
      gradOutputs,
      tensors,
      this.next.map((node) => node !== null),
      engine,
    );
  }

  /** A tensor that this node saved, for the backward of another one that does its work. */
  savedTensor(index: number): Tensor {
    return this.saved[index]!.unpack(this.name);
  }

  /**
   * Set where the node only applies an activation (a code of GemmActivation) with the derivative
   * given by its first saved tensor: a product can do it on the way.
   */
  activation = 0;

  /** Set where the node only changes the dtype. */
  isCast = false;

  /** Set where the node can use the column sums of the gradient of its output. */
  wantsColumnSums = false;

  /**
   * Set on the cached cast of a weight: it is in the graphs of several losses, each with a backward
   * of its own, and outlives the first.
   */
  isShared = false;

  /** Lets go of the saved tensors. */
  free(): void {
    if (this.leaf !== null || this.isShared) return;
    this.freed = true;
    for (const saved of this.saved) saved.free();
    this.saved = [];
    this.backwardFn = null;
  }
}

/** The node that a gradient of `input` goes to; null where none is wanted. */
export function edgeOf(input: Tensor): GradNode | null {
  if (input.node !== null) return input.node;
  if (!input.requiresGrad) return null;
  return (input.accumulator ??= new GradNode(
    "accumulate",
    [],
    [{ shape: input.shape, dtype: input.dtype, device: input.device }],
    null,
    input,
  ));
}

/** Whether an operation on these inputs has to be recorded. */
export function recording(inputs: readonly (Tensor | Unstored | null | undefined)[]): boolean {
  if (!context.gradEnabled) return false;
  for (let i = 0; i < inputs.length; i++) if (inputs[i]?.requiresGrad === true) return true;
  return false;
}

/**
 * Records an operation on the tape: `outputs` were computed from `inputs`, and `backward` gets
 * `saved` back. Does nothing when no input requires gradients. Outputs that are not floating point
 * get no gradient.
 */
export function record(
  name: string,
  inputs: readonly (Tensor | Unstored | null | undefined)[],
  outputs: readonly Tensor[],
  saved: readonly Tensor[],
  backward: BackwardFn,
): void {
  if (!recording(inputs)) return;
  const node = new GradNode(name, inputs, outputs.map(metaOf), backward);
  for (let index = 0; index < outputs.length; index++) {
    const output = outputs[index]!;
    if (!isFloating(output.dtype)) continue;
    output.node = node;
    output.outputIndex = index;
  }
  node.save(saved);
}

/** As {@link record}, for outputs that no tensor need hold. */
export function recordNode(
  name: string,
  inputs: readonly (Tensor | Unstored | null | undefined)[],
  outputs: readonly OutputMeta[],
  saved: readonly Tensor[],
  backward: BackwardFn,
): GradNode | null {
  if (!recording(inputs)) return null;
  const node = new GradNode(name, inputs, outputs.map(metaOf), backward);
  node.save(saved);
  return node;
}

function metaOf({ shape, dtype, device }: OutputMeta): OutputMeta {
  return { shape, dtype, device };
}
