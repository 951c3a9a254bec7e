import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";
import { gradcheck } from "../helpers/gradcheck.js";

const F64 = { dtype: "float64" } as const;

function parameters(): { w1: mp.Tensor; w2: mp.Tensor; x: mp.Tensor } {
  mp.manualSeed(5);
  const [w1, w2, x] = [mp.randn([6, 4], F64), mp.randn([3, 6], F64), mp.randn([5, 4], F64)];
  for (const tensor of [w1, w2, x]) tensor.requiresGrad = true;
  return { w1, w2, x };
}

describe("checkpoint", () => {
  it("gives the gradients of the plain function, also to parameters it was not passed", () => {
    const { w1, w2, x } = parameters();
    let runs = 0;
    const block = (input: mp.Tensor): mp.Tensor => {
      runs++;
      return mp.linear(mp.gelu(mp.linear(input, w1)), w2).layerNorm(3);
    };
    const weights = mp.randn([5, 3], F64);
    const plain = mp.grad(block(x).mul(weights).sum(), [x, w1, w2]);
    runs = 0;
    const loss = mp.checkpoint(block, x).mul(weights).sum();
    expect(runs).toBe(1);
    const found = mp.grad(loss, [x, w1, w2]);
    expect(runs).toBe(2);
    found.forEach((grad, i) => {
      expect(grad.toArray()).toEqual(plain[i]!.toArray());
    });
  });

  it("reaches parameters where no argument needs a gradient", () => {
    const { w1 } = parameters();
    const x = mp.ones([2, 4], F64);
    mp.checkpoint((input: mp.Tensor) => mp.linear(input, w1).exp(), x)
      .sum()
      .backward();
    expect(w1.grad!.isfinite().sum().item()).toBe(24);
  });

  it("is differentiated twice, and retained", () => {
    const { x } = parameters();
    gradcheck((input) => mp.checkpoint((t: mp.Tensor) => t.tanh().mul(t).exp(), input), [x], {
      second: true,
    });
    let runs = 0;
    const y = mp
      .checkpoint((t: mp.Tensor) => {
        runs++;
        return t.exp().tanh();
      }, x)
      .sum();
    y.backward(undefined, { retainGraph: true });
    const once = x.grad!.clone();
    y.backward();
    expect(x.grad!.toArray()).toEqual(once.mul(2).toArray());
    expect(runs).toBe(3);
  });

  it("draws the same random numbers again, and does not disturb later ones", () => {
    const { x } = parameters();
    const block = (t: mp.Tensor): mp.Tensor => mp.dropout(t.exp(), { p: 0.5 }).mul(t);
    mp.manualSeed(1);
    const plainY = block(x);
    const after = mp.rand([2]);
    const plain = mp.grad(plainY.sum(), x);
    mp.manualSeed(1);
    const y = mp.checkpoint(block, x);
    expect(y.toArray()).toEqual(plainY.toArray());
    expect(mp.rand([2]).toArray()).toEqual(after.toArray());
    const state = mp.getRandomState();
    expect(mp.grad(y.sum(), x).toArray()).toEqual(plain.toArray());
    expect(mp.getRandomState()).toEqual(state);
  });

  it("computes again under the same autocast region and matmul precision", () => {
    const w = mp.tensor([[1 + 2 ** -9]], { requiresGrad: true });
    const x = mp.tensor([[1]], { requiresGrad: true });
    const seen: string[] = [];
    const block = (t: mp.Tensor): mp.Tensor => {
      const y = mp.linear(t, w);
      seen.push(`${y.dtype} ${mp.getFloat32MatmulPrecision()} ${String(mp.isGradEnabled())}`);
      return y.exp();
    };
    const region = { device: TEST_DEVICE, dtype: "bfloat16" } as const;
    const y = mp.withFloat32MatmulPrecision("medium", () =>
      mp.autocast(region, () => mp.checkpoint(block, x)),
    );
    y.sum().backward();
    expect(seen).toEqual(["bfloat16 medium true", "bfloat16 medium true"]);
    expect(w.grad!.dtype).toBe("float32");
    expect(mp.getFloat32MatmulPrecision()).toBe("highest");
  });

  it("keeps the arguments and none of what the function makes", () => {
    const x = mp.ones([1000], { requiresGrad: true });
    const deep = (t: mp.Tensor): mp.Tensor => {
      let y = t;
      for (let i = 0; i < 10; i++) y = y.tanh().exp();
      return y;
    };
    const count = (fn: () => mp.Tensor): number => {
      const before = mp.memory.tensorCount();
      const y = mp.tidy(fn);
      const kept = mp.memory.tensorCount() - before;
      y.sum().backward();
      y.dispose();
      return kept;
    };
    expect(count(() => deep(x))).toBe(20);
    expect(count(() => mp.checkpoint(deep, x))).toBe(1);
    const segments = (): mp.Tensor => mp.checkpoint(deep, mp.checkpoint(deep, x));
    expect(count(segments)).toBe(2);
  });

  it("nests", () => {
    const { w1, x } = parameters();
    const inner = (t: mp.Tensor): mp.Tensor => mp.linear(t, w1).tanh();
    const outer = (t: mp.Tensor): mp.Tensor => mp.checkpoint(inner, t.exp()).sin().mul(2);
    const plain = mp.grad(mp.linear(x.exp(), w1).tanh().sin().mul(2).sum(), [x, w1]);
    const before = mp.memory.tensorCount();
    const y = mp.tidy(() => mp.checkpoint(outer, x).sum());
    expect(mp.memory.tensorCount()).toBe(before + 1);
    mp.grad(y, [x, w1]).forEach((grad, i) => {
      expect(grad.toArray()).toEqual(plain[i]!.toArray());
    });
  });

  it("takes tensors in lists and objects, other arguments, and returns several", () => {
    const { x } = parameters();
    const y = mp.ones([5, 4], F64);
    const [sum, product] = mp.checkpoint(
      (options: { list: mp.Tensor[] }, factor: number) => {
        const [a, b] = options.list as [mp.Tensor, mp.Tensor];
        return [a.exp().add(b), a.mul(a).mul(factor)] as const;
      },
      { list: [x, y] },
      3,
    );
    const found = mp.grad(sum.sum().add(product.sum()), x);
    const expected = x.exp().add(x.mul(6));
    expect(found.sub(expected).abs().amax().item()).toBeLessThan(1e-12);
  });

  it("takes a function that computes a gradient itself", () => {
    const { x } = parameters();
    const slope = (t: mp.Tensor): mp.Tensor => {
      const y = t.tanh().mul(t).sum();
      return mp.grad(y, t, { createGraph: true }).exp();
    };
    const plain = mp.grad(slope(x).sum(), x);
    const found = mp.grad(mp.checkpoint(slope, x).sum(), x);
    expect(found.sub(plain).abs().amax().item()).toBeLessThan(1e-12);
  });

  it("leaves nothing behind in a tidy step", () => {
    const { w1, x } = parameters();
    const step = (): void => {
      mp.tidy(() => {
        mp.checkpoint((t: mp.Tensor) => mp.linear(t, w1).gelu().softmax(), x.mul(2))
          .sum()
          .backward();
      });
    };
    step();
    const before = mp.memory.tensorCount();
    step();
    step();
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("is the function itself without gradients", () => {
    const { x } = parameters();
    let runs = 0;
    const y = mp.noGrad(() =>
      mp.checkpoint((t: mp.Tensor) => {
        runs++;
        return t.exp();
      }, x),
    );
    expect([y.requiresGrad, runs]).toEqual([false, 1]);
  });

  it("says when the second run differs, or what it needs changed", () => {
    const { w1, x } = parameters();
    let first = true;
    const fickle = (t: mp.Tensor): mp.Tensor => {
      const y = first ? t.exp() : t.exp().reshape([20]).tanh();
      first = false;
      return y;
    };
    const y = mp.checkpoint(fickle, x);
    expect(() => {
      y.sum().backward();
    }).toThrow(/checkpoint: the function computed something else the second time/);
    const changed = mp.checkpoint((t: mp.Tensor) => mp.linear(t, w1), x);
    mp.noGrad(() => w1.fill(0));
    expect(() => {
      changed.sum().backward();
    }).toThrow(/linear saved a float64 tensor of shape \[6, 4\] that was changed in place/);
    const argument = mp.checkpoint((t: mp.Tensor) => t.exp(), x);
    mp.noGrad(() => x.fill(0));
    expect(() => {
      argument.sum().backward();
    }).toThrow(/checkpoint saved a float64 tensor of shape \[5, 4\] that was changed in place/);
    expect(() => mp.checkpoint(() => Promise.resolve(1))).toThrow(mp.GradError);
    expect(() =>
      mp.checkpoint(() => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
  });
});
