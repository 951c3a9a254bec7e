import { describe, expect, it } from "vitest";

import { BestWeights } from "../../lib/cli/finetune/best.js";
import type { Evaluation } from "../../lib/cli/finetune/result.js";
import { nn, noGrad, zeros, type Tensor } from "../../lib/index.js";

const evaluation = (step: number, accuracy: number): Evaluation => ({
  step,
  epoch: 1,
  accuracy,
  macroF1: 0,
});

/** A module with one weight of this value. */
function moduleOf(value: number): nn.Linear {
  const linear = new nn.Linear(1, 1, { bias: false });
  set(linear, value);
  return linear;
}

function set(linear: nn.Linear, value: number): void {
  const weight: Tensor = noGrad(() => zeros([1, 1]).add(value));
  linear.loadStateDict({ weight });
}

describe("BestWeights", () => {
  it("keeps a copy of the first of the best, and writes it back", () => {
    const best = new BestWeights(true, null);
    const module = moduleOf(0);
    for (const [step, accuracy] of [0.5, 0.75, 0.75, 0.25].entries()) {
      set(module, step);
      best.note(evaluation(step, accuracy), module);
    }
    expect(best.best).toEqual(evaluation(1, 0.75));
    expect(best.at(3)).toEqual(evaluation(3, 0.25));
    expect(best.at(1)).toBeNull();
    best.apply(module);
    expect(module.weight.item()).toBe(1);
    expect(best.exhausted).toBe(false);

    const again = new BestWeights(true, null);
    again.restore(best.state());
    set(module, 9);
    again.apply(module);
    expect(module.weight.item()).toBe(1);
    expect(again.best).toEqual(best.best);
    again.release();
  });

  it("keeps nothing where it is not asked to", () => {
    const best = new BestWeights(false, null);
    const module = moduleOf(1);
    best.note(evaluation(1, 1), module);
    set(module, 2);
    best.apply(module);
    expect(module.weight.item()).toBe(2);
    expect(best.state().weights).toBeNull();
  });

  it("runs out of patience after evaluations that are not better, equal ones included", () => {
    const best = new BestWeights(false, 2);
    const seen = [0.5, 0.4, 0.6, 0.6, 0.1].map((accuracy, step) => {
      best.note(evaluation(step, accuracy), moduleOf(0));
      return best.exhausted;
    });
    expect(seen).toEqual([false, false, false, false, true]);
  });
});
