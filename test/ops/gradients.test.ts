// Gradients of every operation and argument against finite differences in float64, of views too,
// and the gradients of the gradients.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { gradcheck } from "../helpers/gradcheck.js";
import { flatOutput, inputsOf, OP_USES, outputsOf, strided } from "../helpers/op-table.js";

describe.each([...new Set(OP_USES.map((entry) => entry.op))])("%s", (op) => {
  for (const entry of OP_USES.filter((use) => use.op === op)) {
    test(entry.label, () => {
      gradcheck((...inputs) => flatOutput(entry, inputs), inputsOf(entry), { second: true });
    });

    test(`${entry.label}, strided`, () => {
      gradcheck((...inputs) => flatOutput(entry, inputs.map(strided)), inputsOf(entry));
    });
  }
});

test.each(["float32", "float16", "bfloat16"] as const)(
  "gradients in %s are those of float64",
  (dtype) => {
    const { eps } = mp.finfo(dtype);
    for (const entry of OP_USES) {
      const inputs = inputsOf(entry, dtype);
      const wide = inputs.map((x) => x.to("float64"));
      const gradsOf = (leaves: mp.Tensor[]): (mp.Tensor | null)[] => {
        for (const leaf of leaves) leaf.requiresGrad = true;
        const outputs = outputsOf(entry, leaves);
        const gradOutputs = outputs.map((y) => mp.ones(y.shape, { dtype: y.dtype }));
        return mp.grad(outputs, leaves, { gradOutputs, allowUnused: true }) as (mp.Tensor | null)[];
      };
      const expected = gradsOf(wide);
      gradsOf(inputs).forEach((grad, i) => {
        const where = `${entry.op} ${entry.label}, input ${i}`;
        expect(grad === null, where).toBe(expected[i] === null);
        if (grad === null || grad.numel === 0) return;
        expect(grad.dtype, where).toBe(dtype);
        const scale = Math.max(1, expected[i]!.abs().amax().item());
        const error = grad.to("float64").sub(expected[i]!).abs().amax().item();
        expect(error / scale / eps, where).toBeLessThan(8);
      });
    }
  },
);
