// Optimizers walk the paths that torch's walk, for every combination of options.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { compareWith, readGolden, type GoldenValue, type Tolerance } from "../helpers/golden.js";

type Options = Record<string, unknown>;

interface TrajectoryCase {
  readonly name: string;
  readonly optimizer: "SGD" | "Adam" | "AdamW";
  readonly dtype: mp.DType;
  readonly options: Options | Options[];
  readonly params: readonly (readonly GoldenValue[])[][];
}

interface Trajectories {
  readonly params: readonly { shape: number[]; values: number[] }[];
  readonly grads: readonly (readonly (readonly number[] | null)[])[];
  readonly after: readonly number[];
  readonly cases: readonly TrajectoryCase[];
}

const golden = readGolden("optim/trajectories.json") as Trajectories;

const TOLERANCES: Partial<Record<mp.DType, Tolerance>> = {
  float64: { relative: 1e-12, absolute: 1e-12 },
  float32: { relative: 2e-6, absolute: 5e-7 },
  // torch rounds after each of its ten or so operations, here a step rounds once.
  bfloat16: { relative: 0, absolute: 0, ofLargest: 2 ** -6 },
};

function makeParams(dtype: mp.DType, strided: boolean): mp.Tensor[] {
  return golden.params.map(({ shape, values }) => {
    const dense = mp.fromTypedArray(Float64Array.from(values), shape, { dtype });
    const reversed = shape.map((_, dim) => shape.length - 1 - dim);
    const leaf = strided
      ? mp.permute(mp.permute(dense, reversed).contiguous(), reversed).detach()
      : dense;
    leaf.requiresGrad = true;
    return leaf;
  });
}

function makeOptimizer(entry: TrajectoryCase, params: readonly mp.Tensor[]): mp.Optimizer {
  const { options } = entry;
  const Kind = mp.optim[entry.optimizer] as new (
    params: unknown,
    options?: Options,
  ) => mp.Optimizer;
  if (!Array.isArray(options)) return new Kind(params, options);
  return new Kind(options.map((group, i) => ({ params: [params[i]], ...group })));
}

function setGrads(params: readonly mp.Tensor[], step: number): void {
  params.forEach((parameter, i) => {
    const values = golden.grads[step]![i]!;
    parameter.grad =
      (values as unknown) === null
        ? null
        : mp.fromTypedArray(Float64Array.from(values), parameter.shape, {
            dtype: parameter.dtype,
          });
  });
}

function walk(entry: TrajectoryCase, strided: boolean): void {
  const params = makeParams(entry.dtype, strided);
  const optimizer = makeOptimizer(entry, params);
  golden.grads.forEach((_, step) => {
    setGrads(params, step);
    optimizer.step();
    const seen = golden.after.indexOf(step + 1);
    if (seen < 0) return;
    params.forEach((parameter, i) => {
      const { dtype, shape } = parameter;
      const expected = { dtype, shape, values: entry.params[seen]![i]! };
      const difference = compareWith(parameter, expected, { tolerance: TOLERANCES[dtype]! });
      expect(difference, `after step ${step + 1}, parameter ${i}`).toBeNull();
    });
  });
}

describe("trajectories equal torch's", () => {
  test.each(golden.cases)("$name", (entry) => {
    walk(entry, false);
  });

  test.each(golden.cases.filter(({ dtype, name }) => dtype === "float32" && name.includes("0.1")))(
    "strided parameters, $name",
    (entry) => {
      walk(entry, true);
    },
  );
});

test("a step does not depend on the number of threads", () => {
  const threads = mp.getNumThreads();
  const run = (count: number): number[] => {
    mp.setNumThreads(count);
    mp.manualSeed(5);
    const params = [mp.randn([301, 333]), mp.randn([70_001]), mp.randn([3])];
    const optimizer = new mp.optim.AdamW(params, { lr: 0.1, amsgrad: true });
    for (let step = 0; step < 3; step++) {
      for (const parameter of params) parameter.grad = mp.randn(parameter.shape);
      mp.optim.clipGradNorm(params, 1);
      optimizer.step();
    }
    return params.flatMap((parameter) => Array.from(parameter.dataSync() as Float32Array));
  };
  try {
    const [one, many] = [run(1), run(3)];
    expect(one.every((value, i) => Object.is(value, many[i]))).toBe(true);
  } finally {
    mp.setNumThreads(threads);
  }
});

describe("16-bit parameters", () => {
  test.each(["float16", "bfloat16"] as const)("%s moments have the parameter's dtype", (dtype) => {
    const parameter = mp.ones([4], { dtype });
    const optimizer = new mp.optim.AdamW([parameter], { amsgrad: true });
    parameter.grad = mp.ones([4], { dtype });
    optimizer.step();
    const { step, expAvg, expAvgSq, maxExpAvgSq } = optimizer.stateOf(parameter)!;
    expect([expAvg, expAvgSq, maxExpAvgSq].map((x) => x!.dtype)).toEqual([dtype, dtype, dtype]);
    expect(step!.dtype).toBe("float32");
  });

  test("float16 second moments vanish where their square is too small, and steps explode", () => {
    const parameter = mp.zeros([2], { dtype: "float16" });
    const optimizer = new mp.optim.Adam([parameter], { lr: 1e-3 });
    parameter.grad = mp.full([2], 1e-3, { dtype: "float16" });
    optimizer.step();
    expect(optimizer.stateOf(parameter)!.expAvgSq!.toArray()).toEqual([0, 0]);
    expect(mp.amin(mp.abs(parameter)).item()).toBeGreaterThan(1);
  });

  test("master weights add up steps that are below the parameter's last digit", () => {
    const make = (masterWeights: boolean): mp.Tensor => {
      const parameter = mp.ones([3], { dtype: "bfloat16" });
      const optimizer = new mp.optim.SGD([parameter], { lr: 1e-3, masterWeights });
      for (let step = 0; step < 100; step++) {
        parameter.grad = mp.ones([3], { dtype: "bfloat16" });
        optimizer.step();
      }
      return parameter;
    };
    expect(make(false).toArray()).toEqual([1, 1, 1]);
    expect(make(true).toArray()).toEqual([0.8984375, 0.8984375, 0.8984375]);
  });

  test("with masters and float32 moments a path is float32's, rounded", () => {
    mp.manualSeed(9);
    const wide = mp.randn([64]).to("bfloat16").to("float32");
    const narrow = wide.to("bfloat16");
    const reference = new mp.optim.AdamW([wide], { lr: 1e-2 });
    const optimizer = new mp.optim.AdamW([narrow], { lr: 1e-2, masterWeights: true });
    for (let step = 0; step < 20; step++) {
      narrow.grad = mp.randn([64], { dtype: "bfloat16" });
      wide.grad = narrow.grad.to("float32");
      reference.step();
      optimizer.step();
    }
    const state = optimizer.stateOf(narrow)!;
    expect(state.master!.toArray()).toEqual(wide.toArray());
    expect(state.expAvg!.dtype).toBe("float32");
    expect(narrow.toArray()).toEqual(wide.to("bfloat16").toArray());
  });

  test("a parameter that was written meanwhile renews its master, where it differs", () => {
    const parameter = mp.ones([2], { dtype: "bfloat16" });
    const optimizer = new mp.optim.SGD([parameter], { lr: 1e-3, masterWeights: true });
    const step = (): void => {
      parameter.grad = mp.ones([2], { dtype: "bfloat16" });
      optimizer.step();
    };
    step();
    parameter.copyFrom(mp.tensor([1, 5]));
    step();
    const master = optimizer.stateOf(parameter)!.master!.toArray() as number[];
    // The first is still the rounded master, whose lost digits stay.
    expect(master[0]).toBeCloseTo(0.998, 6);
    expect(master[1]).toBeCloseTo(4.999, 6);
  });

  test("masters go when the parameter becomes float32", () => {
    const parameter = mp.ones([2], { dtype: "bfloat16" });
    const optimizer = new mp.optim.SGD([parameter], { lr: 0.5, masterWeights: true });
    parameter.grad = mp.ones([2], { dtype: "bfloat16" });
    optimizer.step();
    parameter.setData(parameter.to("float32"));
    parameter.grad = mp.ones([2]);
    optimizer.step();
    expect(optimizer.stateOf(parameter)!.master).toBeUndefined();
    expect(parameter.toArray()).toEqual([0, 0]);
  });
});
