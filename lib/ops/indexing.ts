// Picking elements by index, and adding to them: gather, indexSelect, embedding, and their
// adjoints. Sums over repeated indices are made in the order of the indices, so they are the same
// in every run.

import { defineOp, describe, run } from "../core/dispatch.js";
import type { DimOptions } from "../core/options.js";
import { tidy } from "../core/scope.js";
import { gradOps, record } from "../core/tape.js";
import { Tensor } from "../core/tensor.js";
import { isFloating } from "../dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { normalizeDim, type Shape } from "../shape.js";
import { eq, maskedFill } from "./binary.js";
import { to } from "./cast.js";
import { checkOptions, checkTensor, dimOf } from "./checks.js";
import { reshape, unsqueeze } from "./movement.js";
import { narrow } from "./slicing.js";

/** Indices as the addon takes them: int64. Throws for what is not a whole number. */
function checkIndex(name: string, index: Tensor, role = "index"): Tensor {
  checkTensor(index, name, role);
  if (isFloating(index.dtype) || index.dtype === "bool") {
    throw new DTypeError(`${name}: expected ${role} of an integer dtype, got ${describe(index)}`, {
      op: name,
    });
  }
  return to(index, "int64");
}

/** Throws unless `index` has the rank of `x` and, off `dim`, no larger extents. */
function checkFits(name: string, x: Tensor, dim: number, index: Tensor, role: string): void {
  const fits =
    index.shape.length === x.shape.length &&
    index.shape.every((extent, d) => d === dim || extent <= x.shape[d]!);
  if (fits) return;
  const except = dim >= 0 ? ` apart from dimension ${dim}` : "";
  throw new ShapeError(
    `${name}: expected index within the shape of ${role}${except}, got ${role} ${describe(x)}, ` +
      `index ${describe(index)}`,
    { op: name },
  );
}

function pick(name: string, x: Tensor, dim: number, index: Tensor): Tensor {
  const y = run(name, "gather", [x, index], x.dtype, index.shape, [dim]);
  const { shape, dtype, device } = x;
  record(name, [x], [y], [index], ([g], [at]) => {
    const zeros = gradOps.full(shape, 0, dtype, device);
    return [scatter(name, zeros, dim, at!, g!)];
  });
  return y;
}

function scatter(name: string, x: Tensor, dim: number, index: Tensor, source: Tensor): Tensor {
  const y = run(name, "scatter_add", [x, index, source], x.dtype, x.shape, [dim]);
  record(name, [x, source], [y], [index], ([g], [at], needs) => [
    g!,
    needs[1] === true ? pick(name, g!, dim, at!) : null,
  ]);
  return y;
}

/** The dimension before the index, as in torch, or as `{ dim }` at the end. */
type Indexing = [dim: number, index: Tensor] | [index: Tensor, options: Required<DimOptions>];
type IndexingWithSource =
  | [dim: number, index: Tensor, source: Tensor]
  | [index: Tensor, source: Tensor, options: Required<DimOptions>];

/** The arguments of either form in torch's order; what is missing or wrong is left to later checks. */
function orderOf(
  name: string,
  args: Indexing | IndexingWithSource,
): [dim: number, index: Tensor, source: Tensor] {
  const given: readonly unknown[] = args;
  if (!(given[0] instanceof Tensor)) return given as [number, Tensor, Tensor];
  const tensors = given.slice(0, -1);
  return [dimOf(name, given.at(-1) as DimOptions, NaN), ...tensors] as [number, Tensor, Tensor];
}

/** Runs `body` on tensors of at least one dimension; a result of one element gets none again. */
function atLeastOneDim(tensors: readonly Tensor[], body: (...tensors: Tensor[]) => Tensor): Tensor {
  if (tensors.every((tensor) => tensor.shape.length > 0)) return body(...tensors);
  return tidy(() => reshape(body(...tensors.map((tensor) => reshape(tensor, [1]))), []));
}

/**
 * `out[i][j] = x[index[i][j]][j]` for `dim` 0, and likewise for others: elements along `dim` by
 * `index`, which has the rank of x, its own extent along `dim`, and no larger ones elsewhere. Shape
 * of the index, dtype of x.
 * @throws ArgumentError for an index out of range, ShapeError where shapes do not fit, DTypeError
 * for an index that is not of an integer dtype.
 */
export const gather = defineOp("gather", (x: Tensor, ...args: Indexing): Tensor => {
  checkTensor(x, "gather");
  const [dim, index] = orderOf("gather", args);
  const at = checkIndex("gather", index);
  const along = normalizeDim(dim, x.shape.length, "gather");
  checkFits("gather", x, along, at, "input");
  return atLeastOneDim([x, at], (input, picked) => pick("gather", input, along, picked));
});

/**
 * A copy of x in which `source[i][j]` was added to `x[index[i][j]][j]` for `dim` 0, and likewise
 * for others. Only the part of `source` within the shape of `index` counts. Shape and dtype of x.
 * `dim` may also stand at the end, as `{ dim }`. Autocast promotes x and source.
 * @throws ArgumentError for an index out of range, ShapeError where shapes do not fit, DTypeError
 * where x and source differ in dtype or the index is not of an integer dtype.
 */
export const scatterAdd = defineOp(
  "scatterAdd",
  (x: Tensor, ...args: IndexingWithSource): Tensor => {
    checkTensor(x, "scatterAdd");
    const [dim, index, source] = orderOf("scatterAdd", args);
    checkTensor(source, "scatterAdd", "source");
    const at = checkIndex("scatterAdd", index);
    const along = normalizeDim(dim, x.shape.length, "scatterAdd");
    if (x.dtype !== source.dtype) {
      throw new DTypeError(
        `scatterAdd: expected input and source of one dtype, got input ${describe(x)}, source ` +
          describe(source),
        { op: "scatterAdd" },
      );
    }
    checkFits("scatterAdd", x, along, at, "input");
    checkFits("scatterAdd", source, -1, at, "source");
    let part = source;
    at.shape.forEach((extent, d) => {
      if (extent !== part.shape[d]) part = narrow(part, d, 0, extent);
    });
    return atLeastOneDim([x, at, part], (input, picked, added) =>
      scatter("scatterAdd", input, along, picked, added),
    );
  },
);

function selectRows(name: string, x: Tensor, dim: number, index: Tensor): Tensor {
  const shape = x.shape.with(dim, index.shape[0]!);
  const y = run(name, "index_select", [x, index], x.dtype, shape, [dim]);
  const from = x.shape;
  record(name, [x], [y], [index], ([g], [at]) => [addRows(name, g!, dim, at!, from)]);
  return y;
}

function addRows(name: string, source: Tensor, dim: number, index: Tensor, shape: Shape): Tensor {
  const y = run(name, "index_add", [source, index], source.dtype, shape, [dim]);
  record(name, [source], [y], [index], ([g], [at]) => [selectRows(name, g!, dim, at!)]);
  return y;
}

/**
 * The parts of x at the places `index` ([n], or [] for one) along `dim`, in their order. Shape of x
 * with n along `dim`, dtype of x. `dim` may also stand at the end, as `{ dim }`.
 * @throws ArgumentError for an index out of range, ShapeError for an index of more dimensions,
 * DTypeError for one that is not of an integer dtype.
 */
export const indexSelect = defineOp("indexSelect", (x: Tensor, ...args: Indexing): Tensor => {
  checkTensor(x, "indexSelect");
  const [dim, index] = orderOf("indexSelect", args);
  const at = checkIndex("indexSelect", index);
  if (at.shape.length > 1) {
    throw new ShapeError(
      `indexSelect: expected an index of at most one dimension, got input ${describe(x)}, index ` +
        describe(index),
      { op: "indexSelect" },
    );
  }
  const along = normalizeDim(dim, x.shape.length, "indexSelect");
  const list = at.shape.length === 1 ? at : reshape(at, [1]);
  if (x.shape.length > 0) return selectRows("indexSelect", x, along, list);
  if (list.shape[0] === 1) {
    return tidy(() => reshape(selectRows("indexSelect", reshape(x, [1]), 0, list), []));
  }
  throw new ShapeError(
    `indexSelect: an input of 0 dimensions takes one index, got index ${describe(index)}`,
    { op: "indexSelect" },
  );
});

/** Options of {@link embedding}. */
export interface EmbeddingOptions {
  /** The row that gets no gradient; counts from the end when negative. Default: none. */
  paddingIdx?: number | null | undefined;
}

function lookUp(weight: Tensor, ids: Tensor, padding: number): Tensor {
  const [rows, width] = weight.shape as [number, number];
  const shape = [...ids.shape, width];
  const y = run("embedding", "embedding", [weight, ids], weight.dtype, shape, []);
  record("embedding", [weight], [y], [ids], ([g], [at]) => [embeddingGrad(g!, at!, rows, padding)]);
  return y;
}

function embeddingGrad(g: Tensor, ids: Tensor, rows: number, padding: number): Tensor {
  const shape = [rows, g.shape[g.shape.length - 1]!];
  const y = run("embedding", "embedding_grad", [g, ids], g.dtype, shape, [padding]);
  record("embedding", [g], [y], [ids], ([gg], [at]) => {
    const found = lookUp(gg!, at!, -1);
    return [padding < 0 ? found : maskedFill(found, unsqueeze(eq(at!, padding), -1), 0)];
  });
  return y;
}

/**
 * The rows of `weight` [V, D] at the places `ids` [...], of an integer dtype: [..., D], dtype of
 * the weight.
 * @throws ArgumentError for an id out of range or a `paddingIdx` that is no row, ShapeError where
 * the weight is no matrix, DTypeError for ids that are not integers.
 */
export const embedding = defineOp(
  "embedding",
  (weight: Tensor, ids: Tensor, options: EmbeddingOptions = {}): Tensor => {
    checkTensor(weight, "embedding", "weight");
    const at = checkIndex("embedding", ids, "ids");
    checkOptions("embedding", options, ["paddingIdx"]);
    if (weight.shape.length !== 2) {
      throw new ShapeError(`embedding: expected weight [V, D], got ${describe(weight)}`, {
        op: "embedding",
      });
    }
    const rows = weight.shape[0]!;
    const { paddingIdx = null } = options;
    if (
      paddingIdx !== null &&
      (!Number.isInteger(paddingIdx) || paddingIdx < -rows || paddingIdx >= rows)
    ) {
      throw new ArgumentError(
        `embedding: paddingIdx ${String(paddingIdx)} is not a row of weight ${describe(weight)}`,
        { op: "embedding" },
      );
    }
    const padding = paddingIdx !== null && paddingIdx < 0 ? paddingIdx + rows : (paddingIdx ?? -1);
    return lookUp(weight, at, padding);
  },
);
