import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";
import { gradcheck } from "../helpers/gradcheck.js";

const leaf = (data: mp.NestedArray, dtype: mp.DType = "float32"): mp.Tensor =>
  mp.tensor(data, { dtype, requiresGrad: true });

const cube = mp.customOp({
  name: "cube",
  forward: (x: mp.Tensor) => x.mul(x).mul(x),
  backward: (g, { inputs: [x] }) => g.mul(x.mul(x)).mul(3),
});

describe("customOp", () => {
  it("computes forward, and backward by its own rule", () => {
    const x = leaf([1, 2, -3]);
    const y = cube(x);
    expect(y.toArray()).toEqual([1, 8, -27]);
    y.sum().backward();
    expect(x.grad!.toArray()).toEqual([3, 12, 27]);
  });

  it("uses the rule and not what forward did", () => {
    const passThrough = mp.customOp({
      forward: (x: mp.Tensor) => mp.to(x.gt(0), x.dtype),
      backward: (g) => g,
    });
    const x = leaf([1, -2]);
    passThrough(x)
      .mul(mp.tensor([3, 5]))
      .sum()
      .backward();
    expect(x.grad!.toArray()).toEqual([3, 5]);
  });

  it("is differentiated twice where backward is made of operations", () => {
    gradcheck((x) => cube(x), [mp.tensor([0.5, -1.2], { dtype: "float64" })], { second: true });
  });

  it("takes lists of outputs, arguments that are no tensors, and tells what is needed", () => {
    const seen: (readonly boolean[])[] = [];
    const scaledSum = mp.customOp({
      name: "scaledSum",
      forward: (a: mp.Tensor, factor: number, b: mp.Tensor) => [
        a.add(b).mul(factor),
        a.sub(b).mul(factor),
      ],
      backward: ([plus, minus], { inputs: [, factor], needs }) => {
        seen.push(needs);
        return [
          needs[0] ? plus!.add(minus!).mul(factor) : null,
          null,
          needs[2] ? plus!.sub(minus!).mul(factor) : null,
        ];
      },
    });
    const a = leaf([1, 2]);
    const [plus, minus] = scaledSum(a, 3, mp.tensor([10, 20]));
    expect([plus!.toArray(), minus!.toArray()]).toEqual([
      [33, 66],
      [-27, -54],
    ]);
    plus!.sum().backward();
    expect(a.grad!.toArray()).toEqual([3, 3]);
    expect(seen).toEqual([[true, false, false]]);
    const b = leaf([1, 1]);
    const outputs = scaledSum(a.detach(), 2, b);
    outputs[0]!.add(outputs[1]!.mul(5)).sum().backward();
    expect(b.grad!.toArray()).toEqual([-8, -8]);
  });

  it("keeps what forward saved, and only that", () => {
    const relu = mp.customOp({
      name: "savingRelu",
      forward: (x: mp.Tensor) => {
        const mask = x.gt(0);
        return { outputs: x.mul(mask), saved: [mask] };
      },
      backward: (g, { saved, outputs }) => {
        expect(outputs).toEqual([]);
        return g.mul(saved[0]!);
      },
    });
    const x = leaf([1, -2, 3]);
    const y = relu(x);
    mp.noGrad(() => x.fill(0));
    y.sum().backward();
    expect(x.grad!.toArray()).toEqual([1, 0, 1]);
    const greedy = mp.customOp({
      name: "greedy",
      forward: (x: mp.Tensor) => ({ outputs: x.mul(2), saved: [] }),
      backward: (g, { inputs: [x] }) => g.mul(x),
    });
    expect(() => {
      greedy(leaf([1]))
        .sum()
        .backward();
    }).toThrow(/greedy: backward asked for argument 0, which was not kept/);
  });

  it("notices inputs that changed in place", () => {
    const x = leaf([1, 2]);
    const y = cube(x);
    mp.noGrad(() => x.fill(0));
    expect(() => {
      y.sum().backward();
    }).toThrow(/backward: cube saved a float32 tensor of shape \[2\] that was changed in place/);
  });

  it("records nothing without gradients, and passes arguments through as new tensors", () => {
    const identity = mp.customOp({ forward: (x: mp.Tensor) => x, backward: (g) => g.mul(10) });
    expect(identity(mp.tensor([1])).requiresGrad).toBe(false);
    expect(mp.noGrad(() => identity(leaf([1]))).requiresGrad).toBe(false);
    const x = leaf([1, 2]);
    const y = identity(x);
    expect(y).not.toBe(x);
    y.sum().backward();
    expect(x.grad!.toArray()).toEqual([10, 10]);
  });

  it("leaves nothing behind in a tidy step", () => {
    const x = leaf([1, 2]);
    const step = (): void => {
      mp.tidy(() => {
        cube(x).sum().backward();
      });
    };
    step();
    const before = mp.memory.tensorCount();
    step();
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("says what is wrong with a definition or a result", () => {
    const forward = (x: mp.Tensor): mp.Tensor => x.mul(1);
    expect(() => mp.customOp({ forward } as never)).toThrow(mp.ArgumentError);
    expect(() => mp.customOp({ forward, backward: (g) => g, autocast: "int8" as never })).toThrow(
      /customOp: autocast — expected a floating dtype/,
    );
    const none = mp.customOp({ name: "none", forward: () => 3 as never, backward: () => null });
    expect(() => none()).toThrow(/none: expected forward to return a tensor/);
    const two = mp.customOp({
      name: "two",
      forward: (a: mp.Tensor, b: mp.Tensor) => a.add(b),
      backward: (g) => g,
    });
    expect(() => {
      two(leaf([1]), leaf([2])).backward();
    }).toThrow(/two: expected backward to return a gradient or null for each of the 2 arguments/);
    const wrong = mp.customOp({ name: "wrong", forward, backward: (g) => g.reshape([1, 1]) });
    expect(() => {
      wrong(leaf([1])).backward();
    }).toThrow(/wrong returned a gradient of shape \[1, 1\]|shape \[1, 1\] for an input/);
  });
});

describe("customOp under autocast", () => {
  const bf16 = { device: TEST_DEVICE, dtype: "bfloat16" } as const;

  function spy(autocast?: "float32" | "low" | "float16" | "promote" | "none"): {
    op: (x: mp.Tensor, options: { bias: mp.Tensor }) => mp.Tensor;
    seen: string[];
  } {
    const seen: string[] = [];
    const note = (where: string, x: mp.Tensor): void => {
      const inside = mp.matmul(mp.ones([1, 1]), mp.ones([1, 1])).dtype;
      seen.push(`${where} ${x.dtype} ${inside}`);
    };
    const op = mp.customOp({
      forward: (x: mp.Tensor, options: { bias: mp.Tensor }) => {
        note("forward", x);
        return x.add(options.bias);
      },
      backward: (g, { inputs: [x] }) => {
        note("backward", x);
        return [g, null];
      },
      ...(autocast && { autocast }),
    });
    return { op, seen };
  }

  function run(autocast?: "float32" | "low" | "float16" | "promote" | "none"): string[] {
    const { op, seen } = spy(autocast);
    const x = leaf([1]);
    const y = mp.autocast(bf16, () => op(x, { bias: mp.tensor([1]) }));
    seen.push(y.dtype);
    y.sum().backward();
    expect(x.grad!.dtype).toBe("float32");
    return seen;
  }

  it("sees the region, also in backward, where nothing is asked for", () => {
    expect(run()).toEqual(["forward float32 bfloat16", "float32", "backward float32 bfloat16"]);
    expect(run("none")).toEqual(run());
  });

  it("casts arguments, also nested ones, and runs with autocast off", () => {
    expect(run("low")).toEqual([
      "forward bfloat16 float32",
      "bfloat16",
      "backward bfloat16 float32",
    ]);
    expect(run("float16")).toEqual([
      "forward float16 float32",
      "float16",
      "backward float16 float32",
    ]);
    expect(run("float32")).toEqual([
      "forward float32 float32",
      "float32",
      "backward float32 float32",
    ]);
    expect(run("promote")).toEqual([
      "forward float32 float32",
      "float32",
      "backward float32 float32",
    ]);
  });

  it("does nothing outside a region", () => {
    const { op, seen } = spy("low");
    op(leaf([1]), { bias: mp.tensor([1]) })
      .sum()
      .backward();
    expect(seen).toEqual(["forward float32 float32", "backward float32 float32"]);
  });

  it("follows a region's own list by name", () => {
    const named = mp.customOp({
      name: "listedOp",
      forward: (x: mp.Tensor) => x.mul(1),
      backward: (g) => g,
    });
    const policy = { listedOp: "low" } as const;
    expect(mp.autocast({ ...bf16, policy }, () => named(leaf([1]))).dtype).toBe("bfloat16");
  });
});
