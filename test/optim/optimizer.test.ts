// What all optimizers share: groups, gradients, errors, state, memory.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";
import { liveTensors } from "../helpers/memory.js";

const { Adam, AdamW, SGD } = mp.optim;

function leaf(values: number[] = [1, 2], dtype: mp.DType = "float32"): mp.Tensor {
  return mp.tensor(values, { dtype, requiresGrad: true });
}

/** A gradient of ones. */
function give(...parameters: mp.Tensor[]): void {
  for (const parameter of parameters) {
    parameter.grad = mp.ones(parameter.shape, { dtype: parameter.dtype });
  }
}

describe("parameters", () => {
  test("come as a list, an iterator, or pairs with names", () => {
    const [a, b] = [leaf(), leaf()];
    const named = new Map([
      ["encoder.weight", a],
      ["encoder.bias", b],
    ]);
    for (const params of [[a, b], new Set([a, b]).values(), named, named.entries()]) {
      expect(new SGD(params).parameters()).toEqual([a, b]);
    }
    const optimizer = new SGD(named);
    expect(optimizer.describeParameter(b)).toBe("encoder.bias (float32 [2])");
    expect(new SGD([a, b]).describeParameter(b)).toBe("parameter 1 (float32 [2])");
  });

  test("come in groups with options of their own", () => {
    const [a, b, c] = [leaf(), leaf(), leaf()];
    const optimizer = new AdamW([{ params: a, lr: 1 }, { params: new Map([["b", b]]) }], {
      lr: 2,
    });
    optimizer.addParamGroup({ params: [c], weightDecay: 0, betas: [0.5, 0.6] });
    expect(optimizer.paramGroups.map(({ lr, weightDecay }) => [lr, weightDecay])).toEqual([
      [1, 0.01],
      [2, 0.01],
      [2, 0],
    ]);
    expect(optimizer.paramGroups[2]!.betas).toEqual([0.5, 0.6]);
    expect(optimizer.parameters()).toEqual([a, b, c]);
    expect(optimizer.defaults.lr).toBe(2);
  });

  test("without a gradient, or with a released one, are left alone and have no state", () => {
    const [a, b, c] = [leaf(), leaf(), leaf()];
    const optimizer = new Adam([a, b, c], { lr: 0.5 });
    give(a, c);
    c.grad!.dispose();
    optimizer.step();
    expect([b.toArray(), c.toArray()]).toEqual([
      [1, 2],
      [1, 2],
    ]);
    expect(optimizer.state.size).toBe(1);
    expect(optimizer.stateOf(b)).toBeUndefined();
    expect(optimizer.gradients()).toEqual([{ parameter: a, grad: a.grad }]);
  });

  test("of any shape are updated, empty ones too", () => {
    const params = [mp.ones([0, 3]), mp.ones([]), mp.ones([1, 1, 1])];
    const optimizer = new SGD(params, { lr: 0.5, momentum: 0.9 });
    give(...params);
    optimizer.step();
    expect(params.map((parameter) => parameter.toArray())).toEqual([[], 0.5, [[[0.5]]]]);
  });

  test("of different dtypes are updated together", () => {
    const dtypes = ["float64", "float32", "float16", "bfloat16"] as const;
    const params = dtypes.map((dtype) => leaf([1, 2], dtype));
    const optimizer = new SGD(params, { lr: 0.5 });
    give(...params);
    optimizer.step();
    for (const parameter of params) expect(parameter.toArray()).toEqual([0.5, 1.5]);
  });

  test.each([Adam, AdamW, SGD])("none: a step does nothing (%o)", (Kind) => {
    const optimizer = new Kind([leaf()]);
    optimizer.step();
    expect(optimizer.state.size).toBe(0);
  });
});

describe("bad parameters", () => {
  const made = mp.mul(leaf(), 2);
  test.each<[string, unknown, new (...args: never[]) => Error, RegExp]>([
    ["none", [], mp.ArgumentError, /SGD: got an empty list of parameters/],
    ["a tensor", leaf(), mp.ArgumentError, /expected a list of tensors.*got Tensor/],
    ["undefined", undefined, mp.ArgumentError, /got undefined/],
    ["a number", [leaf(), 3], mp.ArgumentError, /parameter 1 — expected a tensor.* got 3/],
    ["null in a list", [null], mp.ArgumentError, /parameter 0 — expected a tensor.* got null/],
    ["a group among tensors", [leaf(), { params: [] }], mp.ArgumentError, /parameter 1/],
    [
      "an integer",
      [["ids", mp.tensor([1, 2], { dtype: "int64" })]],
      mp.DTypeError,
      /ids — .*got int64 \[2\]/,
    ],
    [
      "no leaf",
      [made],
      mp.ArgumentError,
      /only leaf tensors can be optimized, got one made by mul/,
    ],
  ])("%s", (_name, params, kind, message) => {
    const make = (): unknown => new SGD(params as never);
    expect(make).toThrow(kind);
    expect(make).toThrow(message);
  });

  test("one that was given twice", () => {
    const shared = leaf();
    expect(() => new SGD([shared, leaf(), shared])).toThrow(/parameter 2 was given twice/);
    const optimizer = new SGD([shared]);
    expect(() => {
      optimizer.addParamGroup({ params: [["tied", shared]] });
    }).toThrow(/tied was given twice/);
    expect(optimizer.paramGroups.length).toBe(1);
  });

  test("one that is released", () => {
    const gone = leaf();
    const optimizer = new SGD([
      ["gone", gone],
      ["there", leaf()],
    ]);
    give(...optimizer.parameters());
    gone.dispose();
    expect(() => {
      optimizer.step();
    }).toThrow(mp.DisposedError);
    expect(optimizer.parameters()[1]!.toArray()).toEqual([1, 2]);
    expect(() => new SGD([gone])).toThrow(mp.DisposedError);
  });
});

describe("bad gradients leave everything as it was", () => {
  test("of another shape", () => {
    const [a, b] = [leaf(), leaf()];
    const optimizer = new AdamW(
      new Map([
        ["a", a],
        ["b", b],
      ]),
    );
    give(a);
    b.grad = mp.ones([3]);
    const step = (): void => {
      optimizer.step();
    };
    expect(step).toThrow(mp.ShapeError);
    expect(step).toThrow("AdamW.step: gradient of shape [3] for b (float32 [2])");
    expect(a.toArray()).toEqual([1, 2]);
    expect(optimizer.state.size).toBe(0);
  });

  test("of another dtype", () => {
    const a = leaf();
    a.grad = mp.ones([2], { dtype: "float16" });
    expect(() => {
      new SGD([a]).step();
    }).toThrow("SGD.step: float16 gradient for parameter 0 (float32 [2])");
  });

  test("of a parameter that changed its shape", () => {
    const a = leaf();
    const optimizer = new Adam([a]);
    give(a);
    optimizer.step();
    a.setData(mp.ones([3]));
    give(a);
    expect(() => {
      optimizer.step();
    }).toThrow(/parameter 0 \(float32 \[3\]\) has changed its shape, its expAvg is \[2\]/);
  });
});

describe("options out of range are ArgumentErrors", () => {
  type Options = Record<string, unknown>;
  test.each<[string, new (params: mp.Tensor[], options: never) => unknown, Options, RegExp]>([
    ["lr", SGD, { lr: NaN }, /SGD: lr — expected a finite number of at least 0, got NaN/],
    ["lr", Adam, { lr: NaN }, /Adam: lr — .* got NaN/],
    ["lr", AdamW, { lr: -1 }, /AdamW: lr — .* got -1/],
    ["lr", AdamW, { lr: Infinity }, /lr — .* got Infinity/],
    ["lr", AdamW, { lr: "1" }, /lr — .* got "1"/],
    ["betas", Adam, { betas: [1, 0.9] }, /betas\[0\] — expected in \[0, 1\), got 1/],
    ["betas", Adam, { betas: [0.9, -0.1] }, /betas\[1\] — .* got -0.1/],
    ["betas", Adam, { betas: [0.9, NaN] }, /betas\[1\] — .* got NaN/],
    ["betas", Adam, { betas: 0.9 }, /betas — expected two numbers in \[0, 1\), got 0.9/],
    ["eps", AdamW, { eps: -1e-8 }, /eps — .* got -1e-8/],
    ["weightDecay", AdamW, { weightDecay: -1 }, /weightDecay — .* got -1/],
    ["weightDecay", SGD, { weightDecay: NaN }, /weightDecay — .* got NaN/],
    ["amsgrad", Adam, { amsgrad: 1 }, /amsgrad — expected true or false, got 1/],
    ["momentum", SGD, { momentum: -0.1 }, /momentum — .* got -0.1/],
    ["dampening", SGD, { dampening: NaN }, /dampening — expected a finite number, got NaN/],
    ["nesterov", SGD, { nesterov: true }, /nesterov needs momentum above 0 and dampening 0/],
    ["nesterov", SGD, { nesterov: true, momentum: 0.9, dampening: 0.1 }, /dampening 0.1/],
    [
      "a misspelt name",
      AdamW,
      { weight_decay: 0 },
      /no option "weight_decay" — expected lr, betas/,
    ],
  ])("%s (%o, %j)", (_name, Kind, options, message) => {
    const make = (): unknown => new Kind([leaf()], options as never);
    expect(make).toThrow(mp.ArgumentError);
    expect(make).toThrow(message);
  });

  test("of a group, as it is added and as it is changed later", () => {
    const a = leaf();
    const optimizer = new SGD([a]);
    expect(() => {
      optimizer.addParamGroup({ params: [leaf()], lr: NaN });
    }).toThrow(/lr — .* got NaN/);
    expect(optimizer.paramGroups.length).toBe(1);
    optimizer.paramGroups[0]!.lr = NaN;
    give(a);
    expect(() => {
      optimizer.step();
    }).toThrow(/lr — .* got NaN/);
    expect(a.toArray()).toEqual([1, 2]);
  });
});

describe("step", () => {
  test("with a closure computes the loss with gradients, even inside noGrad, and returns it", () => {
    const a = leaf([3]);
    const optimizer = new SGD([a], { lr: 0.1 });
    const loss = mp.noGrad(() =>
      optimizer.step(() => {
        optimizer.zeroGrad();
        const value = mp.mul(a, a).sum();
        value.backward();
        return value;
      }),
    );
    expect(loss.item()).toBe(9);
    expect(mp.item(a)).toBeCloseTo(2.4, 6);
  });

  test("uses the options that the groups have now", () => {
    const a = leaf([0]);
    const optimizer = new SGD([a], { lr: 1 });
    give(a);
    optimizer.step();
    optimizer.paramGroups[0]!.lr = 10;
    optimizer.paramGroups[0]!.maximize = true;
    optimizer.step();
    expect(a.toArray()).toEqual([9]);
  });

  test("momentum and amsgrad can be switched on later", () => {
    const a = leaf([0]);
    const sgd = new SGD([a], { lr: 1 });
    give(a);
    sgd.step();
    sgd.paramGroups[0]!.momentum = 0.5;
    sgd.step();
    sgd.step();
    expect(a.toArray()).toEqual([-3.5]);
    const b = leaf([0]);
    const adam = new Adam([b]);
    give(b);
    adam.step();
    adam.paramGroups[0]!.amsgrad = true;
    adam.step();
    expect(adam.stateOf(b)!.maxExpAvgSq!.item()).toBe(adam.stateOf(b)!.expAvgSq!.item());
  });

  test("is a write in place, which a backward that saved the parameter notices", () => {
    const a = leaf();
    const y = mp.mul(a, a).sum();
    give(a);
    new SGD([a]).step();
    expect(() => {
      y.backward();
    }).toThrow(/mul/);
  });

  test("works inside autocast", () => {
    const a = leaf([1]);
    const optimizer = new AdamW([a], { lr: 0.5, weightDecay: 0 });
    give(a);
    mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () => {
      optimizer.step();
    });
    expect(optimizer.stateOf(a)!.expAvg!.dtype).toBe("float32");
    expect(mp.item(a)).toBeCloseTo(0.5, 6);
  });
});

describe("zeroGrad", () => {
  test.each([{}, { setToNull: true }, { setToNone: true }])(
    "releases gradients (%j)",
    (options) => {
      const a = leaf();
      give(a);
      const { grad } = a;
      new SGD([a]).zeroGrad(options);
      expect([a.grad, grad!.isDisposed]).toEqual([null, true]);
    },
  );

  test.each([{ setToNull: false }, { setToNone: false }])("writes zeros (%j)", (options) => {
    const a = leaf();
    give(a);
    const { grad } = a;
    new SGD([a]).zeroGrad(options);
    expect(a.grad).toBe(grad);
    expect(a.grad!.toArray()).toEqual([0, 0]);
  });

  test("takes a gradient out of the graph that made it", () => {
    const a = leaf([3]);
    mp.mul(a, mp.mul(a, a)).sum().backward(undefined, { createGraph: true });
    expect(a.grad!.requiresGrad).toBe(true);
    new SGD([a]).zeroGrad({ setToNone: false });
    expect([a.grad!.requiresGrad, a.grad!.toArray()]).toEqual([false, [0]]);
  });
});

describe("memory", () => {
  test.each([
    ["with tidy", true],
    ["without tidy", false],
  ])("10 000 steps of a tiny model keep the number of tensors, %s", async (_name, tidy) => {
    const [weight, bias] = [mp.randn([2, 3]), mp.randn([2])];
    for (const parameter of [weight, bias]) parameter.requiresGrad = true;
    const input = mp.ones([4, 3]);
    const optimizer = new AdamW([weight, bias], { lr: 1e-3, amsgrad: true });
    const scheduler = mp.optim.lrScheduler.linear(optimizer, { totalSteps: 20_000 });
    const step = (): void => {
      const output = mp.linear(input, weight, bias);
      const loss = output.mean();
      loss.backward();
      mp.optim.clipGradNorm(optimizer.parameters(), 1).dispose();
      optimizer.step();
      scheduler.step({ skipped: false });
      optimizer.zeroGrad();
      output.dispose();
      loss.dispose();
    };
    const run = (steps: number): void => {
      for (let i = 0; i < steps; i++) {
        if (tidy) mp.tidy(step);
        else step();
      }
    };
    // What no tidy released is the collector's.
    const inUse = async (): Promise<number[]> => [await liveTensors(), mp.memory.memoryAllocated()];
    run(10);
    const before = await inUse();
    run(9_990);
    expect(await inUse()).toEqual(before);
    expect(optimizer.stateOf(bias)!.step!.item()).toBe(10_000);
    // V8 may hold them while it still compiles this test's loop, and let go during the next one.
    optimizer.dispose();
    for (const tensor of [weight, bias, input]) tensor.dispose();
  });

  test("state made inside a tidy outlives it, dispose releases it", async () => {
    const before = await liveTensors();
    const a = leaf([1]);
    const optimizer = new AdamW([a], { masterWeights: true });
    mp.tidy(() => {
      give(a);
      optimizer.step();
    });
    a.grad = null;
    expect(optimizer.stateOf(a)!.expAvg!.item()).toBeCloseTo(0.1, 6);
    optimizer.dispose();
    a.dispose();
    expect(mp.memory.tensorCount()).toBe(before);
    expect(optimizer.state.size).toBe(0);
  });
});
