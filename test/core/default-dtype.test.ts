// The default dtype: what it decides, its scopes, and Fabric's forward pass.

import { afterEach, describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR } from "../helpers/devices.js";

afterEach(() => {
  mp.setDefaultDtype("float32");
});

const integers = (): mp.Tensor => mp.tensor([1, 2], { dtype: "int32" });

const MADE: readonly (readonly [name: string, make: () => mp.Tensor])[] = [
  ["tensor", () => mp.tensor([1, 2])],
  ["zeros", () => mp.zeros([2])],
  ["ones", () => mp.ones([2])],
  ["empty", () => mp.empty([2])],
  ["full", () => mp.full([2], 3)],
  ["rand", () => mp.rand([2])],
  ["randn", () => mp.randn([2])],
  ["eye", () => mp.eye(2)],
  ["arange in fractions", () => mp.arange(0, 1, 0.5)],
  ["a quotient of integers", () => integers().div(2)],
  ["exp of integers", () => integers().exp()],
  ["logsumexp of integers", () => integers().logsumexp()],
  ["integers plus a fraction", () => integers().add(0.5)],
  ["integers clamped to a fraction", () => integers().clamp(1.5)],
  ["a choice of fractions", () => mp.where(integers().gt(1), 0.5, 1.5)],
  ["a parameter", () => new mp.nn.Linear(2, 2).weight],
];

const FIXED: readonly (readonly [name: string, make: () => mp.Tensor, dtype: mp.DType])[] = [
  ["a named dtype", () => mp.zeros([2], { dtype: "bfloat16" }), "bfloat16"],
  ["a typed array", () => mp.tensor(new Float32Array(2)), "float32"],
  ["booleans", () => mp.tensor([true]), "bool"],
  ["full of a boolean", () => mp.full([2], true), "bool"],
  ["whole arange", () => mp.arange(3), "int64"],
  ["integers plus a whole number", () => integers().add(1), "int32"],
  ["a float32 tensor and a fraction", () => mp.tensor(new Float32Array(2)).mul(0.5), "float32"],
];

describe.each(["float32", "float64", "float16", "bfloat16"] as const)("%s", (dtype) => {
  test.each(MADE)("decides %s", (_name, make) => {
    mp.setDefaultDtype(dtype);
    expect(make().dtype).toBe(dtype);
  });

  test.each(FIXED)("leaves %s alone", (_name, make, expected) => {
    mp.setDefaultDtype(dtype);
    expect(make().dtype).toBe(expected);
  });
});

test("scopes nest and end with an error", () => {
  mp.withDefaultDtype("float64", () => {
    expect(mp.withDefaultDtype("float16", mp.getDefaultDtype)).toBe("float16");
    expect(mp.getDefaultDtype()).toBe("float64");
  });
  const fail = (): never => {
    throw new Error("inside");
  };
  expect(() => mp.withDefaultDtype("float64", fail)).toThrow("inside");
  expect(mp.getDefaultDtype()).toBe("float32");
});

test("only floating dtypes and synchronous functions", () => {
  expect(() => {
    mp.setDefaultDtype("int32");
  }).toThrow(mp.DTypeError);
  expect(() => {
    mp.setDefaultDtype("double" as mp.DType);
  }).toThrow(mp.DTypeError);
  expect(() => mp.withDefaultDtype("float64", () => Promise.resolve())).toThrow(mp.GradError);
});

test("a loss scaler works under any of them", () => {
  mp.setDefaultDtype("float64");
  const weight = mp.tensor([1], { dtype: "float32", requiresGrad: true });
  const optimizer = new mp.SGD([weight], { lr: 0.5 });
  const scaler = new mp.GradScaler({ initScale: 4 });
  scaler.scale(weight.mul(3).sum()).backward();
  scaler.step(optimizer);
  scaler.update();
  expect(weight.toArray()).toEqual([-0.5]);
});

test("checkpoint computes the second time with that of the first", () => {
  const seen: mp.DType[] = [];
  const x = mp.tensor([2], { dtype: "float64", requiresGrad: true });
  const y = mp.withDefaultDtype("float64", () =>
    mp.checkpoint((input: mp.Tensor) => {
      const factor = mp.full([1], 3);
      seen.push(factor.dtype);
      return input.mul(factor).exp();
    }, x),
  );
  y.sum().backward();
  expect(seen).toEqual(["float64", "float64"]);
});

class Seeing extends mp.nn.Module {
  readonly weight = new mp.nn.Parameter(mp.ones([2]));
  seen: mp.DType | undefined;
  override forward(x: mp.Tensor): mp.Tensor {
    const made = mp.ones([2]);
    this.seen = made.dtype;
    return x.mul(this.weight).add(made);
  }
}

describe("Fabric", () => {
  test.each([
    ["32-true", "float32", "float32"],
    ["64-true", "float64", "float64"],
    ["16-true", "float16", "float16"],
    ["bf16-true", "bfloat16", "bfloat16"],
    ["16-mixed", "float32", "float32"],
    ["bf16-mixed", "float32", "float32"],
  ] as const)("%s", (precision, inside, parameters) => {
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision });
    const model = fabric.setup(fabric.initModule(() => new Seeing()));
    expect(model.module.weight.dtype).toBe(parameters);
    expect(model.forward(mp.ones([2])).dtype).toBe("float32");
    expect(model.module.seen).toBe(inside);
    expect(fabric.autocast(() => mp.zeros([1])).dtype).toBe(inside);
    expect(fabric.initTensor(() => mp.zeros([1])).dtype).toBe(inside);
    expect(fabric.initTensor(() => mp.zeros([1], { dtype: "float32" })).dtype).toBe("float32");
    expect(mp.getDefaultDtype()).toBe("float32");
  });

  test("outputs get the default dtype of the caller", () => {
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision: "bf16-true" });
    const model = fabric.setup(new Seeing());
    const y = mp.withDefaultDtype("float64", () => model.forward(mp.ones([2])));
    expect(y.dtype).toBe("float64");
  });
});
