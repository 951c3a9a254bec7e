// Who releases what: dispose, using, tidy, the garbage collector; and that nothing stays.

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { ON_CUDA } from "../helpers/devices.js";
import { inputsOf, OP_USES, outputsOf } from "../helpers/op-table.js";

/** Memory of the device under test. */
const statistics = ON_CUDA ? mp.cuda : mp.memory;

const collect = (globalThis as { gc?: () => void }).gc!;

/** How many tensors `fn` leaves behind. */
function left(fn: () => void): number {
  collect();
  const before = mp.memory.tensorCount();
  fn();
  return mp.memory.tensorCount() - before;
}

describe("dispose", () => {
  it("releases once, and makes later use an error that names it", () => {
    const x = mp.ones([2]);
    const before = statistics.memoryAllocated();
    x.dispose();
    x.dispose();
    expect(statistics.memoryAllocated()).toBeLessThan(before);
    expect(x.isDisposed).toBe(true);
    expect(() => x.add(1)).toThrow(/add: a float32 tensor of shape \[2\] was used after it was/);
    expect(() => x.toArray()).toThrow(mp.DisposedError);
    expect(() => x.item()).toThrow(mp.DisposedError);
    expect(() => x.reshape([2])).toThrow(mp.DisposedError);
    expect(() => x.detach()).toThrow(mp.DisposedError);
    expect(() => x.to("float32")).toThrow(mp.DisposedError);
    expect(() => mp.dropout(x, { training: false })).toThrow(mp.DisposedError);
  });

  it("is called by using", () => {
    expect(
      left(() => {
        using x = mp.ones([3]);
        using y = x.add(1);
        expect(y.toArray()).toEqual([2, 2, 2]);
      }),
    ).toBe(0);
  });

  it("leaves memory that a view or a graph needs", () => {
    const x = mp.tensor([1, 2, 3, 4], { requiresGrad: true });
    const y = x.mul(x);
    const v = y.narrow(0, 1, 2);
    y.dispose();
    expect(v.toArray()).toEqual([4, 9]);
    x.dispose();
    v.sum().backward();
    expect(x.grad!.toArray()).toEqual([0, 4, 6, 0]);
  });
});

describe("tidy", () => {
  it("keeps what is returned, at any depth, and releases the rest", () => {
    let inner: mp.Tensor | undefined;
    collect();
    const before = mp.memory.tensorCount();
    const result = mp.tidy(() => {
      const x = mp.ones([2]);
      inner = x.add(1);
      return { a: [x.mul(3)], b: new Map([["c", { d: x.mul(4) }]]) };
    });
    expect(mp.memory.tensorCount()).toBe(before + 2);
    expect(result.a[0]!.toArray()).toEqual([3, 3]);
    expect(result.b.get("c")!.d.toArray()).toEqual([4, 4]);
    expect(inner!.isDisposed).toBe(true);
  });

  it("hands what an inner one returns to the outer one", () => {
    expect(
      left(() => {
        mp.tidy(() => {
          const x = mp.tidy(() => mp.ones([2]).add(1));
          expect(x.isDisposed).toBe(false);
        });
      }),
    ).toBe(0);
  });

  it("releases when the function throws, and takes no promise", () => {
    expect(
      left(() => {
        expect(() =>
          mp.tidy(() => {
            mp.ones([2]);
            throw new Error("inside");
          }),
        ).toThrow("inside");
        expect(() => mp.tidy(() => Promise.resolve(mp.ones([2])))).toThrow(mp.GradError);
      }),
    ).toBe(0);
  });

  it("leaves gradients of leaves, and the graph of what it returns", () => {
    const x = mp.tensor([1, 2], { requiresGrad: true });
    const loss = mp.tidy(() => x.exp().mul(x).sum());
    mp.tidy(() => {
      loss.backward();
    });
    expect(x.grad!.isDisposed).toBe(false);
    expect((x.grad!.toArray() as number[])[0]).toBeCloseTo(2 * Math.E, 5);
  });
});

describe("operations", () => {
  // What a test leaves would be collected in the middle of another one's count.
  const alive: unknown[] = [];
  beforeAll(() => {
    collect();
  });
  afterAll(() => {
    alive.length = 0;
  });

  // Not those whose uses in the table make an index, a mask or a weight of their own.
  const PLAIN =
    "neg exp log relu gelu silu clamp clone add sub mul div maximum pow sum mean variance amax " +
    "logsumexp softmax logSoftmax cumsum matmul linear layerNorm rmsNorm transpose permute expand " +
    "unsqueeze narrow slice select split chunk cat stack conv2d mseLoss l1Loss";

  it.each(OP_USES.filter(({ op }) => PLAIN.split(" ").includes(op)))(
    "$op $label leaves its outputs and nothing else",
    (entry) => {
      const inputs = inputsOf(entry);
      const before = mp.memory.tensorCount();
      const outputs = mp.noGrad(() => outputsOf(entry, inputs));
      alive.push(inputs, outputs);
      expect(mp.memory.tensorCount() - before).toBe(outputs.length);
    },
  );

  it.each(OP_USES)("$op $label leaves nothing in a tidy step", (entry) => {
    const inputs = inputsOf(entry).map((x) => {
      x.requiresGrad = true;
      return x;
    });
    alive.push(inputs);
    const step = (): void => {
      mp.tidy(() => {
        const outputs = outputsOf(entry, inputs);
        const loss = mp.cat(outputs.map((y) => y.reshape([-1]))).sum();
        loss.backward();
      });
    };
    step();
    const before = mp.memory.tensorCount();
    step();
    step();
    expect(mp.memory.tensorCount()).toBe(before);
  });
});

describe("a training loop", () => {
  function makeStep(): () => number {
    mp.manualSeed(1);
    const x = mp.randn([8, 4]);
    const w = mp.randn([3, 4]);
    const b = mp.zeros([3]);
    w.requiresGrad = b.requiresGrad = true;
    const target = mp.tensor([0, 1, 2, 0, 1, 2, 0, 1], { dtype: "int64" });
    return () => {
      const loss = mp.crossEntropy(mp.linear(x, w, b).relu().layerNorm(3), target);
      loss.backward();
      mp.noGrad(() => {
        for (const p of [w, b]) {
          p.copyFrom(p.sub(p.grad!.mul(0.1)));
          p.grad!.dispose();
          p.grad = null;
        }
      });
      return loss.item();
    };
  }

  it("grows neither tensors nor memory with tidy", () => {
    const step = makeStep();
    for (let i = 0; i < 50; i++) mp.tidy(step);
    collect();
    const [count, bytes] = [mp.memory.tensorCount(), statistics.memoryAllocated()];
    for (let i = 0; i < 2000; i++) mp.tidy(step);
    expect(mp.memory.tensorCount()).toBe(count);
    expect(statistics.memoryAllocated()).toBe(bytes);
  });

  it("is kept small by the collector without it", async () => {
    const step = makeStep();
    const settle = async (): Promise<number> => {
      for (let i = 0; i < 4; i++) {
        await new Promise((resolve) => setTimeout(resolve, 0));
        collect();
      }
      return mp.memory.tensorCount();
    };
    for (let i = 0; i < 50; i++) step();
    const count = await settle();
    for (let i = 0; i < 2000; i++) step();
    expect(await settle()).toBeLessThanOrEqual(count + 8);
  });
});

describe("statistics", () => {
  it("follow allocation, peak and cache", () => {
    collect();
    statistics.resetPeakMemoryStats();
    const start = statistics.memoryAllocated();
    const x = mp.zeros([1 << 18]);
    expect(statistics.memoryAllocated() - start).toBe(1 << 20);
    expect(statistics.memoryReserved()).toBeGreaterThanOrEqual(statistics.memoryAllocated());
    x.dispose();
    expect(statistics.memoryAllocated()).toBe(start);
    expect(statistics.maxMemoryAllocated()).toBeGreaterThanOrEqual(start + (1 << 20));
    statistics.resetPeakMemoryStats();
    expect(statistics.maxMemoryAllocated()).toBe(start);
    const reserved = statistics.memoryReserved();
    statistics.emptyCache();
    expect(statistics.memoryReserved()).toBeLessThanOrEqual(reserved);
    expect(statistics.memorySummary()).toMatch(/allocated .* MiB/);
  });
});
