// Compares gradients with central finite differences, in float64.

import { expect } from "vitest";

import * as mp from "../../lib/index.js";

type Fn = (...inputs: mp.Tensor[]) => mp.Tensor;

function flat(x: mp.Tensor): Float64Array {
  return Float64Array.from(x.to("float64").dataSync() as ArrayLike<number>);
}

/** Fixed weights that make a scalar of any output, so that no gradient cancels. */
function weights(count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => Math.sin(i * 1.7 + 0.4) + 0.1);
}

function weighted(fn: Fn, inputs: mp.Tensor[]): mp.Tensor {
  const out = fn(...inputs);
  const w = mp.fromTypedArray(weights(out.numel), out.shape);
  return mp.sum(mp.mul(out, w));
}

export interface GradcheckOptions {
  eps?: number;
  tolerance?: number;
  /** Checks the gradients of the gradients too. */
  second?: boolean;
}

/**
 * Checks the gradients of `fn` at `inputs` (float64; those that require gradients) against central
 * differences. The inputs are rebuilt dense for the differences, so views may be passed.
 */
export function gradcheck(fn: Fn, inputs: mp.Tensor[], options: GradcheckOptions = {}): void {
  const { eps = 1e-6, tolerance = 1e-6, second = false } = options;
  const leaves = inputs.map((input) => {
    const leaf = mp.fromTypedArray(flat(input), input.shape);
    leaf.requiresGrad = true;
    return leaf;
  });
  const loss = weighted(fn, leaves);
  // Where nothing depends on the inputs, as with the second derivative of a linear function, there
  // is no graph; the differences must then be 0.
  const grads = loss.requiresGrad
    ? (mp.grad(loss, leaves, { allowUnused: true }) as (mp.Tensor | null)[])
    : leaves.map(() => null);
  leaves.forEach((leaf, which) => {
    const analytic = grads[which] ? flat(grads[which]) : new Float64Array(leaf.numel);
    const values = flat(leaf);
    values.forEach((value, i) => {
      const at = (x: number): number => {
        const moved = values.slice();
        moved[i] = x;
        const replaced = leaves.map((other, j) =>
          j === which ? mp.fromTypedArray(moved, leaf.shape) : other.detach(),
        );
        return weighted(fn, replaced).item();
      };
      const numeric = (at(value + eps) - at(value - eps)) / (2 * eps);
      const error = Math.abs(numeric - analytic[i]!);
      expect(
        error,
        `input ${which}, element ${i}: analytic ${analytic[i]}, numeric ${numeric}`,
      ).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(numeric)));
    });
  });
  if (second) {
    gradcheck(
      (...again) => {
        const active = again.map((input) => {
          if (!input.requiresGrad) input.requiresGrad = true;
          return input;
        });
        const first = weighted(fn, active);
        if (!first.requiresGrad) return mp.zeros([0], { dtype: "float64" });
        const found = mp.grad(first, active, {
          createGraph: true,
          allowUnused: true,
        }) as (mp.Tensor | null)[];
        const kept = found.filter((grad): grad is mp.Tensor => grad !== null);
        return mp.cat(
          kept.map((grad) => grad.reshape([-1])),
          0,
        );
      },
      inputs,
      { eps: 1e-5, tolerance: Math.max(tolerance, 1e-5) },
    );
  }
}
