// Broadcasting and its adjoint.

import { run, view } from "../core/dispatch.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { sameShape, type Shape } from "../shape.js";

/** Strides with which `x` looks like `shape`: 0 along what is repeated. */
export function expandStrides(x: Tensor, shape: Shape): number[] {
  const lead = shape.length - x.shape.length;
  const strides = x.strides;
  return shape.map((extent, dim) =>
    dim < lead || (x.shape[dim - lead] === 1 && extent !== 1) ? 0 : strides[dim - lead]!,
  );
}

/** `x` repeated, without a copy, to `shape`, to which it must broadcast. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const y = view("expand", x, 0, shape, expandStrides(x, shape));
  const from = x.shape;
  record("expand", [x], [y], [], ([g]) => [sumTo(g!, from)]);
  return y;
}

/** The sum of `g` over what was repeated to make its shape of `shape`: the adjoint of broadcasting. */
export function sumTo(g: Tensor, shape: Shape): Tensor {
  if (sameShape(g.shape, shape)) return g;
  const lead = g.shape.length - shape.length;
  let dims = 0;
  g.shape.forEach((extent, dim) => {
    if (dim < lead || (shape[dim - lead] === 1 && extent !== 1)) dims += 2 ** dim;
  });
  const y = run("sum", "sum", [g], g.dtype, shape, [dims, 1]);
  const from = g.shape;
  record("sum", [g], [y], [], ([gg]) => [broadcastTo(gg!, from)]);
  return y;
}
