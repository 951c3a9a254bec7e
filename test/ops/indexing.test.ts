// Indexing, sorting and drawing beyond values and gradients (which are in golden.test.ts and
// gradients.test.ts): bounds, repeated indices, ties, NaN, bad arguments.

import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";

const ids = (data: mp.NestedArray, dtype: mp.DType = "int64"): mp.Tensor =>
  mp.tensor(data, { dtype });

describe("indices", () => {
  const x = mp.tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);

  it.each([
    ["gather", () => mp.gather(x, 1, ids([[3], [0]]))],
    ["gather, negative", () => mp.gather(x, 0, ids([[-1, 0, 0]]))],
    ["indexSelect", () => mp.indexSelect(x, 0, ids([2]))],
    ["scatterAdd", () => mp.scatterAdd(x, 0, ids([[5]]), mp.ones([1, 1]))],
    ["embedding", () => mp.embedding(x, ids([0, 2]))],
    ["paddingIdx", () => mp.embedding(x, ids([0]), { paddingIdx: 2 })],
    ["crossEntropy", () => mp.crossEntropy(x, ids([0, 3]))],
    ["nllLoss", () => mp.nllLoss(x, ids([0, 3]))],
  ])("out of range are an ArgumentError: %s", (_, fn) => {
    expect(fn).toThrow(mp.ArgumentError);
  });

  it.each(["float32", "bool"] as const)("are not of %s", (dtype) => {
    const bad = mp.zeros([1, 1], { dtype });
    expect(() => mp.gather(x, 0, bad)).toThrow(/gather: expected index of an integer dtype/);
    expect(() => mp.embedding(x, bad)).toThrow(/embedding: expected ids of an integer dtype/);
    expect(() => mp.indexSelect(x, 0, bad)).toThrow(mp.DTypeError);
    expect(() => mp.scatterAdd(x, 0, bad, mp.ones([1, 1]))).toThrow(mp.DTypeError);
  });

  it.each(["int32", "int8", "uint8"] as const)("may be of %s", (dtype) => {
    expect(
      mp
        .embedding(x, ids([1, 0], dtype))
        .select(1, 0)
        .toArray(),
    ).toEqual([4, 1]);
    expect(mp.gather(x, 1, ids([[2], [1]], dtype)).toArray()).toEqual([[3], [5]]);
    expect(mp.crossEntropy(x, ids([0, 1], dtype)).item()).toBeGreaterThan(0);
  });

  it("fit the shape of what they pick from", () => {
    expect(() => mp.gather(x, 0, ids([0, 1]))).toThrow(/gather: expected index within the shape/);
    expect(() => mp.gather(x, 1, ids([[0], [0], [0]]))).toThrow(mp.ShapeError);
    expect(() => mp.indexSelect(x, 0, ids([[0]]))).toThrow(mp.ShapeError);
    expect(() => mp.scatterAdd(x, 0, ids([[0, 0]]), mp.ones([1, 1]))).toThrow(
      /within the shape of/,
    );
    expect(() => mp.scatterAdd(x, 0, ids([[0]]), mp.ones([1, 1], { dtype: "float64" }))).toThrow(
      /scatterAdd: expected input and source of one dtype/,
    );
    expect(() => mp.embedding(mp.ones([3]), ids([0]))).toThrow(/expected weight \[V, D\]/);
  });

  it("that repeat add up, in 16 bits too", () => {
    const weight = mp.ones([3, 1], { dtype: "bfloat16", requiresGrad: true });
    const many = mp.zeros([1000], { dtype: "int64" });
    mp.embedding(weight, many).sum().backward();
    // 1000 ones, summed in float32; in bfloat16 the sum would stop at 256.
    expect(weight.grad!.toArray()).toEqual([[1000], [0], [0]]);
  });

  it("give the padding row no gradient, and its own none of the second order", () => {
    const weight = mp.ones([3, 2], { dtype: "float64", requiresGrad: true });
    const picked = mp.embedding(weight, ids([0, 2, 2]), { paddingIdx: -1 });
    expect(picked.sum().item()).toBe(6);
    const first = mp.grad(picked.mul(picked).sum(), weight, { createGraph: true });
    expect(first.toArray()).toEqual([
      [2, 2],
      [0, 0],
      [0, 0],
    ]);
    const second = mp.grad(first.sum(), weight);
    expect(second.toArray()).toEqual([
      [2, 2],
      [0, 0],
      [0, 0],
    ]);
  });
});

describe("order", () => {
  it("is stable, with NaN as the largest", () => {
    const x = mp.tensor([2, NaN, 1, 2, 1]);
    const up = mp.sort(x);
    expect(up.indices.toArray()).toEqual([2, 4, 0, 3, 1]);
    expect(mp.sort(x, { descending: true }).indices.toArray()).toEqual([1, 0, 3, 2, 4]);
    expect(mp.topk(x, 2).indices.toArray()).toEqual([1, 0]);
    expect(mp.topk(x, 2, { largest: false }).values.toArray()).toEqual([1, 1]);
  });

  it("keeps the order of equal elements in any share of a long row", () => {
    const x = mp.zeros([3000]);
    for (const k of [10, 400, 600, 2000, 2999, 3000]) {
      const { indices } = mp.topk(x, k);
      expect(indices.toArray()).toEqual(Array.from({ length: k }, (_, i) => i));
    }
  });

  it("takes no more than there is", () => {
    expect(() => mp.topk(mp.ones([3]), 4)).toThrow(/topk: expected k from 0 to 3, got 4/);
    expect(() => mp.topk(mp.ones([3]), 1.5)).toThrow(mp.ArgumentError);
    expect(() => mp.sort(mp.ones([3]), { dim: 1 })).toThrow(mp.ShapeError);
    expect(() => mp.cumsum(mp.ones([3]), {})).toThrow(mp.ArgumentError);
  });

  it("sums integers and bool to int64", () => {
    const x = mp.tensor([true, true, false]);
    expect(mp.cumsum(x, 0).toArray()).toEqual([1, 2, 2]);
    expect(mp.cumsum(x, 0).dtype).toBe("int64");
    expect(mp.cumsum(mp.tensor([1, 2]), 0, { dtype: "float64" }).dtype).toBe("float64");
  });
});

describe("multinomial", () => {
  it("draws in proportion to the weights", () => {
    mp.manualSeed(1);
    const weights = mp.tensor([1, 0, 3, 6], { dtype: "float64" });
    const drawn = mp.multinomial(weights, 20_000, { replacement: true });
    expect(drawn.dtype).toBe("int64");
    const shares = [0, 1, 2, 3].map((k) => drawn.eq(k).sum().item() / 20_000);
    expect(shares[1]).toBe(0);
    [0.1, 0, 0.3, 0.6].forEach((share, k) => {
      expect(Math.abs(shares[k]! - share)).toBeLessThan(0.015);
    });
  });

  it("draws nothing twice without replacement, and all there is", () => {
    mp.manualSeed(2);
    const rows = mp.multinomial(mp.rand([50, 6]).add(0.1), 6).toArray() as number[][];
    for (const row of rows) expect([...row].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    const first = rows.map((row) => row[0]);
    expect(new Set(first).size).toBeGreaterThan(3);
  });

  it("is the same for the same seed, and another draw each time", () => {
    const weights = mp.ones([1000]);
    const draw = (): unknown => mp.multinomial(weights, 5).toArray();
    mp.manualSeed(3);
    const [a, b] = [draw(), draw()];
    mp.manualSeed(3);
    expect(draw()).toEqual(a);
    expect(draw()).toEqual(b);
    expect(a).not.toEqual(b);
  });

  it.each([
    ["negative weights", () => mp.multinomial(mp.tensor([1, -1]), 1)],
    ["weights that are not finite", () => mp.multinomial(mp.tensor([1, NaN]), 1)],
    ["weights that are all 0", () => mp.multinomial(mp.zeros([3]), 1)],
    ["too many samples", () => mp.multinomial(mp.ones([3]), 4)],
    ["too few weights other than 0", () => mp.multinomial(mp.tensor([1, 0, 0]), 2)],
    ["no samples", () => mp.multinomial(mp.ones([3]), 0)],
    ["no weights", () => mp.multinomial(mp.ones([0]), 1, { replacement: true })],
  ])("refuses %s", (_, fn) => {
    expect(fn).toThrow(mp.ArgumentError);
  });

  it("takes floating weights of one or two dimensions", () => {
    expect(() => mp.multinomial(mp.ones([2], { dtype: "int64" }), 1)).toThrow(mp.DTypeError);
    expect(() => mp.multinomial(mp.ones([2, 2, 2]), 1)).toThrow(mp.ShapeError);
    expect(mp.multinomial(mp.ones([2, 3], { dtype: "float16" }), 2).shape).toEqual([2, 2]);
  });
});
