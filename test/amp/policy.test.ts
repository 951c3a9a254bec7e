import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { policyNames } from "../../lib/core/policy.js";
import { TEST_DEVICE } from "../helpers/devices.js";

type Fn = (...inputs: mp.Tensor[]) => mp.Tensor;

interface Row {
  /** Floating-point operands' shapes. */
  readonly shapes: number[][];
  readonly run: Fn;
  /** Operands that the operation gives no gradient. */
  readonly constant?: number[];
}

const ids = mp.tensor([0, 2, 1], { dtype: "int64" });
const index = mp.tensor([[0, 1, 2]], { dtype: "int64" });

/** One call of every operation that has a policy. */
const CALLS: Record<string, Row> = {
  matmul: {
    shapes: [
      [2, 3],
      [3, 4],
    ],
    run: (a, b) => mp.matmul(a, b),
  },
  linear: { shapes: [[2, 3], [4, 3], [4]], run: (x, w, b) => mp.linear(x, w, b) },
  conv2d: {
    shapes: [
      [1, 2, 5, 5],
      [3, 2, 3, 3],
    ],
    run: (x, w) => mp.conv2d(x, w),
  },
  scaledDotProductAttention: {
    shapes: [
      [1, 2, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 5, 4],
    ],
    run: (q, k, v) => mp.scaledDotProductAttention(q, k, v),
  },
  exp: { shapes: [[3]], run: (x) => mp.exp(x) },
  log: { shapes: [[3]], run: (x) => mp.log(x) },
  reciprocal: { shapes: [[3]], run: (x) => mp.reciprocal(x) },
  rsqrt: { shapes: [[3]], run: (x) => mp.rsqrt(x) },
  pow: { shapes: [[3], [3]], run: (x, y) => mp.pow(x, y) },
  layerNorm: {
    shapes: [[2, 4], [4], [4]],
    run: (x, w, b) => mp.layerNorm(x, [4], w, b),
  },
  rmsNorm: { shapes: [[2, 4], [4]], run: (x, w) => mp.rmsNorm(x, [4], w) },
  logsumexp: { shapes: [[2, 4]], run: (x) => mp.logsumexp(x, { dim: 1 }) },
  nllLoss: { shapes: [[3, 4]], run: (x) => mp.nllLoss(x, ids) },
  mseLoss: { shapes: [[3], [3]], run: (x, y) => mp.mseLoss(x, y), constant: [1] },
  l1Loss: { shapes: [[3], [3]], run: (x, y) => mp.l1Loss(x, y), constant: [1] },
  bceWithLogits: {
    shapes: [[3], [3]],
    run: (x, y) => mp.bceWithLogits(x, y),
    constant: [1],
  },
  crossEntropy: { shapes: [[3, 4]], run: (x) => mp.crossEntropy(x, ids) },
  softmax: { shapes: [[2, 4]], run: (x) => mp.softmax(x, { dim: 1 }) },
  logSoftmax: { shapes: [[2, 4]], run: (x) => mp.logSoftmax(x, { dim: 1 }) },
  cumsum: { shapes: [[2, 4]], run: (x) => mp.cumsum(x, 1) },
  sum: { shapes: [[2, 4]], run: (x) => mp.sum(x) },
  scatterAdd: {
    shapes: [
      [2, 3],
      [1, 3],
    ],
    run: (x, source) => mp.scatterAdd(x, 0, index.mul(0), source),
  },
};

const LOW = ["matmul", "linear", "conv2d", "scaledDotProductAttention"];
const PROMOTE = ["scatterAdd"];

function operands({ shapes, constant = [] }: Row, dtypes: mp.DType[]): mp.Tensor[] {
  mp.manualSeed(5);
  return shapes.map((shape, i) => {
    const x = mp
      .rand(shape)
      .add(0.5)
      .to(dtypes[i % dtypes.length]!)
      .detach();
    if (!constant.includes(i)) x.requiresGrad = true;
    return x;
  });
}

function expectedDtype(name: string, low: mp.DType, inputs: mp.Tensor[]): mp.DType {
  if (LOW.includes(name)) return low;
  if (!PROMOTE.includes(name)) return "float32";
  return inputs.some((x) => x.dtype === "float32") ? "float32" : low;
}

describe("the autocast policy", () => {
  it("has a call here for every row", () => {
    expect(Object.keys(CALLS).sort()).toEqual(policyNames().sort());
  });

  for (const low of ["float16", "bfloat16"] as const) {
    for (const from of ["float32", low] as const) {
      it.each(Object.entries(CALLS))(`autocast to ${low} of ${from}: %s`, (name, row) => {
        const inputs = operands(row, [from]);
        const out = mp.autocast({ device: TEST_DEVICE, dtype: low }, () => row.run(...inputs));
        expect(out.dtype).toBe(expectedDtype(name, low, inputs));
        // The result is that of the operation on operands that were cast beforehand.
        const target = LOW.includes(name) ? low : PROMOTE.includes(name) ? from : "float32";
        const cast = inputs.map((x) => x.detach().to(target));
        expect(out.toArray()).toEqual(row.run(...cast).toArray());
        mp.sum(out).backward();
        inputs.forEach((x, i) => {
          const wanted = row.constant?.includes(i) === true ? undefined : x.dtype;
          expect(x.grad?.dtype, `gradient of operand ${i}`).toBe(wanted);
        });
      });
    }
  }

  it.each(Object.entries(CALLS))("float64 operands of %s are left alone", (_name, row) => {
    const inputs = operands(row, ["float64"]);
    const out = mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () => row.run(...inputs));
    expect(out.dtype).toBe("float64");
  });

  it("leaves operations without a row to type promotion", () => {
    const half = mp.ones([2], { dtype: "float16" });
    const single = mp.ones([2]);
    mp.autocast({ device: TEST_DEVICE, dtype: "float16" }, () => {
      expect(mp.add(half, single).dtype).toBe("float32");
      expect(mp.add(half, half).dtype).toBe("float16");
      expect(mp.mul(single, single).dtype).toBe("float32");
      expect(mp.relu(half).dtype).toBe("float16");
      expect(mp.gelu(half).dtype).toBe("float16");
      expect(mp.dropout(half, { p: 0.5, training: true }).dtype).toBe("float16");
      expect(mp.cat([half, single], 0).dtype).toBe("float32");
      expect(mp.embedding(mp.ones([3, 2]), ids).dtype).toBe("float32");
    });
  });

  it("leaves integers and bools alone", () => {
    mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () => {
      expect(mp.sum(ids).dtype).toBe("int64");
      expect(mp.cumsum(ids, 0).dtype).toBe("int64");
      expect(mp.sum(ids.gt(0)).dtype).toBe("int64");
    });
  });

  it("computes softmax and sum in float32 unless a dtype is named", () => {
    const x = mp.ones([2, 2], { dtype: "float16" });
    mp.autocast({ device: TEST_DEVICE, dtype: "float16" }, () => {
      expect(mp.softmax(x, { dim: 1 }).dtype).toBe("float32");
      expect(mp.softmax(x, { dim: 1, dtype: "float16" }).dtype).toBe("float16");
      expect(mp.sum(x, { dtype: "float16" }).dtype).toBe("float16");
      expect(mp.sum(x, { dtype: "float64" }).dtype).toBe("float64");
    });
  });

  it("promotes to the widest, and refuses a third dtype", () => {
    const row = CALLS.scatterAdd!;
    const run = (dtypes: mp.DType[]): mp.Tensor =>
      mp.autocast({ device: TEST_DEVICE, dtype: "float16" }, () =>
        row.run(...operands(row, dtypes)),
      );
    expect(run(["float16", "float16"]).dtype).toBe("float16");
    expect(run(["float32", "float16"]).dtype).toBe("float32");
    expect(run(["float16", "float32"]).dtype).toBe("float32");
    expect(() => run(["bfloat16", "float16"])).toThrow(mp.DTypeError);
    expect(() => run(["bfloat16", "float16"])).toThrow(/scatterAdd.*float16.*bfloat16/);
  });

  it("casts operands among the options", () => {
    const q = mp.randn([1, 1, 2, 4]);
    const mask = mp.zeros([2, 2]);
    const out = mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () =>
      mp.scaledDotProductAttention(q, q, q, { mask }),
    );
    expect(out.dtype).toBe("bfloat16");
  });

  it("casts once around an operation, not inside it", () => {
    // crossEntropy is made of a log-softmax; all of it is float32 of float32 operands.
    const logits = mp.tensor([[1, 2, 3.001]]);
    const target = mp.tensor([1], { dtype: "int64" });
    const plain = mp.crossEntropy(logits, target).item();
    const cast = mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16" }, () =>
      mp.crossEntropy(logits, target).item(),
    );
    expect(cast).toBe(plain);
  });
});

describe("changes to the policy", () => {
  const x = mp.ones([2, 4], { dtype: "float16" });

  it("apply inside the region, and inside the regions in it", () => {
    mp.autocast({ device: TEST_DEVICE, dtype: "float16", policy: { softmax: "none" } }, () => {
      expect(mp.softmax(x, { dim: 1 }).dtype).toBe("float16");
      expect(mp.logSoftmax(x, { dim: 1 }).dtype).toBe("float32");
      mp.autocast({ policy: { matmul: "float32" } }, () => {
        expect(mp.softmax(x, { dim: 1 }).dtype).toBe("float16");
        expect(mp.matmul(x, mp.ones([4, 1])).dtype).toBe("float32");
      });
      expect(mp.matmul(x, mp.ones([4, 1])).dtype).toBe("float16");
    });
    mp.autocast({ device: TEST_DEVICE, dtype: "float16" }, () => {
      expect(mp.softmax(x, { dim: 1 }).dtype).toBe("float32");
    });
  });

  it("may name any operation", () => {
    const single = mp.ones([2]);
    mp.autocast(
      { device: TEST_DEVICE, dtype: "bfloat16", policy: { gelu: "low", add: "float32" } },
      () => {
        expect(mp.gelu(single).dtype).toBe("bfloat16");
        expect(mp.add(mp.gelu(single), mp.gelu(single)).dtype).toBe("float32");
      },
    );
  });

  it("return a weight that came through unchanged, to be used after the region", () => {
    const weight = mp.ones([4], { requiresGrad: true });
    const policy = { dropout: "low" } as const;
    const out = mp.autocast({ device: TEST_DEVICE, dtype: "bfloat16", policy }, () =>
      mp.dropout(weight, { p: 0.5, training: false }),
    );
    expect(out.dtype).toBe("bfloat16");
    expect(out.toArray()).toEqual([1, 1, 1, 1]);
    mp.sum(out).backward();
    expect(weight.grad!.dtype).toBe("float32");
  });

  it("must name an operation and a policy that exist", () => {
    const run = (policy: unknown): unknown =>
      mp.autocast(
        { device: TEST_DEVICE, policy: policy as Record<string, mp.CastPolicy> },
        () => 1,
      );
    expect(() => run({ sotfmax: "none" })).toThrow(mp.ArgumentError);
    expect(() => run({ sotfmax: "none" })).toThrow(/sotfmax/);
    expect(() => run({ softmax: "half" })).toThrow(/softmax.*low, float32/);
    expect(() => run(["softmax"])).toThrow(mp.ArgumentError);
    expect(() => run(null)).toThrow(mp.ArgumentError);
  });
});
