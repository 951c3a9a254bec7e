import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { ON_CUDA } from "../helpers/devices.js";
import { gradcheck } from "../helpers/gradcheck.js";

type Activation = NonNullable<mp.FusedLinearOptions["activation"]>;

const ACTIVATIONS: Record<Activation, (x: mp.Tensor) => mp.Tensor> = {
  relu: mp.relu,
  gelu: (x) => mp.gelu(x),
  "gelu-tanh": (x) => mp.gelu(x, { approximate: "tanh" }),
  silu: mp.silu,
};
const NAMES = Object.keys(ACTIVATIONS) as Activation[];

/** The same by operations one after the other. */
function unfused(
  x: mp.Tensor,
  weight: mp.Tensor,
  bias: mp.Tensor | null,
  { activation, multiplier, residual }: mp.FusedLinearOptions,
): mp.Tensor {
  let y = mp.linear(x, weight, bias);
  if (activation) y = ACTIVATIONS[activation](y);
  if (multiplier) y = mp.mul(y, multiplier);
  return residual ? mp.add(y, residual) : y;
}

function randn(shape: number[], dtype: mp.DType = "float64", requiresGrad = true): mp.Tensor {
  const x = mp.randn(shape, { dtype });
  x.requiresGrad = requiresGrad;
  return x;
}

function expectClose(actual: mp.Tensor, expected: mp.Tensor, tolerance: number): void {
  expect(actual.shape).toEqual(expected.shape);
  expect(actual.dtype).toBe(expected.dtype);
  const got = actual.to("float64").dataSync();
  const wanted = expected.to("float64").dataSync();
  for (let i = 0; i < wanted.length; i++) {
    const bound = tolerance * Math.max(1, Math.abs(Number(wanted[i])));
    const error = Math.abs(Number(got[i]) - Number(wanted[i]));
    expect(error, `element ${i}`).toBeLessThanOrEqual(bound);
  }
}

/** Every combination of what may follow, with tensors of `dtype`. */
function optionSets(shape: number[], dtype: mp.DType): mp.FusedLinearOptions[] {
  return [undefined, ...NAMES].flatMap((activation) =>
    [false, true].flatMap((multiplies) =>
      [false, true].map((adds) => ({
        activation,
        multiplier: multiplies ? randn(shape, dtype) : undefined,
        residual: adds ? randn(shape, dtype) : undefined,
      })),
    ),
  );
}

describe("linear with an epilogue", () => {
  it.each(["float64", "float32", "float16", "bfloat16"] as const)(
    "gives what the operations one by one give, in %s",
    (dtype) => {
      mp.manualSeed(1);
      const tolerance = { float64: 1e-13, float32: 2e-6, float16: 6e-3, bfloat16: 5e-2 }[dtype];
      for (const options of optionSets([2, 3, 5], dtype)) {
        const leaves = [randn([2, 3, 4], dtype), randn([5, 4], dtype), randn([5], dtype)] as const;
        const others = [options.multiplier, options.residual].filter((x) => !!x);
        const inputs = [...leaves, ...others];
        const g = randn([2, 3, 5], dtype, false);
        const fused = mp.linear(...leaves, options);
        const expected = unfused(...leaves, options);
        expectClose(fused, expected, tolerance);
        const gradOutputs = [g];
        const grads = mp.grad(fused, inputs, { gradOutputs });
        const wanted = mp.grad(expected, inputs, { gradOutputs });
        grads.forEach((grad, i) => {
          expectClose(grad, wanted[i]!, 3 * tolerance);
        });
      }
    },
  );

  it.each([undefined, ...NAMES])("differentiates %s, twice", (activation) => {
    mp.manualSeed(2);
    const fn = (
      x: mp.Tensor,
      w: mp.Tensor,
      b: mp.Tensor,
      multiplier: mp.Tensor,
      residual: mp.Tensor,
    ): mp.Tensor => mp.linear(x, w, b, { activation, multiplier, residual });
    const inputs = [randn([3, 4]), randn([2, 4]), randn([2]), randn([3, 2]), randn([3, 2])];
    gradcheck(fn, inputs, { second: true, tolerance: 1e-5 });
    gradcheck((x, w) => mp.linear(x, w, null, { activation }), inputs.slice(0, 2), {
      second: true,
      tolerance: 1e-5,
    });
  });

  it("takes vectors and empty batches", () => {
    mp.manualSeed(3);
    const [w, v] = [randn([5, 4]), randn([4])];
    const options = (shape: number[]): mp.FusedLinearOptions => ({
      activation: "gelu",
      multiplier: randn(shape),
      residual: randn(shape),
    });
    for (const [x, weight, shape] of [
      [v, w, [5]],
      [randn([3, 4]), v, [3]],
      [v, v, []],
      [randn([0, 4]), w, [0, 5]],
    ] as const) {
      const given = options([...shape]);
      const fused = mp.linear(x, weight, null, given);
      expectClose(fused, unfused(x, weight, null, given), 1e-13);
      const inputs = [x, weight, given.multiplier!, given.residual!];
      const one = { gradOutputs: mp.ones([...shape], { dtype: "float64" }) };
      const wanted = mp.grad(unfused(x, weight, null, given), inputs, one);
      mp.grad(fused, inputs, one).forEach((grad, i) => {
        expectClose(grad, wanted[i]!, 1e-12);
      });
    }
  });

  it("rounds 16-bit results once, at the end", () => {
    // 1 + 2^-9 is between two bfloat16 numbers: rounded before the residual is added it is lost.
    const x = mp.tensor([[1, 2 ** -9]], { dtype: "bfloat16" });
    const w = mp.ones([1, 2], { dtype: "bfloat16" });
    const residual = mp.tensor([[-1]], { dtype: "bfloat16" });
    expect(mp.linear(x, w, null, { residual }).item()).toBe(2 ** -9);
    expect(mp.add(mp.linear(x, w), residual).item()).toBe(0);
  });

  it("promotes with a residual as add does", () => {
    for (const dtype of ["float32", "float16", "bfloat16"] as const) {
      for (const other of ["float32", "float16", "bfloat16"] as const) {
        const [x, w] = [mp.ones([2, 3], { dtype }), mp.ones([4, 3], { dtype })];
        const residual = randn([2, 4], other);
        const sum = mp.linear(x, w, null, { residual });
        expectClose(sum, mp.add(mp.linear(x, w), residual), 2e-2);
        mp.sum(sum).backward();
        expect(residual.grad!.dtype).toBe(other);
      }
    }
  });

  it("adds a float32 residual to 16-bit operands in float32, as add does", () => {
    mp.manualSeed(4);
    const x = randn([3, 4], "bfloat16");
    const w = randn([5, 4], "bfloat16");
    const residual = randn([3, 5], "float32");
    for (const activation of [undefined, "silu", "relu"] as const) {
      const fused = mp.linear(x, w, null, { activation, residual });
      expect(fused.dtype).toBe("float32");
      const expected = unfused(x, w, null, { activation, residual });
      expectClose(fused, expected, 2e-2);
      const one = { gradOutputs: randn([3, 5], "float32", false) };
      const grads = mp.grad(fused, [x, w, residual], one);
      expect(grads.map((grad) => grad.dtype)).toEqual(["bfloat16", "bfloat16", "float32"]);
      const wanted = mp.grad(expected, [x, w, residual], one);
      grads.forEach((grad, i) => {
        expectClose(grad, wanted[i]!, 6e-2);
      });
    }
  });

  it("runs in the dtype of autocast, which leaves the residual alone", () => {
    mp.manualSeed(5);
    const x = randn([3, 4], "float32");
    const w = randn([5, 4], "float32");
    const device = ON_CUDA ? "cuda" : "cpu";
    mp.autocast({ device, dtype: "bfloat16" }, () => {
      const multiplier = randn([3, 5], "float32");
      expect(mp.linear(x, w, null, { activation: "relu" }).dtype).toBe("bfloat16");
      expect(mp.linear(x, w, null, { multiplier }).dtype).toBe("bfloat16");
      const residual = mp.full([3, 5], 1 + 2 ** -12);
      const sum = mp.linear(x, w, null, { residual });
      expect(sum.dtype).toBe("float32");
      expectClose(mp.sub(sum, mp.linear(x, w).to("float32")), residual, 3e-2);
      const none = mp.linear(mp.zeros([3, 4]), w, null, { residual });
      expectClose(none, residual, 0);
    });
  });

  it("rejects what it cannot use", () => {
    const x = mp.ones([2, 3]);
    const w = mp.ones([4, 3]);
    const call =
      (options: unknown): (() => mp.Tensor) =>
      () =>
        mp.linear(x, w, null, options as mp.FusedLinearOptions);
    expect(call({ activation: "tanh" })).toThrow(mp.ArgumentError);
    expect(call({ activation: "toString" })).toThrow(/expected "relu", "gelu", "gelu-tanh"/);
    expect(call({ activations: "relu" })).toThrow(/there is no option "activations"/);
    expect(call("relu")).toThrow(mp.ArgumentError);
    expect(call({ residual: 1 })).toThrow(mp.DTypeError);
    expect(call({ residual: mp.ones([4]) })).toThrow(mp.ShapeError);
    expect(call({ residual: mp.ones([2, 4], { dtype: "float64" }) })).toThrow(
      "linear: expected residual of dtype float32 or float16 or bfloat16, got float64 [2, 4]",
    );
    expect(call({ multiplier: mp.ones([2, 3]) })).toThrow(
      "linear: expected multiplier of the result's shape [2, 4], got [2, 3]",
    );
    expect(call({ multiplier: mp.ones([2, 4], { dtype: "float64" }) })).toThrow(mp.DTypeError);
    const whole = mp.ones([2, 3], { dtype: "int32" });
    const weight = mp.ones([4, 3], { dtype: "int32" });
    expect(() => mp.linear(whole, weight, null, { activation: "relu" })).toThrow(mp.DTypeError);
    expect(mp.linear(whole, weight).toArray()).toEqual([
      [3, 3, 3, 3],
      [3, 3, 3, 3],
    ]);
    expect(() => mp.linear(x, w, { activation: "relu" } as unknown as mp.Tensor)).toThrow(
      "linear: expected bias to be a Tensor",
    );
  });
});

describe("a fused backward", () => {
  /** A feed-forward network; `between` is applied to what is between its two layers. */
  function network(
    activation: Activation,
    between: (h: mp.Tensor) => mp.Tensor,
  ): { inputs: mp.Tensor[]; fused: () => mp.Tensor; plain: () => mp.Tensor } {
    mp.manualSeed(6);
    const [x, w1, b1] = [randn([3, 4]), randn([6, 4]), randn([6])];
    const [w2, b2] = [randn([2, 6]), randn([2])];
    const through = (h: mp.Tensor): mp.Tensor => mp.linear(between(h), w2, b2);
    return {
      inputs: [x, w1, b1, w2, b2],
      fused: () => through(mp.linear(x, w1, b1, { activation })),
      plain: () => mp.mul(through(ACTIVATIONS[activation](mp.linear(x, w1, b1))), 1),
    };
  }

  it.each(NAMES)("of two layers around %s is that of the operations", (activation) => {
    for (const between of [
      (h: mp.Tensor): mp.Tensor => h,
      (h: mp.Tensor): mp.Tensor => mp.mul(h, 2), // nothing to fuse
      (h: mp.Tensor): mp.Tensor => mp.add(h, mp.mul(h, h)), // several uses
    ]) {
      const { inputs, fused, plain } = network(activation, between);
      gradcheck(
        (x, w1, b1, w2, b2) => mp.linear(between(mp.linear(x, w1, b1, { activation })), w2, b2, {}),
        inputs,
      );
      const gradOutputs = randn([3, 2], "float64", false);
      const wanted = mp.grad(plain(), inputs, { gradOutputs });
      mp.grad(fused(), inputs, { gradOutputs }).forEach((grad, i) => {
        expectClose(grad, wanted[i]!, 1e-12);
      });
    }
  });

  it.each(NAMES)("of %s reaches what is between, where that is asked for", (activation) => {
    mp.manualSeed(7);
    const [x, w1, w2] = [randn([3, 4]), randn([6, 4]), randn([2, 6])];
    const h = mp.linear(x, w1, null, { activation });
    const twice = mp.add(mp.linear(h, w2), mp.linear(h, mp.mul(w2, 3)));
    const gradOutputs = mp.ones([3, 2], { dtype: "float64" });
    const [gh, gx] = mp.grad(twice, [h, x], { gradOutputs, retainGraph: true });
    expectClose(gh!, mp.mul(mp.matmul(gradOutputs, w2), 4).detach(), 1e-12);
    const direct = mp.grad(h, x, { gradOutputs: gh!, retainGraph: true });
    expectClose(gx!, direct, 1e-12);
    expectClose(mp.grad(twice, x, { gradOutputs, retainGraph: true }), direct, 1e-12);
    // Once more, with the graph kept, and again until it is freed.
    expectClose(mp.grad(twice, x, { gradOutputs }), direct, 1e-12);
    expect(() => mp.grad(twice, x, { gradOutputs })).toThrow(mp.GradError);
    expect(() => mp.grad(h, x, { gradOutputs: gh! })).toThrow(mp.GradError);
  });

  it("adds to gradients that are there, in place, and makes the same ones", () => {
    const { inputs, fused, plain } = network("gelu", (h) => h);
    const gradOutputs = randn([3, 2], "float64", false);
    const wanted = mp.grad(plain(), inputs, { gradOutputs });
    fused().backward(gradOutputs);
    const first = inputs.map((leaf) => leaf.grad!);
    fused().backward(gradOutputs);
    inputs.forEach((leaf, i) => {
      expect(leaf.grad).toBe(first[i]);
      expectClose(leaf.grad!, mp.mul(wanted[i]!, 2), 1e-12);
    });
  });

  it("does not round a weight's gradient on its way into float32", () => {
    const w = mp.zeros([1, 1], { requiresGrad: true });
    const x = mp.tensor([[1], [2 ** -10]]);
    const device = ON_CUDA ? "cuda" : "cpu";
    const step = (): void => {
      const loss = mp.autocast({ device, dtype: "bfloat16" }, () => mp.linear(x, w));
      loss.backward(mp.ones([2, 1], { dtype: "bfloat16" }));
    };
    step();
    expect(w.grad!.dtype).toBe("float32");
    expect(w.grad!.item()).toBe(1 + 2 ** -10);
    const { grad } = w;
    step();
    expect(w.grad).toBe(grad);
    expect(w.grad!.item()).toBe(2 + 2 ** -9);
  });

  it("applies the derivative before it rounds", () => {
    mp.manualSeed(9);
    const n = 48;
    const x = mp.eye(n, { dtype: "bfloat16" }); // so that the gradient of w1 is the one in between
    const [w1, w2] = [randn([n, n], "bfloat16"), randn([40, n], "bfloat16")];
    const g = randn([n, 40], "bfloat16", false);
    const between = (fn: () => mp.Tensor): ArrayLike<number> =>
      mp.grad(fn(), w1, { gradOutputs: g }).transpose(0, 1).contiguous().dataSync() as Float32Array;
    const z = w1.detach().to("float32").transpose(0, 1).contiguous();
    z.requiresGrad = true;
    const gh = mp.matmul(g.to("float32"), w2.detach().to("float32"));
    const exact = mp.grad(mp.gelu(z), z, { gradOutputs: gh }).to("bfloat16").dataSync();
    const share = (got: ArrayLike<number>): number =>
      Array.from(got).filter((value, i) => value === Number(exact[i])).length / (n * n);
    const fused = between(() => mp.linear(mp.linear(x, w1, null, { activation: "gelu" }), w2));
    expect(share(fused)).toBeGreaterThan(0.98);
    const modules = between(() => mp.linear(mp.gelu(mp.linear(x, w1)), w2));
    expect(share(modules)).toBeGreaterThan(0.98);
    // With something in between it is rounded twice, which shows.
    const apart = between(() => mp.linear(mp.mul(mp.gelu(mp.linear(x, w1)), 1), w2));
    expect(share(apart)).toBeLessThan(0.9);
  });

  it("leaves alone gradients that are views", () => {
    const x = mp.ones([2, 3]);
    const w = mp.zeros([4, 3], { requiresGrad: true });
    w.grad = mp.ones([3, 4]).transpose(0, 1);
    mp.sum(mp.linear(x, w)).backward();
    expect(w.grad.toArray()).toEqual(Array.from({ length: 4 }, () => [3, 3, 3]));
  });

  it("frees what it passed over", () => {
    mp.manualSeed(8);
    const leaves = [randn([8, 4], "float32"), randn([6, 4], "float32"), randn([2, 6], "float32")];
    const step = (): void => {
      mp.tidy(() => {
        const h = mp.linear(leaves[0]!, leaves[1]!, null, { activation: "gelu" });
        mp.sum(mp.linear(h, leaves[2]!)).backward();
      });
    };
    step();
    const before = mp.memory.tensorCount();
    step();
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("is recomputed by checkpoint", () => {
    const { inputs, fused } = network("gelu", (h) => h);
    const gradOutputs = randn([3, 2], "float64", false);
    const wanted = mp.grad(fused(), inputs, { gradOutputs });
    const again = mp.checkpoint(fused);
    mp.grad(again, inputs, { gradOutputs }).forEach((grad, i) => {
      expectClose(grad, wanted[i]!, 0);
    });
  });
});

describe("memory of a fused layer", () => {
  it("keeps the activation's input and its result, and no more", () => {
    const [x, w] = [randn([64, 32], "float32", false), randn([256, 32], "float32")];
    const memoryAllocated = (): number => (ON_CUDA ? mp.cuda : mp.memory).memoryAllocated();
    const bytes = 64 * 256 * 4;
    const held = (fn: () => mp.Tensor): number => {
      const before = memoryAllocated();
      const y = fn();
      const used = memoryAllocated() - before;
      y.dispose();
      return used;
    };
    expect(held(() => mp.linear(x, w, null, { activation: "gelu" }))).toBe(2 * bytes);
    expect(held(() => mp.linear(x, w, null, { activation: "relu" }))).toBe(bytes);
    expect(held(() => mp.noGrad(() => mp.linear(x, w, null, { activation: "gelu" })))).toBe(bytes);
  });
});
