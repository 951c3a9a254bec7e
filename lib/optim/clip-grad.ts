// Clipping of gradients, by their norm and by value: each one native call over all of them.

import { checkOptions } from "../core/options.js";
import { run, runInPlace } from "../core/dispatch.js";
import { noGrad } from "../core/context.js";
import { tidy } from "../core/scope.js";
import { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { ArgumentError, GradError, describe } from "../errors.js";
import { isfinite, tensor, to } from "../ops/index.js";

/** Options of {@link clipGradNorm}. */
export interface ClipGradNormOptions {
  /** The p of the p-norm, above 0; Infinity is the largest absolute value. Default 2. */
  normType?: number;
  /** Throws, instead of making gradients NaN or 0, when the norm is not finite; default false. */
  errorIfNonfinite?: boolean;
}

function checkBound(op: string, name: string, value: unknown): void {
  if (typeof value === "number" && value >= 0) return;
  throw new ArgumentError(
    `${op}: ${name} — expected a number of at least 0, got ${describe(value)}`,
    {
      op,
    },
  );
}

/** The gradients there are, by device. */
function gradientsOf(op: string, parameters: Tensor | Iterable<Tensor>): Map<Device, Tensor[]> {
  const list: unknown = parameters instanceof Tensor ? [parameters] : parameters;
  if (typeof list !== "object" || list === null || !(Symbol.iterator in list)) {
    throw new ArgumentError(`${op}: expected a list of parameters, got ${describe(list)}`, { op });
  }
  const byDevice = new Map<Device, Tensor[]>();
  const seen = new Set<Tensor>();
  for (const parameter of list as Iterable<unknown>) {
    if (!(parameter instanceof Tensor)) {
      throw new ArgumentError(`${op}: expected a tensor, got ${describe(parameter)}`, { op });
    }
    const { grad } = parameter;
    // A shared parameter has one gradient.
    if (grad === null || grad.isDisposed || seen.has(grad)) continue;
    seen.add(grad);
    const grads = byDevice.get(grad.device) ?? [];
    if (grads.length === 0) byDevice.set(grad.device, grads);
    grads.push(grad);
  }
  return byDevice;
}

function normOf(op: string, grads: readonly Tensor[], normType: number): Tensor {
  const wide = grads.some(({ dtype }) => dtype === "float64");
  return run(op, "grad_norm", grads, wide ? "float64" : "float32", [], [grads.length, normType]);
}

/** The norm of all gradients as one vector. */
function totalNorm(op: string, byDevice: Map<Device, Tensor[]>, normType: number): Tensor {
  const lists = [...byDevice.values()];
  if (lists.length <= 1) return normOf(op, lists[0]!, normType);
  const { device } = lists[0]![0]!;
  return tidy(() => {
    const norms = lists.map((grads) => to(normOf(op, grads, normType), { device }));
    return normOf(op, norms, normType);
  });
}

function checkFinite(op: string, byDevice: Map<Device, Tensor[]>, total: Tensor): void {
  const norm = total.item();
  if (Number.isFinite(norm)) return;
  const grads = [...byDevice.values()].flat();
  const bad = grads.filter((grad) => tidy(() => isfinite(grad).to("uint8").amin().item()) === 0);
  const which = bad.length === 0 ? "all are finite" : `${bad.length} are not finite`;
  throw new GradError(
    `${op}: the norm of the gradients is ${norm}, so they cannot be clipped; of ${grads.length} ` +
      `gradients ${which}. Pass { errorIfNonfinite: false } to let it pass`,
    { op },
  );
}

/**
 * Scales all gradients in place so that their norm, as one vector, is at most `maxNorm`: they are
 * multiplied by min(1, maxNorm / (norm + 1e-6)), without waiting for the device. A NaN norm makes
 * all gradients NaN, an infinite one makes them 0 (and infinities NaN), as in torch.
 * Norms are summed in float64, in an order that does not depend on threads.
 * @returns the norm before clipping, a scalar (float32, or float64 where a gradient is); 0 where
 * there are no gradients.
 * @throws ArgumentError for a bound that is negative or NaN; GradError for a norm that is not
 * finite, with `errorIfNonfinite`.
 */
export function clipGradNorm(
  parameters: Tensor | Iterable<Tensor>,
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  const op = "clipGradNorm";
  checkOptions(op, options, ["normType", "errorIfNonfinite"]);
  const { normType = 2, errorIfNonfinite = false } = options;
  checkBound(op, "maxNorm", maxNorm);
  if (typeof normType !== "number" || !(normType > 0)) {
    throw new ArgumentError(
      `${op}: normType — expected a number above 0, got ${describe(normType)}`,
      { op },
    );
  }
  const byDevice = gradientsOf(op, parameters);
  return noGrad(() => {
    if (byDevice.size === 0) return tensor(0);
    const total = totalNorm(op, byDevice, normType);
    if (errorIfNonfinite) checkFinite(op, byDevice, total);
    for (const [device, grads] of byDevice) {
      const norm = to(total, { device });
      runInPlace(op, "clip_grads", [...grads, norm], grads, [grads.length, maxNorm]);
      if (norm !== total) norm.dispose();
    }
    return total;
  });
}

/**
 * Clamps every element of all gradients to [-clipValue, clipValue] in place; NaN stays.
 * @throws ArgumentError for a bound that is negative or NaN.
 */
export function clipGradValue(parameters: Tensor | Iterable<Tensor>, clipValue: number): void {
  const op = "clipGradValue";
  checkBound(op, "clipValue", clipValue);
  for (const grads of gradientsOf(op, parameters).values()) {
    runInPlace(op, "clamp_grads", grads, grads, [grads.length, clipValue]);
  }
}
