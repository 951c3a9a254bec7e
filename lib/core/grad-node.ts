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
 * itself.
 */
export type BackwardFn = (
  gradOutputs: Tensor[],
  saved: Tensor[],
  needs: readonly boolean[],
) => InputGrads;

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
    inputs: readonly (Tensor | null | undefined)[],
    readonly outputs: readonly OutputMeta[],
    private backwardFn: BackwardFn | null,
    /** The leaf that this node accumulates into, when it does. */
    readonly leaf: Tensor | null = null,
  ) {
    const next: (GradNode | null)[] = [];
    const nextIndex: number[] = [];
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i];
      next.push(input ? edgeOf(input) : null);
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
  apply(gradOutputs: Tensor[]): InputGrads {
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
    );
  }

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
export function recording(inputs: readonly (Tensor | null | undefined)[]): boolean {
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
  inputs: readonly (Tensor | null | undefined)[],
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

function metaOf({ shape, dtype, device }: Tensor): OutputMeta {
  return { shape, dtype, device };
}
