// The tape: accumulation, freeing, retaining, higher order, what changed in place, and its errors.

import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";

const leaf = (data: mp.NestedArray, dtype: mp.DType = "float32"): mp.Tensor =>
  mp.tensor(data, { dtype, requiresGrad: true });

describe("backward", () => {
  it("adds up gradients over calls and over uses", () => {
    const x = leaf([1, 2, 3]);
    x.mul(x).add(x).sum().backward();
    expect(x.grad!.toArray()).toEqual([3, 5, 7]);
    const first = x.grad;
    x.mul(2).sum().backward();
    expect(x.grad).toBe(first);
    expect(x.grad!.toArray()).toEqual([5, 7, 9]);
    x.grad = null;
    x.sum().backward();
    expect(x.grad!.toArray()).toEqual([1, 1, 1]);
  });

  it("takes a gradient for outputs of several elements, and broadcasts nothing", () => {
    const x = leaf([1, 2]);
    x.mul(3).backward(mp.tensor([1, 10]));
    expect(x.grad!.toArray()).toEqual([3, 30]);
    expect(() => x.mul(3).backward()).toThrow(/one element only, got a tensor of shape \[2\]/);
    expect(() => x.mul(3).backward(mp.ones([1]))).toThrow(mp.ShapeError);
  });

  it("does not give one gradient's memory to two leaves", () => {
    const [a, b] = [leaf([1, 2]), leaf([3, 4])];
    a.add(b).sum().backward();
    expect(a.grad).not.toBe(b.grad);
    mp.noGrad(() => a.grad!.fill(9));
    expect(b.grad!.toArray()).toEqual([1, 1]);
  });

  it("gives a leaf its dtype, and a view of one its place", () => {
    const x = leaf([
      [1, 2],
      [3, 4],
    ]);
    x.to("bfloat16").select(1, 0).mul(2).sum().backward();
    expect(x.grad!.dtype).toBe("float32");
    expect(x.grad!.toArray()).toEqual([
      [2, 0],
      [2, 0],
    ]);
  });

  it("gives a leaf that is its own output the gradient", () => {
    const x = leaf(2);
    x.backward();
    expect(x.grad!.item()).toBe(1);
    expect(mp.grad(x, x).item()).toBe(1);
  });

  it("goes through a graph as deep as a loop", () => {
    const x = leaf(1, "float64");
    let y: mp.Tensor = x;
    for (let i = 0; i < 20_000; i++) y = y.mul(1.0001);
    y.backward();
    expect(x.grad!.item()).toBeCloseTo(1.0001 ** 20_000, 8);
  });

  it("frees as it goes, and says so when it is run again", () => {
    const x = leaf([1, 2]);
    const y = x.exp().sum();
    y.backward();
    expect(() => {
      y.backward();
    }).toThrow(/graph of sum was freed by an earlier backward.*retainGraph: true/);
    const z = x.exp().sum();
    z.backward(undefined, { retainGraph: true });
    z.backward();
    expect((x.grad!.toArray() as number[])[0]).toBeCloseTo(3 * Math.E, 5);
  });

  it("frees what a node saved as soon as it has run", () => {
    const x = leaf([1, 2, 3]);
    const before = mp.memory.tensorCount();
    const loss = mp.tidy(() => x.exp().tanh().mul(2).sum());
    expect(mp.memory.tensorCount()).toBe(before + 3);
    loss.backward();
    loss.dispose();
    x.grad!.dispose();
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("needs a graph", () => {
    expect(() => {
      mp.tensor(1).backward();
    }).toThrow(mp.GradError);
    const x = leaf(1);
    expect(() => {
      mp.noGrad(() => x.mul(2)).backward();
    }).toThrow(/does not require gradients/);
    expect(() => {
      const y = x.mul(2);
      y.dispose();
      y.backward();
    }).toThrow(mp.DisposedError);
  });
});

describe("modes", () => {
  it("record nothing inside noGrad, and again inside enableGrad", () => {
    const x = leaf([1, 2]);
    mp.noGrad(() => {
      expect(mp.isGradEnabled()).toBe(false);
      expect(x.mul(2).requiresGrad).toBe(false);
      mp.enableGrad(() => {
        expect(x.mul(2).requiresGrad).toBe(true);
      });
      expect(mp.isGradEnabled()).toBe(false);
    });
    expect(x.mul(2).requiresGrad).toBe(true);
  });

  it("are restored when the function throws, and take no promise", () => {
    expect(() =>
      mp.noGrad(() => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(mp.isGradEnabled()).toBe(true);
    expect(() => mp.noGrad(() => Promise.resolve(1))).toThrow(mp.GradError);
    expect(() => mp.enableGrad(() => Promise.resolve(1))).toThrow(/returns a promise/);
    expect(mp.isGradEnabled()).toBe(true);
  });

  it("stop gradients at detach, which shares memory", () => {
    const x = leaf([1, 2]);
    const d = x.detach();
    expect(d.requiresGrad).toBe(false);
    x.mul(d).sum().backward();
    expect(x.grad!.toArray()).toEqual([1, 2]);
    d.fill(5);
    expect(x.toArray()).toEqual([5, 5]);
  });

  it("let only floating leaves require gradients, and only leaves stop", () => {
    expect(() => mp.tensor([1], { dtype: "int64", requiresGrad: true })).toThrow(
      /only floating-point tensors can require gradients, got int64/,
    );
    const y = leaf([1]).mul(2);
    expect(() => {
      y.requiresGrad = false;
    }).toThrow(/made by mul cannot stop/);
    expect(leaf([1, 2]).gt(1).requiresGrad).toBe(false);
    expect(leaf([1, 2]).argmax().requiresGrad).toBe(false);
    const { values, indices } = leaf([1, 2]).sort();
    expect([values.requiresGrad, indices.requiresGrad]).toEqual([true, false]);
  });
});

describe("grad", () => {
  it("leaves the leaves alone", () => {
    const [x, y] = [leaf([1, 2]), leaf([3, 4])];
    const [gx, gy] = mp.grad(x.mul(y).sum(), [x, y]);
    expect([gx!.toArray(), gy!.toArray()]).toEqual([
      [3, 4],
      [1, 2],
    ]);
    expect([x.grad, y.grad]).toEqual([null, null]);
  });

  it("stops at intermediate tensors", () => {
    const x = leaf([1, 2]);
    const middle = x.mul(3);
    const found = mp.grad(middle.mul(middle).sum(), middle);
    expect(found.toArray()).toEqual([6, 12]);
  });

  it("takes several outputs with their gradients", () => {
    const x = leaf([1, 2]);
    const found = mp.grad([x.mul(2), x.sum()], x, { gradOutputs: [mp.tensor([1, 10]), undefined] });
    expect(found.toArray()).toEqual([3, 21]);
  });

  it("names inputs that play no part", () => {
    const [x, y] = [leaf([1, 2]), leaf([3, 4])];
    expect(() => mp.grad(x.sum(), [x, y])).toThrow(/input 1 was not used.*allowUnused/);
    const found = mp.grad(x.sum(), [x, y], { allowUnused: true }) as (mp.Tensor | null)[];
    expect(found[1]).toBeNull();
    expect(() => mp.grad(x.sum(), mp.tensor([1]))).toThrow(/input 0 does not require gradients/);
  });

  it("differentiates gradients, to the third order", () => {
    const x = leaf(0.7, "float64");
    const options = { createGraph: true };
    const first = mp.grad(x.pow(4), x, options);
    const second = mp.grad(first, x, options);
    const third = mp.grad(second, x);
    expect(second.item()).toBeCloseTo(12 * 0.7 ** 2, 12);
    expect(third.item()).toBeCloseTo(24 * 0.7, 12);
  });

  it("accumulates gradients that can be differentiated", () => {
    const x = leaf(3, "float64");
    x.mul(x).mul(x).backward(undefined, { createGraph: true });
    const penalty = x.grad!.mul(x.grad!);
    expect(mp.grad(penalty, x).item()).toBeCloseTo(2 * 27 * 18, 9);
  });
});

describe("tensors changed in place", () => {
  it.each([
    ["exp", (x: mp.Tensor) => x.exp(), "output"],
    ["log", (x: mp.Tensor) => x.log(), "input"],
    ["mul", (x: mp.Tensor) => x.mul(x.detach()), "input"],
    ["matmul", (x: mp.Tensor) => x.matmul(x.detach()), "input"],
    ["softmax", (x: mp.Tensor) => x.softmax(), "output"],
    ["layerNorm", (x: mp.Tensor) => x.layerNorm(2), "input"],
  ])("make %s refuse, by name", (name, fn, which) => {
    const x = leaf([
      [1, 2],
      [3, 4],
    ]);
    const y = fn(x);
    mp.noGrad(() => (which === "input" ? x : y).fill(1));
    expect(() => {
      y.sum().backward();
    }).toThrow(
      new RegExp(`backward: ${name} saved a float32 tensor of shape .* changed in place since`),
    );
  });

  it("are noticed through views", () => {
    const x = leaf([1, 2, 3]);
    const y = x.exp();
    mp.noGrad(() => y.narrow(0, 0, 1).fill(0));
    expect(() => {
      y.sum().backward();
    }).toThrow(mp.GradError);
  });

  it("are fine where nothing was saved", () => {
    const x = leaf([1, 2]);
    const y = x.add(1);
    mp.noGrad(() => x.fill(7));
    y.sum().backward();
    expect(x.grad!.toArray()).toEqual([1, 1]);
  });

  it("cannot be written while they are recorded", () => {
    const x = leaf([1, 2]);
    expect(() => x.fill(1)).toThrow(/fill: a tensor that requires gradients cannot be written/);
    expect(() => x.copyFrom(mp.zeros([2]))).toThrow(mp.GradError);
  });
});

it.each([
  [
    "transposed",
    () =>
      mp
        .tensor([
          [1, 2],
          [3, 4],
          [5, 6],
        ])
        .transpose(0, 1),
  ],
  ["expanded", () => mp.tensor([[1, 3, 5]]).expand([2, 3])],
])("a gradient is added to one that is %s", (_layout, make) => {
  const x = mp.ones([2, 3], { requiresGrad: true });
  x.grad = make();
  const expected = make().add(2).toArray();
  x.mul(2).sum().backward();
  expect(x.grad.toArray()).toEqual(expected);
});

it("a gradient is added to a recorded one", () => {
  const x = mp.tensor([[1, 2, 3]], { requiresGrad: true });
  x.transpose(0, 1).mul(x.transpose(0, 1)).sum().backward(undefined, { createGraph: true });
  x.mul(10).sum().backward();
  expect(x.grad!.toArray()).toEqual([[12, 14, 16]]);
});
