// Every operation in every float dtype: dtype and shape of the result, its distance from float64,
// inputs in any layout, inputs of no elements, and the form as a method.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { inputsOf, OP_USES, outputsOf, strided } from "../helpers/op-table.js";

const FLOATS = ["float64", "float32", "float16", "bfloat16"] as const;

const ADDING = [
  ..."matmul linear conv2d scaledDotProductAttention sum mean variance logsumexp".split(" "),
];

function bits(x: mp.Tensor): string {
  return Buffer.from(x.bytes()).toString("hex");
}

describe.each(FLOATS)("%s", (dtype) => {
  // A few roundings of 16-bit results; float32 sums cancel here and there.
  const allowed = { float64: 0, float32: 40, float16: 2, bfloat16: 2 }[dtype];
  const { eps } = mp.finfo(dtype);

  test.each(OP_USES)("$op $label", (entry) => {
    const inputs = inputsOf(entry, dtype);
    const before = inputs.map(bits);
    const outputs = outputsOf(entry, inputs);
    expect(inputs.map(bits)).toEqual(before);
    const exact = outputsOf(
      entry,
      inputs.map((x) => x.to("float64")),
    );
    outputs.forEach((output, i) => {
      expect(output.dtype).toBe(dtype);
      expect(output.shape).toEqual(exact[i]!.shape);
      if (output.numel === 0) return;
      const scale = Math.max(1, exact[i]!.abs().amax().item());
      const error = output.to("float64").sub(exact[i]!).abs().amax().item();
      expect(error / scale / eps).toBeLessThanOrEqual(allowed);
    });
  });

  test.each(OP_USES)("$op $label, strided", (entry) => {
    const inputs = inputsOf(entry, dtype);
    const views = inputs.map(strided);
    const dense = outputsOf(entry, inputs);
    outputsOf(entry, views).forEach((output, i) => {
      expect(output.shape).toEqual(dense[i]!.shape);
      // These add in an order that suits the memory; the others do the same with the same elements.
      if (ADDING.includes(entry.op)) {
        if (output.numel === 0) return;
        const error = output.sub(dense[i]!).to("float64").abs().amax().item();
        const scale = Math.max(1, dense[i]!.to("float64").abs().amax().item());
        expect(error / scale / eps).toBeLessThanOrEqual(4);
      } else {
        expect(bits(output)).toBe(bits(dense[i]!));
      }
    });
  });
});

describe("methods", () => {
  const NAMES = [
    ..."add sub mul div pow neg abs exp log sqrt rsqrt reciprocal tanh sigmoid relu gelu".split(
      " ",
    ),
    ..."silu erf sin cos clamp maximum minimum eq ne lt le gt ge where maskedFill".split(" "),
    ..."isnan isfinite matmul linear sum mean variance amax amin argmax argmin softmax".split(" "),
    ..."logSoftmax logsumexp cumsum topk sort multinomial reshape flatten transpose".split(" "),
    ..."permute expand squeeze unsqueeze narrow slice select cat stack split chunk gather".split(
      " ",
    ),
    ..."indexSelect scatterAdd embedding layerNorm rmsNorm dropout conv2d".split(" "),
    ..."scaledDotProductAttention crossEntropy mseLoss l1Loss bceWithLogits nllLoss".split(" "),
  ];

  test("are there for every operation", () => {
    const functions = mp as unknown as Record<string, unknown>;
    const methods = mp.Tensor.prototype as unknown as Record<string, unknown>;
    expect(NAMES.filter((name) => typeof functions[name] !== "function")).toEqual([]);
    expect(NAMES.filter((name) => typeof methods[name] !== "function")).toEqual([]);
  });

  test("take what the functions take after the tensor", () => {
    const x = mp.tensor([
      [1, -2, 3],
      [4, 5, -6],
    ]);
    expect(x.sum({ dim: 1 }).toArray()).toEqual(mp.sum(x, { dim: 1 }).toArray());
    expect(x.topk(2).indices.toArray()).toEqual(mp.topk(x, 2).indices.toArray());
    expect(x.slice(1, 0, 2).toArray()).toEqual(mp.slice(x, { dim: 1, end: 2 }).toArray());
    expect(x.where(x.gt(0), 0).toArray()).toEqual(mp.where(mp.gt(x, 0), x, 0).toArray());
    expect(x.cat([x], 1).toArray()).toEqual(mp.cat([x, x], 1).toArray());
    expect(x.stack([x], -1).toArray()).toEqual(mp.stack([x, x], -1).toArray());
    expect(mp.zeros([2], { dtype: "int32" }).fill(3).toArray()).toEqual([3, 3]);
    expect(mp.ones([2]).zero().toArray()).toEqual([0, 0]);
  });
});
