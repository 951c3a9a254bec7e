import { describe, expect, it } from "vitest";

import { gradOps } from "../../lib/core/tape.js";
import * as mp from "../../lib/index.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";

const HALF = { device: TEST_DEVICE, dtype: "float16" } as const;
const BF16 = { device: TEST_DEVICE, dtype: "bfloat16" } as const;

function leaf(data: mp.NestedArray): mp.Tensor {
  return mp.tensor(data, { requiresGrad: true });
}

const product = (x: mp.Tensor, w: mp.Tensor): mp.Tensor => mp.linear(x, w);

describe("autocast", () => {
  it("returns what the function returns, and ends with it", () => {
    expect(mp.isAutocastEnabled()).toBe(false);
    const inside = mp.autocast(HALF, () => [mp.isAutocastEnabled(), mp.getAutocastDtype()]);
    expect(inside).toEqual([true, "float16"]);
    expect(mp.isAutocastEnabled()).toBe(false);
    expect(mp.matmul(mp.ones([1, 2]), mp.ones([2, 1])).dtype).toBe("float32");
  });

  it("ends when the function throws, also at the outermost region", () => {
    const boom = (): never => {
      throw new RangeError("boom");
    };
    expect(() => mp.autocast(HALF, () => mp.autocast(BF16, boom))).toThrow(RangeError);
    expect(mp.isAutocastEnabled()).toBe(false);
    const outer = mp.autocast(HALF, () => {
      expect(() => mp.autocast(BF16, boom)).toThrow(RangeError);
      return mp.getAutocastDtype();
    });
    expect(outer).toBe("float16");
  });

  it("is bfloat16 on the CPU by default, and float16 on CUDA", () => {
    expect(mp.getAutocastDtype("cpu")).toBe("bfloat16");
    expect(mp.getAutocastDtype("cuda")).toBe("float16");
    expect(mp.getAutocastDtype("cuda:1")).toBe("float16");
    const x = mp.ones([1, 1], { device: "cpu" });
    expect(mp.autocast({ device: "cpu" }, () => mp.matmul(x, x).dtype)).toBe("bfloat16");
  });

  it.runIf(ON_CUDA)(
    "takes CUDA where there is a device, and leaves the CPU's tensors alone",
    () => {
      const products = (options: mp.AutocastOptions): mp.DType[] =>
        mp.autocast(options, () =>
          (["cpu", TEST_DEVICE] as const).map((device) => {
            const x = mp.ones([1, 1], { device });
            return mp.matmul(x, x).dtype;
          }),
        );
      expect(products({})).toEqual(["float32", "float16"]);
      expect(products({ device: "cuda", dtype: "bfloat16" })).toEqual(["float32", "bfloat16"]);
      expect(products({ device: "cpu" })).toEqual(["bfloat16", "float32"]);
    },
  );

  it.runIf(!mp.cuda.isAvailable())("takes the CPU where there is no CUDA device", () => {
    const x = mp.ones([1, 1]);
    expect(mp.autocast({}, () => mp.matmul(x, x).dtype)).toBe("bfloat16");
    expect(() => mp.autocast({ device: "cuda" }, () => 1)).toThrow(mp.DeviceError);
    expect(mp.autocast({ device: "cuda", enabled: false }, () => 1)).toBe(1);
  });

  it("takes float16 and bfloat16 only", () => {
    for (const dtype of ["float32", "float64", "int32", "half", 16, null]) {
      const run = (): unknown => mp.autocast({ device: "cpu", dtype: dtype as mp.DType }, () => 1);
      expect(run, String(dtype)).toThrow(mp.DTypeError);
      expect(run).toThrow(/float16 or bfloat16/);
    }
  });

  it("names what else is wrong with its arguments", () => {
    const call = mp.autocast as unknown as (...args: unknown[]) => unknown;
    expect(() => call({ device: "tpu" }, () => 1)).toThrow(mp.DeviceError);
    expect(() => call({ enabled: "yes" }, () => 1)).toThrow(mp.ArgumentError);
    expect(() => call({ cacheEnabled: 1 }, () => 1)).toThrow(mp.ArgumentError);
    expect(() => call(() => 1)).toThrow(mp.ArgumentError);
    expect(() => call(null, () => 1)).toThrow(mp.ArgumentError);
    expect(() => mp.isAutocastEnabled("tpu" as mp.Device)).toThrow(mp.DeviceError);
    expect(mp.isAutocastEnabled()).toBe(false);
  });

  it("refuses a function that returns a promise", () => {
    const run = (): unknown => mp.autocast(HALF, () => Promise.resolve(1));
    expect(run).toThrow(mp.GradError);
    expect(run).toThrow(/autocast.*synchronous/);
    expect(mp.isAutocastEnabled()).toBe(false);
  });

  describe("nested", () => {
    const x = mp.ones([2, 2]);

    it("has the innermost region's dtype, and the outer one's afterwards", () => {
      mp.autocast(HALF, () => {
        expect(mp.matmul(x, x).dtype).toBe("float16");
        mp.autocast({ dtype: "bfloat16" }, () => {
          expect(mp.matmul(x, x).dtype).toBe("bfloat16");
          expect(mp.getAutocastDtype()).toBe("bfloat16");
        });
        expect(mp.matmul(x, x).dtype).toBe("float16");
      });
    });

    it("takes over what it is not told", () => {
      mp.autocast(HALF, () => {
        mp.autocast({}, () => {
          expect(mp.matmul(x, x).dtype).toBe("float16");
        });
      });
    });

    it("casts nothing in a disabled region, and again in a region inside it", () => {
      mp.autocast(HALF, () => {
        const low = mp.matmul(x, x);
        mp.autocast({ enabled: false }, () => {
          expect(mp.isAutocastEnabled()).toBe(false);
          expect(mp.getAutocastDtype()).toBe("float16");
          expect(mp.matmul(x, x).dtype).toBe("float32");
          expect(mp.softmax(low, { dim: 1 }).dtype).toBe("float16");
          expect(() => mp.matmul(low, x)).toThrow(mp.DTypeError);
          expect(mp.matmul(low.to("float32"), x).dtype).toBe("float32");
          mp.autocast({ enabled: true }, () => {
            expect(mp.matmul(low, x).dtype).toBe("float16");
          });
        });
        expect(mp.matmul(x, x).dtype).toBe("float16");
      });
    });

    it("says for which device it is enabled", () => {
      mp.autocast(HALF, () => {
        expect(mp.isAutocastEnabled(TEST_DEVICE)).toBe(true);
        expect(mp.isAutocastEnabled("cpu")).toBe(!ON_CUDA);
        expect(mp.isAutocastEnabled("cuda")).toBe(ON_CUDA);
        expect(mp.getAutocastDtype(TEST_DEVICE)).toBe("float16");
      });
    });
  });

  describe("gradients", () => {
    it("of parameters are float32, those of activations in the activation's dtype", () => {
      const w1 = leaf([
        [1, 2],
        [3, 4],
      ]);
      const w2 = leaf([[1, -1]]);
      const x = mp.ones([3, 2]);
      const [hidden, loss] = mp.autocast(HALF, () => {
        const h = mp.linear(x, w1);
        return [h, mp.linear(mp.relu(h), w2).sum()] as const;
      });
      expect(hidden.dtype).toBe("float16");
      expect(loss.dtype).toBe("float32");
      expect(mp.grad(loss, hidden, { retainGraph: true }).dtype).toBe("float16");
      loss.backward();
      expect(w1.grad!.dtype).toBe("float32");
      expect(w1.grad!.toArray()).toEqual([
        [3, 3],
        [-3, -3],
      ]);
      expect(w2.grad!.toArray()).toEqual([[9, 21]]);
    });

    it("are the same when backward runs inside the region", () => {
      const run = (inside: boolean): unknown => {
        const w = leaf([
          [0.1, 0.2],
          [0.3, 0.4],
        ]);
        const x = mp.tensor([[0.7, -1.3]]);
        const loss = mp.autocast(BF16, () => {
          const out = mp
            .softmax(mp.linear(x, w), { dim: 1 })
            .mul(mp.tensor([1, 2]))
            .sum();
          if (inside) out.backward();
          return out;
        });
        if (!inside) loss.backward();
        return w.grad!.toArray();
      };
      expect(run(true)).toEqual(run(false));
    });

    it("round what overflows float16 to infinity, as the GPU does", () => {
      const w = leaf([[300]]);
      const loss = mp.autocast(HALF, () => mp.linear(mp.tensor([[300]]), w).sum());
      expect(loss.item()).toBe(Infinity);
    });
  });

  describe("the cache of weight casts", () => {
    /** How many casts `fn` makes. */
    function castsMade(fn: () => unknown): number {
      const { cast } = gradOps;
      let made = 0;
      gradOps.cast = (x, dtype) => {
        made++;
        return cast(x, dtype);
      };
      try {
        fn();
      } finally {
        gradOps.cast = cast;
      }
      return made;
    }

    /** How many native tensors `fn` leaves behind; the collector may take others meanwhile. */
    function tensorsLeft(fn: () => unknown): number {
      const before = mp.memory.tensorCount();
      fn();
      return mp.memory.tensorCount() - before;
    }

    it("sums the gradients of a weight that is used twice", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      const loss = mp.autocast(HALF, () => mp.add(product(x, w), product(x, w)).sum());
      loss.backward();
      expect(w.grad!.toArray()).toEqual([[2, 2]]);
      expect(w.grad!.dtype).toBe("float32");
    });

    it("casts a weight once in all regions inside the outermost, and lets go at its end", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2], { dtype: "float16" });
      mp.autocast(HALF, () => {
        expect(castsMade(() => product(x, w))).toBe(1);
        expect(castsMade(() => product(x, w))).toBe(0);
        mp.autocast({}, () => {
          expect(castsMade(() => product(x, w))).toBe(0);
        });
        mp.autocast({ enabled: false }, () => {
          mp.autocast({ enabled: true }, () => {
            expect(castsMade(() => product(x, w))).toBe(0);
          });
        });
      });
      expect(mp.autocast(HALF, () => castsMade(() => product(x, w)))).toBe(1);
      const left = tensorsLeft(() => {
        mp.autocast(HALF, () => {
          mp.noGrad(() => product(x, w)).dispose();
        });
      });
      expect(left).toBeLessThanOrEqual(0);
    });

    it("keeps one cast for each dtype", () => {
      const w = leaf([[1.001, 2]]);
      const x = mp.ones([1, 2]);
      mp.autocast(HALF, () => {
        const first = product(x, w).item();
        mp.autocast(BF16, () => {
          expect(product(x, w).dtype).toBe("bfloat16");
        });
        expect(product(x, w).dtype).toBe("float16");
        expect(product(x, w).item()).toBe(first);
      });
    });

    it("keeps gradients after a pass inside noGrad", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      const loss = mp.autocast(HALF, () => {
        const seen = mp.noGrad(() => product(x, w));
        expect(seen.requiresGrad).toBe(false);
        return product(x, w).sum();
      });
      loss.backward();
      expect(w.grad!.toArray()).toEqual([[1, 1]]);
    });

    it("sees a weight that was changed in place", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      mp.autocast(HALF, () => {
        expect(product(x, w).item()).toBe(3);
        mp.noGrad(() => w.fill(5));
        expect(product(x, w).item()).toBe(10);
        w.detach().copyFrom(mp.tensor([[2, 2]]));
        expect(product(x, w).item()).toBe(4);
      });
    });

    it("sees a step of an optimizer inside the region", () => {
      const w = leaf([[1, 2]]);
      const optimizer = new mp.SGD([w], { lr: 1 });
      const x = mp.ones([1, 2]);
      mp.autocast(HALF, () => {
        product(x, w).sum().backward();
        optimizer.step();
        expect(product(x, w).item()).toBe(1);
      });
    });

    it("sees a weight whose memory was replaced", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      mp.autocast(HALF, () => {
        expect(product(x, w).item()).toBe(3);
        w.setData(mp.tensor([[7, 8]]));
        expect(product(x, w).item()).toBe(15);
      });
    });

    it("serves several losses, each with a backward of its own", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      mp.autocast(HALF, () => {
        const first = product(x, w).sum();
        const second = product(x, w).mul(3).sum();
        first.backward();
        second.backward();
        product(x, w).sum().backward();
      });
      expect(w.grad!.toArray()).toEqual([[5, 5]]);
    });

    it("outlives a tidy in the region", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      const loss = mp.autocast(HALF, () => {
        mp.tidy(() => void product(x, w));
        return mp.tidy(() => product(x, w).sum());
      });
      loss.backward();
      expect(w.grad!.toArray()).toEqual([[1, 1]]);
    });

    it("is shared by a tidy around the region, and released with it", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2]);
      const step = (): void => {
        mp.tidy(() => {
          const loss = mp.autocast(HALF, () => mp.add(product(x, w), product(x, w)).sum());
          loss.backward();
        });
      };
      step();
      expect(tensorsLeft(step)).toBeLessThanOrEqual(0);
    });

    it("holds the casts of other tensors only while an operation runs", () => {
      const x = mp.ones([1, 2]);
      const w = mp.ones([1, 2]);
      const left = tensorsLeft(() => mp.autocast(HALF, () => product(x, w).dispose()));
      expect(left).toBeLessThanOrEqual(0);
    });

    it("can be turned off", () => {
      const w = leaf([[1, 2]]);
      const x = mp.ones([1, 2], { dtype: "float16" });
      mp.autocast({ ...HALF, cacheEnabled: false }, () => {
        mp.noGrad(() => {
          expect(castsMade(() => product(x, w))).toBe(1);
          expect(castsMade(() => product(x, w))).toBe(1);
        });
        product(x, w).sum().backward();
      });
      expect(w.grad!.toArray()).toEqual([[1, 1]]);
    });

    it("leaves out what is no float32 leaf that requires gradients", () => {
      const frozen = mp.tensor([[1, 2]]);
      const x = mp.ones([1, 2], { dtype: "float16" });
      mp.autocast(HALF, () => {
        expect(castsMade(() => product(x, frozen))).toBe(1);
        expect(castsMade(() => product(x, frozen))).toBe(1);
      });
    });
  });

  it("leaves nothing behind in a tidy, with casts of activations and weights", () => {
    const w = leaf([[1, 2]]);
    const frozen = mp.tensor([[3]]);
    const x = mp.ones([1, 2]);
    const step = (): void => {
      mp.tidy(() => {
        mp.autocast(HALF, () => mp.linear(mp.relu(mp.linear(x, w)), frozen).sum()).backward();
      });
    };
    step();
    const before = mp.memory.tensorCount();
    for (let i = 0; i < 100; i++) step();
    expect(mp.memory.tensorCount()).toBeLessThanOrEqual(before);
  });

  it("leaves nothing behind without tidy, where all that is returned is disposed of", () => {
    const w = leaf([[1, 2]]);
    const x = mp.ones([1, 2]);
    const step = (): void => {
      const out = mp.autocast(HALF, () => product(x, w));
      const loss = mp.sum(out);
      loss.backward();
      for (const made of [out, loss, w.grad!]) made.dispose();
      w.grad = null;
    };
    step();
    const before = mp.memory.tensorCount();
    for (let i = 0; i < 100; i++) step();
    expect(mp.memory.tensorCount()).toBeLessThanOrEqual(before);
  });

  it("recomputes a checkpoint as it computed it", () => {
    const w = leaf([
      [0.1, 0.7],
      [0.3, -0.4],
    ]);
    const x = leaf([[0.7, -1.3]]);
    const body = (input: mp.Tensor): mp.Tensor => mp.gelu(mp.linear(input, w));
    const grads = [body, (input: mp.Tensor) => mp.checkpoint(body, input)].map((fn) => {
      w.grad = null;
      x.grad = null;
      mp.autocast(BF16, () => fn(x).sum()).backward();
      return [w.grad!.toArray(), x.grad!.toArray()];
    });
    expect(grads[1]).toEqual(grads[0]);
  });
});
