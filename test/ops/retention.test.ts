// What a graph keeps alive: the tensors that a node saved, and no other. A function of backward
// that refers to an operand, or only shares a scope with one that does, would keep it until the
// graph goes.

import { expect, test } from "vitest";

import type * as mp from "../../lib/index.js";
import { inputsOf, OP_USES, outputsOf } from "../helpers/op-table.js";

const collect = (globalThis as { gc?: () => void }).gc;

/** Runs a use on intermediate tensors of which nothing but the graph can know afterwards. */
function run(entry: (typeof OP_USES)[number]): {
  refs: WeakRef<mp.Tensor>[];
  outputs: mp.Tensor[];
} {
  const middle = inputsOf(entry).map((x) => {
    x.requiresGrad = true;
    return x.mul(1);
  });
  const outputs = outputsOf(entry, middle);
  return { refs: middle.map((x) => new WeakRef(x)), outputs };
}

test("nodes hold no operands", async () => {
  const runs = OP_USES.map((entry) => ({ entry, ...run(entry) }));
  // A WeakRef that was just made holds its target until the task ends.
  await new Promise((resolve) => setTimeout(resolve, 0));
  collect!();
  const held = runs.filter(({ refs, outputs }) =>
    refs.some((ref) => {
      const tensor = ref.deref();
      return tensor !== undefined && !outputs.includes(tensor);
    }),
  );
  expect(held.map(({ entry }) => `${entry.op} ${entry.label}`)).toEqual([]);
  // The outputs were alive all the time.
  expect(runs.every(({ outputs }) => outputs.every((output) => !output.isDisposed))).toBe(true);
});
