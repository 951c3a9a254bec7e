// The tensor: a handle to native memory, its shape and dtype, and its place in the graph of
// gradients. Knows no operations; lib/ops/methods.ts adds them to the prototype.
//
// The declarations name Symbol.dispose, which targets older than "using" do not know of themselves:
/// <reference lib="esnext.disposable" preserve="true" />

import type { Device, DType } from "../dtype.js";
import { describe, DisposedError, DTypeError, GradError } from "../errors.js";
import type { Handle } from "../native.js";
import { contiguousStrides, formatShape, isContiguous, numelOf, type Shape } from "../shape.js";
import { context } from "./context.js";
import type { GradNode } from "./grad-node.js";

/** What `Tensor.backward` needs of the tape; set by tape.ts, which stands above this file. */
export const tapeEntry: {
  backward: (root: Tensor, gradient: Tensor | undefined, options: BackwardOptions) => void;
} = {
  backward: () => {
    throw new GradError("backward: the tape is not loaded");
  },
};

/** Options of `backward`. */
export interface BackwardOptions {
  /** Keeps saved tensors so that backward can run again; default `createGraph`. */
  retainGraph?: boolean;
  /** Records the gradients themselves, for higher-order gradients; default false. */
  createGraph?: boolean;
}

/**
 * A multi-dimensional array on a device. Immutable but for the in-place methods `copyFrom`, `fill`
 * and `zero`; every operation of the library is a method too.
 */
export class Tensor {
  handle: Handle;
  /** Extents, outermost first. */
  shape: Shape;
  /** Element type. */
  dtype: DType;
  /** Where the elements are; a CUDA device always with its number. */
  device: Device;
  /** Gradient that `backward` accumulated into this leaf, or null. */
  grad: Tensor | null = null;
  /** The operation that made this tensor, when gradients flow through it. */
  node: GradNode | null = null;
  /** Which output of `node` this is. */
  outputIndex = 0;
  /** Receives gradients on behalf of a leaf; made by the tape. */
  accumulator: GradNode | null = null;
  private leafRequiresGrad = false;
  private stridesOrNull: readonly number[] | null;

  constructor(
    handle: Handle,
    shape: Shape,
    strides: readonly number[] | null,
    dtype: DType,
    device: Device,
    tracked = true,
  ) {
    this.handle = handle;
    this.shape = shape;
    this.stridesOrNull = strides;
    this.dtype = dtype;
    this.device = device;
    if (tracked && context.scope !== null) context.scope.push(this);
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get numel(): number {
    return numelOf(this.shape);
  }

  /** Distance between neighbours along each dimension, in elements. */
  get strides(): readonly number[] {
    return (this.stridesOrNull ??= contiguousStrides(this.shape));
  }

  /** Whether the elements lie densely in row-major order. */
  get isContiguous(): boolean {
    return this.stridesOrNull === null || isContiguous(this.shape, this.stridesOrNull);
  }

  /** Whether gradients flow to or through this tensor. Settable on leaves of floating dtype. */
  get requiresGrad(): boolean {
    return this.leafRequiresGrad || this.node !== null;
  }

  set requiresGrad(value: boolean) {
    if (this.node !== null) {
      if (value) return;
      throw new GradError(
        `requiresGrad: a tensor made by ${this.node.name} cannot stop requiring gradients; ` +
          `use detach()`,
        { op: "requiresGrad" },
      );
    }
    if (value && !this.dtype.includes("float")) {
      throw new GradError(
        `requiresGrad: only floating-point tensors can require gradients, got ${this.dtype}`,
        { op: "requiresGrad" },
      );
    }
    this.leafRequiresGrad = value;
  }

  /** Whether this tensor was not made by a recorded operation. */
  get isLeaf(): boolean {
    return this.node === null;
  }

  /** Whether `dispose` was called, or `tidy` released this tensor. */
  get isDisposed(): boolean {
    return this.released;
  }
  private released = false;

  /**
   * Computes gradients of this tensor with respect to the leaves it was made from, and adds them to
   * their `grad`. Saved tensors are freed on the way unless `retainGraph` is set.
   * @param gradient gradient of this tensor, of its shape; may be left out for one element (1).
   * @throws GradError when there is no graph, or it was freed.
   */
  backward(gradient?: Tensor, options: BackwardOptions = {}): void {
    tapeEntry.backward(this, gradient, options);
  }

  /** Releases the memory now, unless views or saved tensors share it. May be called repeatedly. */
  dispose(): void {
    if (this.released) return;
    this.released = true;
    this.handle.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A tensor over the same memory, outside the graph of gradients. */
  detach(): Tensor {
    this.assertUsable("detach");
    return new Tensor(
      this.handle.retain(),
      this.shape,
      this.stridesOrNull,
      this.dtype,
      this.device,
    );
  }

  /** A second owner with the same place in the graph, released on its own; never in a tidy scope. */
  alias(): Tensor {
    this.assertUsable("save");
    const alias = new Tensor(
      this.handle.retain(),
      this.shape,
      this.stridesOrNull,
      this.dtype,
      this.device,
      false,
    );
    alias.node = this.node;
    alias.outputIndex = this.outputIndex;
    alias.accumulator = this.accumulator;
    alias.leafRequiresGrad = this.leafRequiresGrad;
    return alias;
  }

  /**
   * Makes this tensor object stand for the memory, dtype and device of `source`, keeping its
   * identity, `grad` apart. This is how `Module.to` converts parameters that optimizers hold.
   */
  setData(source: Tensor): void {
    if (!((source as unknown) instanceof Tensor)) {
      throw new DTypeError(`setData: expected a Tensor, got ${describe(source)}`, {
        op: "setData",
      });
    }
    source.assertUsable("setData");
    const previous = this.handle;
    this.handle = source.handle.retain();
    this.shape = source.shape;
    this.stridesOrNull = source.stridesOrNull;
    this.dtype = source.dtype;
    this.device = source.device;
    // It says which dtype gradients arrive in.
    this.accumulator = null;
    previous.release();
  }

  /** Throws DisposedError when the memory was released. */
  assertUsable(op: string): void {
    if (this.released) {
      throw new DisposedError(
        `${op}: a ${this.dtype} tensor of shape ${formatShape(this.shape)} was used after it was ` +
          `disposed (by dispose(), "using" or the end of a tidy)`,
        { op },
      );
    }
  }

  /** `Tensor(float32 [2, 3], cpu)`: no element is read. */
  toString(): string {
    return `Tensor(${this.dtype} ${formatShape(this.shape)}, ${this.device})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}
