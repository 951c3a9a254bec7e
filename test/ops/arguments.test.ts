// Argument forms: a dimension by its place, as in torch, or among the options, and options that do not
// exist.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";

const x = mp.tensor([
  [3, 1, 2],
  [4, 6, 5],
]);
const row = mp.tensor([[1, 2, 3]]);
const columns = mp
  .tensor([
    [0, 2],
    [1, 0],
  ])
  .to("int64");
const list = mp.tensor([2, 0]).to("int64");
const source = mp.ones([2, 2]);

type Result = mp.Tensor | readonly mp.Tensor[] | mp.Ordered;
type Form = () => Result;

function arrays(result: Result): unknown {
  if (result instanceof mp.Tensor) return [result.dtype, result.toArray()];
  if ("indices" in result) return [result.values.toArray(), result.indices.toArray()];
  return result.map((tensor) => tensor.toArray());
}

const FORMS: readonly (readonly [name: string, first: Form, ...others: Form[]])[] = [
  ["sum", () => mp.sum(x, { dim: 1 }), () => mp.sum(x, 1), () => x.sum([1]), () => x.sum(-1)],
  [
    "sum with options",
    () => x.sum({ dim: [0, 1], keepdim: true, dtype: "float64" }),
    () => x.sum([0, 1], { keepdim: true, dtype: "float64" }),
    () => x.sum(undefined, { keepdim: true, dtype: "float64" }),
  ],
  ["mean", () => mp.mean(x, { dim: 0, keepdim: true }), () => x.mean(0, { keepdim: true })],
  [
    "variance",
    () => mp.variance(x, { dim: 1, correction: 0 }),
    () => x.variance(1, { unbiased: false }),
  ],
  ["amax", () => mp.amax(x, { dim: 1 }), () => x.amax(1)],
  ["amin", () => mp.amin(x, { dim: 1, keepdim: true }), () => x.amin(1, { keepdim: true })],
  ["argmax", () => mp.argmax(x, { dim: 1 }), () => x.argmax(1)],
  ["argmin", () => mp.argmin(x, { dim: 1, keepdim: true }), () => x.argmin(1, { keepdim: true })],
  ["logsumexp", () => mp.logsumexp(x, { dim: 1 }), () => x.logsumexp(1)],
  ["softmax", () => mp.softmax(x, { dim: 0 }), () => mp.softmax(x, 0), () => x.softmax(-2)],
  [
    "logSoftmax",
    () => mp.logSoftmax(x, { dim: 0, dtype: "float64" }),
    () => x.logSoftmax(0, { dtype: "float64" }),
  ],
  ["cumsum", () => mp.cumsum(x, { dim: 1 }), () => mp.cumsum(x, 1), () => x.cumsum(-1)],
  ["sort", () => mp.sort(x, { dim: 0, descending: true }), () => x.sort(0, { descending: true })],
  ["topk", () => mp.topk(x, 2, { dim: 1 }), () => mp.topk(x, 2, 1), () => x.topk(2)],
  ["reshape", () => mp.reshape(x, [3, -1]), () => x.reshape(3, 2), () => x.reshape([3, 2])],
  ["reshape to one", () => mp.reshape(x, [-1]), () => x.reshape(-1), () => x.flatten()],
  ["flatten", () => mp.flatten(x, 0, 1), () => x.flatten({ startDim: 0, endDim: -1 })],
  ["permute", () => mp.permute(x, [1, 0]), () => x.permute(1, 0), () => x.transpose(0, 1)],
  ["expand", () => mp.expand(row, [2, 3]), () => row.expand(2, -1)],
  ["squeeze", () => mp.squeeze(row, 0), () => row.squeeze({ dim: 0 }), () => row.squeeze([0])],
  ["unsqueeze", () => mp.unsqueeze(x, -1), () => x.unsqueeze({ dim: -1 })],
  ["narrow", () => mp.narrow(x, 1, 1, 2), () => x.narrow({ dim: 1, start: 1, length: 2 })],
  ["select", () => mp.select(x, 1, -1), () => x.select({ dim: 1, index: -1 })],
  ["slice", () => mp.slice(x, 1, 1, 3), () => x.slice({ dim: 1, start: 1 })],
  ["cat", () => mp.cat([x, x], 1), () => mp.cat([x, x], { dim: 1 }), () => x.cat([x], { dim: 1 })],
  ["stack", () => mp.stack([x, x], -1), () => mp.stack([x, x], { dim: 2 }), () => x.stack([x], 2)],
  ["split", () => mp.split(x, 2, 1), () => mp.split(x, [2, 1], { dim: 1 }), () => x.split(2, 1)],
  ["chunk", () => mp.chunk(x, 2, 1), () => x.chunk(2, { dim: 1 })],
  ["gather", () => mp.gather(x, 1, columns), () => x.gather(columns, { dim: 1 })],
  ["indexSelect", () => mp.indexSelect(x, 1, list), () => x.indexSelect(list, { dim: 1 })],
  [
    "scatterAdd",
    () => mp.scatterAdd(x, 1, columns, source),
    () => x.scatterAdd(columns, source, { dim: 1 }),
  ],
  ["clamp", () => mp.clamp(x, { min: 2, max: 4 }), () => x.clamp(2, 4)],
  ["clamp above", () => mp.clamp(x, { max: 4 }), () => x.clamp(undefined, 4)],
  [
    "arange",
    () => mp.arange(0, 3, 1, { dtype: "float32" }),
    () => mp.arange(0, 3, { dtype: "float32" }),
    () => mp.arange(3, { dtype: "float32" }),
  ],
];

describe("forms that mean the same", () => {
  for (const [name, first, ...others] of FORMS) {
    test(name, () => {
      const expected = arrays(first());
      for (const other of others) expect(arrays(other())).toEqual(expected);
    });
  }
});

/** Calls that types refuse. */
const untyped = mp as unknown as Record<string, (...args: unknown[]) => unknown>;

const REFUSED: readonly (readonly [call: string, name: string, args: readonly unknown[]])[] = [
  ["dims", "sum", [x, { dims: 0 }]],
  ["keepDim", "sum", [x, 0, { keepDim: true }]],
  ["two options objects", "mean", [x, { dim: 0 }, { keepdim: true }]],
  ["dim twice", "amax", [x, 0, { dim: 0 }]],
  ["unbiased with correction", "variance", [x, { correction: 0, unbiased: true }]],
  ["dimension", "softmax", [x, { dimension: 0 }]],
  ["decending", "sort", [x, { decending: true }]],
  ["k among options", "topk", [x, 2, { k: 2 }]],
  ["axis", "cat", [[x, x], { axis: 0 }]],
  ["axis", "split", [x, 1, { axis: 0 }]],
  ["axis", "gather", [x, columns, { axis: 0 }]],
  ["from", "slice", [x, { from: 0 }]],
  ["offset", "narrow", [x, { dim: 0, offset: 0, length: 1 }]],
  ["minimum", "clamp", [x, { minimum: 0 }]],
  ["no bounds", "clamp", [x]],
  ["a bound as text", "clamp", [x, "1"]],
  ["approx", "gelu", [x, { approx: "tanh" }]],
  ["rate", "dropout", [x, { rate: 0.5 }]],
  ["epsilon", "layerNorm", [x, [3], null, null, { epsilon: 1 }]],
  ["isCausal", "scaledDotProductAttention", [x, x, x, { isCausal: true }]],
  ["label_smoothing", "crossEntropy", [x, list, { label_smoothing: 0.1 }]],
  ["posWeight", "mseLoss", [x, x, { posWeight: x }]],
  ["strides", "conv2d", [mp.ones([1, 1, 2, 2]), mp.ones([1, 1, 1, 1]), null, { strides: 2 }]],
  ["requires_grad", "tensor", [[1], { requires_grad: true }]],
  ["dtpye", "zeros", [[2], { dtpye: "float64" }]],
  ["a number as options", "eye", [2, 3]],
  ["text", "full", [[2], "1"]],
  ["type", "to", [x, { type: "float64" }]],
  ["a step away from the end", "arange", [0, 5, -1]],
  ["NaN", "arange", [NaN]],
  ["options in the middle", "arange", [0, {}, 5]],
  ["retain_graph", "grad", [x, x, { retain_graph: true }]],
];

describe("arguments that mean nothing are errors", () => {
  test.each(REFUSED)("%s: %s", (_call, name, args) => {
    let error: unknown;
    try {
      untyped[name]!(...args);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(mp.ArgumentError);
    expect(error).toMatchObject({ op: name, code: "ERR_ARGUMENT" });
    expect((error as Error).message).toMatch(new RegExp(`^${name}: `));
  });

  test.each([
    ["Linear", () => new mp.nn.Linear(2, 3, { bais: false } as object)],
    ["Embedding", () => new mp.nn.Embedding(2, 3, { padding_idx: 0 } as object)],
    ["LayerNorm", () => new mp.nn.LayerNorm(2, { epsilon: 1 } as object)],
    ["RMSNorm", () => new mp.nn.RMSNorm(2, { bias: true } as object)],
    ["Conv2d", () => new mp.nn.Conv2d(1, 1, 1, { pading: 1 } as object)],
    ["Dropout", () => new mp.nn.Dropout({ rate: 1 } as object)],
    ["GELU", () => new mp.nn.GELU({ approx: "tanh" } as object)],
    [
      "MultiheadAttention",
      () => new mp.nn.MultiheadAttention(2, 1, { batch_first: true } as object),
    ],
    ["BatchNorm1d", () => new mp.nn.BatchNorm1d(2, { epsilon: 1 } as object)],
    ["autocast", () => mp.autocast({ dytpe: "float16" } as object, () => 1)],
    ["GradScaler", () => new mp.GradScaler({ init_scale: 1 } as object)],
    ["clipGradNorm", () => mp.clipGradNorm([], 1, { norm_type: 2 } as object)],
    ["normal", () => mp.nn.init.normal(mp.ones([2]), { sigma: 1 } as object)],
  ])("%s", (name, make) => {
    expect(make).toThrow(mp.ArgumentError);
    expect(make).toThrow(new RegExp(`^${name}: there is no option`));
  });
});

test("initializers take their numbers in torch's order too", () => {
  const fill = (draw: (w: mp.Tensor) => mp.Tensor): unknown => {
    mp.manualSeed(3);
    return draw(mp.empty([2, 3])).toArray();
  };
  const { init } = mp.nn;
  expect(fill((w) => init.uniform(w, -2, 1))).toEqual(
    fill((w) => init.uniform(w, { a: -2, b: 1 })),
  );
  expect(fill((w) => init.normal(w, 1, 0.5))).toEqual(
    fill((w) => init.normal(w, { mean: 1, std: 0.5 })),
  );
  expect(() => init.uniform(mp.ones([2]), 0, 1, 2)).toThrow(mp.ArgumentError);
});
