// Why a run diverged, read off the weights, gradients and optimizer moments it left.

import { tidy } from "../../core/scope.js";
import { noGrad } from "../../core/context.js";
import type { Tensor } from "../../core/tensor.js";
import { finfo, type FloatDType } from "../../dtype.js";
import type { Module } from "../../nn/index.js";
import type { Optimizer } from "../../optim/index.js";
import { abs, amax, eq, isfinite, mul, ne, sum, to } from "../../ops/index.js";

const count = (mask: Tensor): number => sum(mask).item();

function share(part: number, whole: number): string {
  return `${((100 * part) / whole).toFixed(part === whole ? 0 : 1)} %`;
}

/** The largest absolute value among the finite elements of float64 copies. */
function largest(x: Tensor): number {
  return x.numel === 0 ? 0 : amax(abs(to(x, "float64"))).item();
}

interface Tally {
  elements: number;
  vanished: number;
  notFinite: number;
  firstBad: string | null;
}

function tally(): Tally {
  return { elements: 0, vanished: 0, notFinite: 0, firstBad: null };
}

function note(into: Tally, name: string, x: Tensor): void {
  const bad = x.numel - count(isfinite(x));
  into.elements += x.numel;
  into.notFinite += bad;
  if (bad > 0) into.firstBad ??= name;
}

/**
 * Findings about a model whose loss is no longer finite: what is not finite, and which numbers its
 * dtype could not hold.
 */
export function explainDivergence(model: Module, optimizer: Optimizer): string[] {
  const weights = tally();
  const gradients = tally();
  const moments = tally();
  let dtype: FloatDType = "float32";
  let peak = 0;
  noGrad(() => {
    for (const [name, parameter] of model.namedParameters()) {
      tidy(() => {
        dtype = parameter.dtype as FloatDType;
        note(weights, name, parameter);
        const { grad } = parameter;
        if (grad !== null) {
          note(gradients, name, grad);
          gradients.vanished += count(eq(grad, 0));
        }
        const state = optimizer.stateOf(parameter);
        const first = state?.expAvg;
        const second = state?.expAvgSq;
        if (first === undefined || second === undefined) return;
        note(moments, name, second);
        // A second moment of 0 beside a first that is not: the square was below the smallest number.
        moments.vanished += count(mul(ne(first, 0), eq(second, 0)));
        peak = Math.max(peak, largest(parameter));
      });
    }
  });
  const { smallestSubnormal, max } = finfo(dtype);
  const findings: string[] = [];
  if (moments.vanished > 0) {
    findings.push(
      `${share(moments.vanished, moments.elements)} of AdamW's second moments underflowed to 0 ` +
        `in ${dtype} (smallest number ${smallestSubnormal.toExponential(1)}): there the step is ` +
        `divided by eps alone`,
    );
  }
  if (weights.notFinite > 0) {
    findings.push(
      `${share(weights.notFinite, weights.elements)} of the weights are not finite in ${dtype} ` +
        `(largest number ${max.toExponential(1)}), first ${weights.firstBad}`,
    );
  } else if (peak > 0) {
    findings.push(`the weights are finite in ${dtype}, the largest ${peak.toExponential(1)}`);
  }
  if (gradients.elements > 0) {
    findings.push(
      `${share(gradients.vanished, gradients.elements)} of the gradients are 0, ` +
        `${share(gradients.notFinite, gradients.elements)} not finite`,
    );
  }
  return findings;
}
