// Joining tensors along a dimension.

import { defineOp, describe, run } from "../core/dispatch.js";
import type { DimOptions } from "../core/options.js";
import { record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import type { DType } from "../dtype.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { checkShape, formatShape, normalizeDim, sameShape } from "../shape.js";
import { to } from "./cast.js";
import { checkTensor, dimOf } from "./checks.js";
import { unsqueeze } from "./movement.js";
import { resultType } from "./promotion.js";
import { narrow } from "./slicing.js";

function checkList(name: string, tensors: unknown): asserts tensors is readonly Tensor[] {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    const got = Array.isArray(tensors) ? "an empty one" : typeof tensors;
    throw new ArgumentError(`${name}: expected a list of at least one tensor, got ${got}`, {
      op: name,
    });
  }
  tensors.forEach((tensor, i) => {
    checkTensor(tensor, name, `tensor ${i}`);
  });
}

/** Joins checked tensors, cast to `dtype`, into one of `shape`. */
function join(
  name: string,
  tensors: readonly Tensor[],
  dtype: DType,
  shape: readonly number[],
  dim: number,
): Tensor {
  const parts: Tensor[] = [];
  for (const tensor of tensors) parts.push(to(tensor, dtype));
  const y = run(name, "cat", parts, dtype, shape, [dim]);
  const extents = parts.map((part) => part.shape[dim]!);
  record(name, parts, [y], [], ([g], _, needs) => {
    let start = 0;
    return extents.map((extent, i) => {
      start += extent;
      return needs[i] === true ? narrow(g!, dim, start - extent, extent) : null;
    });
  });
  // No function here may refer to the tensors: the one that the node keeps would hold them too.
  for (let i = 0; i < parts.length; i++) if (parts[i] !== tensors[i]) parts[i]!.dispose();
  return y;
}

// torch skips tensors of shape [0], whatever the shape of the others.
const isSkipped = (tensor: Tensor): boolean => sameShape(tensor.shape, [0]);

/**
 * Tensors one after the other along dimension `dim` (default 0; by itself or as `{ dim }`). Their
 * other dimensions are the same; their dtypes promote. Tensors of shape [0] are skipped beside
 * others.
 * @throws ShapeError where shapes do not fit, ArgumentError for an empty list.
 */
export const cat: (tensors: readonly Tensor[], dim?: number | DimOptions) => Tensor = defineOp(
  "cat",
  (tensors: readonly Tensor[], dim?: number | DimOptions): Tensor => {
    checkList("cat", tensors);
    const like = tensors.find((tensor) => !isSkipped(tensor)) ?? tensors[0]!;
    if (like.shape.length === 0) {
      throw new ShapeError("cat: tensors of 0 dimensions cannot be joined; use stack", {
        op: "cat",
      });
    }
    const along = normalizeDim(dimOf("cat", dim), like.shape.length, "cat");
    let total = 0;
    tensors.forEach((tensor, i) => {
      if (isSkipped(tensor)) return;
      const { shape } = tensor;
      const fits =
        shape.length === like.shape.length &&
        shape.every((extent, d) => d === along || extent === like.shape[d]);
      if (!fits) {
        throw new ShapeError(
          `cat: expected shapes that differ in dimension ${along} only, got ${describe(like)} and ` +
            `${describe(tensor)} (tensor ${i})`,
          { op: "cat" },
        );
      }
      total += shape[along]!;
    });
    const kept = tensors.filter((tensor) => tensor === like || !isSkipped(tensor));
    const shape = checkShape(like.shape.with(along, total), "cat");
    return join("cat", kept, resultType(...tensors), shape, along);
  },
);

/**
 * Tensors of one shape as the parts of a new dimension, at place `dim` (default 0; -1 puts it last;
 * by itself or as `{ dim }`). Their dtypes promote.
 * @throws ShapeError where shapes differ, ArgumentError for an empty list.
 */
export const stack: (tensors: readonly Tensor[], dim?: number | DimOptions) => Tensor = defineOp(
  "stack",
  (tensors: readonly Tensor[], dim?: number | DimOptions): Tensor => {
    checkList("stack", tensors);
    const { shape } = tensors[0]!;
    tensors.forEach((tensor, i) => {
      if (sameShape(tensor.shape, shape)) return;
      throw new ShapeError(
        `stack: expected tensors of one shape, got ${formatShape(shape)} and ` +
          `${formatShape(tensor.shape)} (tensor ${i})`,
        { op: "stack" },
      );
    });
    const along = normalizeDim(dimOf("stack", dim), shape.length + 1, "stack");
    const out = checkShape(shape.toSpliced(along, 0, tensors.length), "stack");
    const rows = tensors.map((tensor) => unsqueeze(tensor, along));
    const y = join("stack", rows, resultType(...tensors), out, along);
    for (const row of rows) row.dispose();
    return y;
  },
);
