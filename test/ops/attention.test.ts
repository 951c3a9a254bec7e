import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { gradcheck } from "../helpers/gradcheck.js";

const F64 = { dtype: "float64" } as const;

/** Attention by its formula, in float64, out of other operations. */
function formula(
  q: mp.Tensor,
  k: mp.Tensor,
  v: mp.Tensor,
  mask: mp.Tensor | null,
  scale: number,
): mp.Tensor {
  const wide = [q, k, v].map((x) => x.to("float64")) as [mp.Tensor, mp.Tensor, mp.Tensor];
  let scores = mp.matmul(wide[0], wide[1].transpose(-1, -2)).mul(scale);
  if (mask?.dtype === "bool") scores = mp.where(mask, scores, -Infinity);
  else if (mask) scores = scores.add(mask.to("float64"));
  return mp.matmul(scores.softmax({ dim: -1 }), wide[2]);
}

function expectClose(actual: mp.Tensor, expected: mp.Tensor, tolerance: number): void {
  expect(actual.shape).toEqual(expected.shape);
  const error = actual.to("float64").sub(expected).abs();
  expect(error.numel === 0 ? 0 : error.amax().item()).toBeLessThan(tolerance);
}

function inputs(shape: [number[], number[], number[]], dtype: mp.DType = "float64"): mp.Tensor[] {
  mp.manualSeed(11);
  return shape.map((s) => mp.randn(s, { dtype }));
}

describe("scaledDotProductAttention", () => {
  it.each([
    ["float64", 1e-13],
    ["float32", 2e-6],
    ["float16", 3e-3],
    ["bfloat16", 3e-2],
  ] as const)("is softmax(q k^T / sqrt(D)) v in %s", (dtype, tolerance) => {
    const [q, k, v] = inputs(
      [
        [2, 3, 9, 8],
        [2, 3, 17, 8],
        [2, 3, 17, 5],
      ],
      dtype,
    );
    const out = mp.scaledDotProductAttention(q!, k!, v!);
    expect(out.dtype).toBe(dtype);
    expectClose(out, formula(q!, k!, v!, null, 1 / Math.sqrt(8)), tolerance);
  });

  it("takes a bool mask, an added mask, and a scale", () => {
    const [q, k, v] = inputs([
      [2, 2, 4, 3],
      [2, 2, 6, 3],
      [2, 2, 6, 3],
    ]);
    const seen = mp.rand([2, 1, 4, 6], F64).lt(0.7);
    const out = mp.scaledDotProductAttention(q!, k!, v!, { mask: seen, scale: 0.3 });
    expectClose(out, formula(q!, k!, v!, seen, 0.3), 1e-13);
    const added = mp.randn([4, 6], F64);
    const biased = mp.scaledDotProductAttention(q!, k!, v!, { mask: added });
    expectClose(biased, formula(q!, k!, v!, added, 1 / Math.sqrt(3)), 1e-13);
  });

  it("sees only the past when causal", () => {
    const [q, k, v] = inputs([
      [1, 2, 5, 4],
      [1, 2, 7, 4],
      [1, 2, 7, 4],
    ]);
    const past = mp.arange(0, 7).le(mp.arange(0, 5).reshape([5, 1]));
    const out = mp.scaledDotProductAttention(q!, k!, v!, { causal: true });
    expectClose(out, formula(q!, k!, v!, past, 0.5), 1e-13);
  });

  it("gives zeros for a row with everything masked, and no NaN to its gradients", () => {
    const [q, k, v] = inputs([
      [1, 1, 2, 3],
      [1, 1, 4, 3],
      [1, 1, 4, 3],
    ]);
    const mask = mp.tensor([
      [true, true, false, true],
      [false, false, false, false],
    ]);
    for (const x of [q!, k!, v!]) x.requiresGrad = true;
    const out = mp.scaledDotProductAttention(q!, k!, v!, { mask });
    expect(out.select(2, 1).toArray()).toEqual([[[0, 0, 0]]]);
    out.sum().backward();
    for (const x of [q!, k!, v!]) expect(x.grad!.isfinite().sum().item()).toBe(x.numel);
  });

  it("broadcasts leading dimensions and takes any rank", () => {
    const [q, k, v] = inputs([
      [5, 4],
      [2, 3, 6, 4],
      [3, 6, 4],
    ]);
    const out = mp.scaledDotProductAttention(q!, k!, v!);
    expect(out.shape).toEqual([2, 3, 5, 4]);
    expectClose(out, formula(q!, k!, v!, null, 0.5), 1e-13);
    const [a, b, c] = inputs([
      [5, 4],
      [6, 4],
      [6, 2],
    ]);
    expectClose(mp.scaledDotProductAttention(a!, b!, c!), formula(a!, b!, c!, null, 0.5), 1e-13);
  });

  it("works through more rows than one block of scores holds", () => {
    const [q, k, v] = inputs(
      [
        [1, 1, 150, 4],
        [1, 1, 1000, 4],
        [1, 1, 1000, 4],
      ],
      "float32",
    );
    for (const x of [q!, k!, v!]) x.requiresGrad = true;
    const out = mp.scaledDotProductAttention(q!, k!, v!);
    expectClose(out, formula(q!, k!, v!, null, 0.5), 1e-5);
    const weight = mp.randn(out.shape);
    const grads = mp.grad(out.mul(weight).sum(), [q!, k!, v!]);
    const wide = [q!, k!, v!].map((x) => {
      const leaf = x.detach().to("float64");
      leaf.requiresGrad = true;
      return leaf;
    });
    const exact = formula(wide[0]!, wide[1]!, wide[2]!, null, 0.5).mul(weight.to("float64")).sum();
    mp.grad(exact, wide).forEach((expected, i) => {
      expectClose(grads[i]!, expected, 1e-5);
    });
  });

  it.each([
    ["plainly", {}],
    ["causally", { causal: true }],
    ["with a scale", { scale: 0.2 }],
    ["with dropout", { dropout: 0.3 }],
  ])("differentiates %s", (_, options) => {
    const [q, k, v] = inputs([
      [2, 2, 3, 4],
      [2, 2, 5, 4],
      [2, 2, 5, 3],
    ]);
    const attend = (a?: mp.Tensor, b?: mp.Tensor, c?: mp.Tensor): mp.Tensor => {
      mp.manualSeed(5);
      return mp.scaledDotProductAttention(a!, b!, c!, options);
    };
    gradcheck(attend, [q!, k!, v!], { second: true });
  });

  it("differentiates views and masks", () => {
    const [q, k, v] = inputs([
      [2, 3, 2, 4],
      [2, 5, 2, 4],
      [2, 5, 2, 4],
    ]);
    const seen = mp.rand([2, 1, 3, 5], F64).lt(0.8);
    const heads = (x?: mp.Tensor): mp.Tensor => x!.transpose(1, 2);
    const attend = (a?: mp.Tensor, b?: mp.Tensor, c?: mp.Tensor): mp.Tensor =>
      mp.scaledDotProductAttention(heads(a), heads(b), heads(c), { mask: seen });
    gradcheck(attend, [q!, k!, v!], { second: true });
    const added = mp.randn([3, 5], F64);
    gradcheck(
      (a, m) => mp.scaledDotProductAttention(heads(a), heads(k), heads(v), { mask: m }),
      [q!, added],
    );
  });

  it("drops the share of weights that it is told to, and scales the rest", () => {
    mp.manualSeed(3);
    const q = mp.zeros([4, 8, 32, 8]);
    const v = mp.ones([4, 8, 32, 8]);
    const out = mp.scaledDotProductAttention(q, q, v, { dropout: 0.25 });
    expect(out.mean().item()).toBeCloseTo(1, 1);
    const again = mp.scaledDotProductAttention(q, q, v, { dropout: 0.25 });
    expect(again.toArray()).not.toEqual(out.toArray());
    mp.manualSeed(3);
    const same = mp.scaledDotProductAttention(q, q, v, { dropout: 0.25 });
    expect(same.toArray()).toEqual(out.toArray());
  });

  it("names what does not fit", () => {
    const x = mp.zeros([1, 2, 3, 4]);
    const attend = mp.scaledDotProductAttention;
    expect(() => attend(x, mp.zeros([1, 2, 3, 5]), x)).toThrow(mp.ShapeError);
    expect(() => attend(x, x, mp.zeros([1, 2, 7, 4]))).toThrow(/different lengths/);
    expect(() => attend(x, x, x.to("float16"))).toThrow(mp.DTypeError);
    expect(() => attend(x, x, x, { dropout: 2 })).toThrow(mp.ArgumentError);
    const mask = mp.ones([3, 3], { dtype: "bool" });
    expect(() => attend(x, x, x, { causal: true, mask })).toThrow(mp.ArgumentError);
    expect(() => attend(x, x, x, { mask: mp.ones([5, 3], { dtype: "bool" }) })).toThrow(
      mp.ShapeError,
    );
  });
});
