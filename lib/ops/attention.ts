// Scaled dot-product attention: one native operation each way, or, where a gradient is itself to be
// differentiated or the mask needs one, the same formula out of other operations.

import { context, drawRandom, enableGrad, matmulPrecisionCode } from "../core/context.js";
import { defineOp, describe, runMany, view } from "../core/dispatch.js";
import { grad, record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { broadcastShapes, formatShape, numelOf, sameShape, type Shape } from "../shape.js";
import { add, le, mul, where } from "./binary.js";
import { checkOptions, checkTensor } from "./checks.js";
import { arange, ones } from "./create.js";
import { matmul } from "./matmul.js";
import { expand, reshape, transpose } from "./movement.js";
import { softmax } from "./softmax.js";

/** Options of {@link scaledDotProductAttention}. */
export interface AttentionOptions {
  /** Broadcasts to [B, H, L, S]: bool (true takes part) or floating (added to the scores). */
  mask?: Tensor | null;
  /** Row i sees columns 0 to i only. Not together with `mask`. */
  causal?: boolean;
  /** Factor of the scores; 1 / sqrt(D) by default. */
  scale?: number;
  /** Probability with which a weight is dropped; 0 by default. */
  dropout?: number;
}

interface Attention {
  readonly mask: Tensor | null;
  readonly causal: boolean;
  readonly scale: number;
  readonly dropout: number;
  readonly seed: number;
  readonly offset: number;
  readonly precision: number;
}

const OP = "scaledDotProductAttention";

function checkTensors(q: Tensor, k: Tensor, v: Tensor): void {
  const shapes = `q ${formatShape(q.shape)}, k ${formatShape(k.shape)}, v ${formatShape(v.shape)}`;
  for (const x of [q, k, v]) {
    if (x.shape.length < 2 || x.shape.length > 8) {
      throw new ShapeError(`${OP}: expected [..., L, D] operands, got ${shapes}`, { op: OP });
    }
    if (x.dtype !== q.dtype || !x.dtype.includes("float")) {
      throw new DTypeError(
        `${OP}: expected one floating dtype, q ${describe(q)}, k ${describe(k)}, v ${describe(v)}`,
        { op: OP },
      );
    }
  }
  if (q.shape[q.shape.length - 1] !== k.shape[k.shape.length - 1]) {
    throw new ShapeError(`${OP}: the last dimensions of q and k differ, ${shapes}`, { op: OP });
  }
  if (k.shape[k.shape.length - 2] !== v.shape[v.shape.length - 2]) {
    throw new ShapeError(`${OP}: k and v have different lengths, ${shapes}`, { op: OP });
  }
}

function checkAttention(q: Tensor, options: AttentionOptions): void {
  checkOptions(OP, options, ["mask", "causal", "scale", "dropout"]);
  const { mask, dropout = 0, causal = false } = options;
  if (!(dropout >= 0 && dropout <= 1)) {
    throw new ArgumentError(`${OP}: expected a dropout from 0 to 1, got ${String(dropout)}`, {
      op: OP,
    });
  }
  if (mask && causal) {
    throw new ArgumentError(`${OP}: expected either a mask or causal, got both`, { op: OP });
  }
  if (mask && mask.dtype !== "bool" && mask.dtype !== q.dtype && mask.dtype !== "float32") {
    throw new DTypeError(
      `${OP}: expected a mask of bool, float32 or the dtype of q, q ${describe(q)}, ` +
        `mask ${describe(mask)}`,
      { op: OP },
    );
  }
}

/** Brings an operand to [B, H, rows, D], its leading dimensions being those of the result. */
function toFour(x: Tensor, lead: Shape): Tensor {
  const last = x.shape.slice(-2);
  if (x.shape.length === 4 && sameShape(x.shape.slice(0, 2), lead)) return x;
  const full = [...lead, ...last];
  const wide = sameShape(x.shape, full) ? x : expand(x, full);
  if (lead.length === 2) return wide;
  const outer = lead.length === 0 ? 1 : numelOf(lead.slice(0, -1));
  return reshape(wide, [outer, lead[lead.length - 1] ?? 1, ...last]);
}

/** A gradient or output made as [B, rows, H, D], seen as [B, H, rows, D]. */
function headsFirst(x: Tensor): Tensor {
  const [batch, rows, heads, width] = x.shape as [number, number, number, number];
  const strides = [rows * heads * width, width, heads * width, 1];
  const seen = view(OP, x, 0, [batch, heads, rows, width], strides);
  x.dispose();
  return seen;
}

function rowsFirst(x: Tensor): Shape {
  const [batch, heads, rows, width] = x.shape as [number, number, number, number];
  return [batch, rows, heads, width];
}

function attrsOf(options: Attention): number[] {
  const { scale, causal, dropout, seed, offset, mask, precision } = options;
  return [scale, causal ? 1 : 0, dropout, seed, offset, mask === null ? 0 : 1, precision];
}

function fused(q: Tensor, k: Tensor, v: Tensor, options: Attention): Tensor {
  const { mask } = options;
  const masks = mask === null ? [] : [mask];
  const [batch, heads, rows] = q.shape as [number, number, number];
  const accumulated = q.dtype === "float64" ? "float64" : "float32";
  const [raw, logsumexp] = runMany(
    OP,
    "attention",
    [q, k, v, ...masks],
    [
      { dtype: q.dtype, shape: [batch, rows, heads, v.shape[3]!] },
      { dtype: accumulated, shape: [batch, heads, rows] },
    ],
    attrsOf(options),
  );
  const out = headsFirst(raw!);
  const attrs = attrsOf(options);
  const unmasked = { ...options, mask: null };
  record(OP, [q, k, v], [out], [q, k, v, out, logsumexp!, ...masks], ([g], saved, needs) => {
    const [q1, k1, v1, out1, logsumexp1] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const mask1 = saved[5];
    if (context.gradEnabled) {
      return composedGrads(g!, [q1, k1, v1], { ...unmasked, mask: mask1 ?? null }, needs);
    }
    const grads = runMany(
      OP,
      "attention_grad",
      [g!, q1, k1, v1, out1, logsumexp1, ...(mask1 === undefined ? [] : [mask1])],
      [q1, k1, v1].map((x) => ({ dtype: x.dtype, shape: rowsFirst(x) })),
      attrs,
    );
    return grads.map((gradInput, i) => (needs[i] ? headsFirst(gradInput) : null));
  });
  logsumexp!.dispose();
  return out;
}

function composed(q: Tensor, k: Tensor, v: Tensor, options: Attention): Tensor {
  const { mask, causal, scale, dropout, seed, offset } = options;
  let scores = mul(matmul(q, transpose(k, -2, -1)), scale);
  const { shape } = scores;
  if (mask?.dtype === "bool") scores = where(mask, scores, -Infinity);
  else if (mask !== null) scores = add(scores, mask);
  if (causal) scores = where(lowerTriangle(shape, q.device), scores, -Infinity);
  let weights = softmax(scores, { dim: -1 });
  if (dropout > 0) {
    const like = ones(shape, { dtype: q.dtype, device: q.device });
    const [factors] = runMany(
      OP,
      "dropout",
      [like],
      [
        { dtype: q.dtype, shape },
        { dtype: "bool", shape },
      ],
      [seed, offset, dropout],
    );
    weights = mul(weights, factors!);
  }
  return matmul(weights, v);
}

function lowerTriangle(shape: Shape, device: Device): Tensor {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const row = reshape(arange(0, rows, 1, { dtype: "int64", device }), [rows, 1]);
  return le(arange(0, columns, 1, { dtype: "int64", device }), row);
}

function composedGrads(
  g: Tensor,
  inputs: readonly Tensor[],
  options: Attention,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const out = enableGrad(() => composed(inputs[0]!, inputs[1]!, inputs[2]!, options));
  const wanted = inputs.filter((_, i) => needs[i]);
  const grads = grad(out, wanted, { gradOutputs: g, createGraph: true });
  let next = 0;
  return needs.slice(0, 3).map((need) => (need ? grads[next++]! : null));
}

/**
 * `softmax(q k^T * scale + mask) v` for q [..., L, D], k [..., S, D] and v [..., S, DV], of one
 * floating dtype; leading dimensions broadcast. Scores are float32 (float64 for float64) and are
 * not kept: backward makes them again. A row with everything masked gives zeros. Autocast runs it
 * in its dtype.
 * @throws ShapeError, DTypeError, ArgumentError for a dropout outside 0 to 1, or both mask and
 * causal.
 */
export const scaledDotProductAttention = defineOp(
  OP,
  (q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor => {
    checkTensor(q, OP, "q");
    checkTensor(k, OP, "k");
    checkTensor(v, OP, "v");
    checkTensors(q, k, v);
    checkAttention(q, options);
    let lead = broadcastShapes(q.shape.slice(0, -2), k.shape.slice(0, -2), OP);
    lead = broadcastShapes(lead, v.shape.slice(0, -2), OP);
    const full = [...lead, q.shape[q.shape.length - 2]!, k.shape[k.shape.length - 2]!];
    const { mask = null } = options;
    if (mask !== null && !sameShape(broadcastShapes(full, mask.shape, OP), full)) {
      throw new ShapeError(
        `${OP}: mask ${formatShape(mask.shape)} does not broadcast to scores ${formatShape(full)}`,
        { op: OP },
      );
    }
    const dropout = options.dropout ?? 0;
    const [seed, offset] = dropout > 0 ? drawRandom(numelOf(full)) : [0, 0];
    const attention: Attention = {
      mask:
        mask === null || mask.shape.length <= 2 || lead.length === 2 ? mask : toFour(mask, lead),
      causal: options.causal ?? false,
      scale: options.scale ?? 1 / Math.sqrt(q.shape[q.shape.length - 1]!),
      dropout,
      seed,
      offset,
      precision: matmulPrecisionCode(),
    };
    const [q4, k4, v4] = [toFour(q, lead), toFour(k, lead), toFour(v, lead)];
    const needsMaskGrad = context.gradEnabled && mask?.requiresGrad === true;
    const out = (needsMaskGrad ? composed : fused)(q4, k4, v4, attention);
    const shape = [...lead, q.shape[q.shape.length - 2]!, v.shape[v.shape.length - 1]!];
    return sameShape(out.shape, shape) ? out : reshape(out, shape);
  },
);
