import { describe, expect, it, vi } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR } from "../helpers/devices.js";
import { batch, makeNet, Net } from "./models.js";

const bf16 = (): mp.Fabric =>
  new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision: "bf16-mixed" });

describe("a module that was set up", () => {
  it("is a module, with the original's names and values", () => {
    const net = makeNet();
    const model = bf16().setup(net);
    expect(model).toBeInstanceOf(mp.nn.Module);
    expect(model.module).toBe(net);
    expect(model.first).toBe(net.first);
    expect(model.namedParameters()).toEqual(net.namedParameters());
    expect(model.parameters()).toEqual(net.parameters());
    expect(model.namedBuffers().map(([name]) => name)).toEqual(["offset"]);
    expect(Object.keys(model.stateDict())).toEqual(Object.keys(net.stateDict()));
    expect(model.namedModules().map(([name]) => name)).toEqual(["", "first", "norm", "second"]);
    expect("first" in model).toBe(true);
    expect("third" in model).toBe(false);
  });

  it("loads, switches and moves the original, and returns itself", () => {
    const net = makeNet();
    const model = bf16().setup(net);
    expect(model.eval()).toBe(model);
    expect([net.training, net.first.training, model.training]).toEqual([false, false, false]);
    model.training = true;
    expect(net.training).toBe(true);
    expect(model.train()).toBe(model);
    expect(model.to("float64")).toBe(model);
    expect(net.first.weight.dtype).toBe("float64");
    model.to("float32");
    const other = makeNet(9);
    model.loadStateDict(other.stateDict());
    expect(net.first.weight.toArray()).toEqual(other.first.weight.toArray());
    model.first.weight.grad = mp.ones([8, 4]);
    model.zeroGrad();
    expect(net.first.weight.grad).toBeNull();
    expect(model.requiresGrad(false)).toBe(model);
    expect(net.first.weight.requiresGrad).toBe(false);
  });

  it("sets properties of the original", () => {
    const net = makeNet();
    const model = bf16().setup(net);
    model.seen = { note: "int8" };
    expect(net.seen).toEqual({ note: "int8" });
  });

  it("has its place in another module", () => {
    class Outer extends mp.nn.Module {
      constructor(readonly inner: mp.nn.Module) {
        super();
      }
    }
    const net = makeNet();
    const outer = new Outer(bf16().setup(net));
    expect(outer.namedParameters().map(([name]) => name)).toEqual(
      net.namedParameters().map(([name]) => `inner.${name}`),
    );
    outer.eval();
    expect(net.norm.training).toBe(false);
  });

  describe("methods of its own", () => {
    class WithMethods extends Net {
      readonly #secret = 2;
      calls: string[] = [];

      twice(x: mp.Tensor): mp.Tensor {
        this.calls.push("twice");
        return mp.mul(this.forward(x), this.#secret);
      }

      async later(x: mp.Tensor): Promise<mp.Tensor> {
        await Promise.resolve();
        return this.forward(x);
      }

      fails(): never {
        throw new RangeError("no");
      }

      direct(x: mp.Tensor): mp.Tensor {
        return this.first.forward(x);
      }
    }

    it("see private fields, and get the conversions where they call forward", async () => {
      const net = new WithMethods();
      const model = bf16().setup(net);
      const { x } = batch(0);
      expect(model.twice(x).dtype).toBe("float32");
      expect(net.seen.hidden).toBe("bfloat16");
      expect(net.calls).toEqual(["twice"]);
      net.seen = {};
      expect((await model.later(x)).dtype).toBe("float32");
      expect(net.seen.hidden).toBe("bfloat16");
      expect(() => model.fails()).toThrow(RangeError);
      // The original by itself is what it was.
      net.forward(x);
      expect(net.seen.hidden).toBe("float32");
      expect(Object.hasOwn(net, "forward")).toBe(false);
    });

    it("get the conversions themselves when they are marked", () => {
      const model = bf16().setup(new WithMethods());
      const { x } = batch(0);
      const plain = model.direct(x).toArray();
      model.markForwardMethod("direct");
      const marked = model.direct(x);
      expect(marked.dtype).toBe("float32");
      expect(marked.toArray()).not.toEqual(plain);
      expect(marked.toArray()).toEqual(marked.to("bfloat16").toArray());
      expect(() => model.markForwardMethod("nothing")).toThrow(mp.ArgumentError);
      expect(() => model.markForwardMethod("parameters")).toThrow(mp.ArgumentError);
    });
  });

  it("casts each weight once a forward pass, and shares it among its uses", () => {
    class Shared extends mp.nn.Module {
      readonly layer = new mp.nn.Linear(4, 4);
      override forward(x: mp.Tensor): mp.Tensor {
        return this.layer.forward(this.layer.forward(x));
      }
    }
    mp.manualSeed(1);
    const shared = new Shared();
    const fabric = bf16();
    const model = fabric.setup(shared);
    fabric.backward(model.forward(batch(0).x).sum());
    expect(shared.layer.weight.grad!.dtype).toBe("float32");
  });
});

describe("setup", () => {
  it("returns the module, and the optimizers and scheduler where there are some", () => {
    const fabric = bf16();
    const net = makeNet();
    const [first, second] = [new mp.SGD([net.first.weight]), new mp.AdamW([net.second.weight])];
    const scheduler = mp.lrScheduler.constant(first);
    const all = fabric.setup(net, first, second, { scheduler });
    expect(all).toHaveLength(4);
    const [model, one, two, three] = all;
    expect(model.module).toBe(net);
    expect(one.optimizer).toBe(first);
    expect(two.optimizer).toBe(second);
    expect(three).toBe(scheduler);
    expect(one).toBeInstanceOf(mp.SGD);
    expect(two.paramGroups[0]!.betas).toEqual([0.9, 0.999]);
    const [alone] = fabric.setup(makeNet(), { scheduler });
    expect(alone.module).toBeInstanceOf(Net);
  });

  it("keeps parameters where optimizers have them", () => {
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision: "16-true" });
    const net = makeNet();
    const optimizer = new mp.SGD(net.parameters(), { lr: 0.1 });
    const [model] = fabric.setup(net, optimizer);
    expect(optimizer.parameters()).toEqual(model.parameters());
    expect(optimizer.parameters()[0]!.dtype).toBe("float16");
  });

  it("refuses what was set up already, and what is neither", () => {
    const fabric = bf16();
    const net = makeNet();
    const [model, optimizer] = fabric.setup(net, new mp.SGD(net.parameters()));
    for (const again of [
      () => fabric.setup(model),
      () => fabric.setupModule(model),
      () => fabric.setup(makeNet(), optimizer),
      () => fabric.setupOptimizers(optimizer),
    ]) {
      expect(again).toThrow(mp.ArgumentError);
      expect(again).toThrow(/set up already/);
    }
    expect(() => fabric.setup({} as mp.nn.Module)).toThrow(/module.*expected a Module/);
    expect(() => fabric.setupOptimizers({} as mp.SGD)).toThrow(/expected an optimizer/);
    expect(() => (fabric.setupOptimizers as () => unknown)()).toThrow(/at least one/);
  });

  it("gives back one optimizer, or a list of them", () => {
    const fabric = bf16();
    const make = (): mp.SGD => new mp.SGD([mp.tensor([1], { requiresGrad: true })]);
    const one = fabric.setupOptimizers(make());
    expect(one.step().skipped).toBe(false);
    const [two, three] = fabric.setupOptimizers(make(), make());
    expect([two.optimizer, three.optimizer].every((item) => item instanceof mp.SGD)).toBe(true);
  });

  it("wraps optimizers so that schedules and state work on them", () => {
    const fabric = bf16();
    const w = mp.tensor([1], { requiresGrad: true });
    const optimizer = fabric.setupOptimizers(new mp.AdamW([w], { lr: 1 }));
    const schedule = mp.lrScheduler.linear(optimizer, { warmupSteps: 0, totalSteps: 2 });
    fabric.backward(w.mul(2).sum());
    optimizer.step();
    schedule.step();
    expect(optimizer.paramGroups[0]!.lr).toBe(0.5);
    expect(optimizer.stateOf(w)!.step!.item()).toBe(1);
    optimizer.zeroGrad();
    expect(w.grad).toBeNull();
    optimizer.paramGroups[0]!.lr = 0.125;
    expect(optimizer.optimizer.paramGroups[0]!.lr).toBe(0.125);
    let ran = 0;
    optimizer.step(() => ++ran);
    expect(ran).toBe(1);
  });
});

describe("setupDataloaders", () => {
  it("moves batches, tells the sampler the epoch, and keeps what else the loader has", () => {
    const fabric = bf16();
    const loader = {
      length: 2,
      epochs: [] as number[],
      sampler: {
        setEpoch: (epoch: number): void => {
          loader.epochs.push(epoch);
        },
      },
      *[Symbol.iterator](): Generator<{ x: mp.Tensor; text: string }> {
        yield { x: mp.ones([1]), text: "a" };
        yield { x: mp.zeros([1]), text: "b" };
      },
    };
    const wrapped = fabric.setupDataloaders(loader);
    expect(wrapped.length).toBe(2);
    for (let epoch = 0; epoch < 2; epoch++) {
      const batches = [...wrapped];
      expect(batches.map(({ text }) => text)).toEqual(["a", "b"]);
      expect(batches[0]!.x.device).toBe(fabric.device);
    }
    expect(loader.epochs).toEqual([0, 1]);
    expect(() => fabric.setupDataloaders(wrapped)).toThrow(/set up already/);
  });

  it("takes several, asynchronous ones, and options", async () => {
    const fabric = bf16();
    async function* source(): AsyncGenerator<number> {
      await Promise.resolve();
      yield 1;
      yield 2;
    }
    const [first, second] = fabric.setupDataloaders(source(), [3, 4], { moveToDevice: false });
    const got: number[] = [];
    for await (const item of first) got.push(item);
    expect([...got, ...second]).toEqual([1, 2, 3, 4]);
  });

  it("refuses what cannot be iterated over", () => {
    expect(() => bf16().setupDataloaders({} as Iterable<unknown>)).toThrow(mp.ArgumentError);
    expect(() => bf16().setupDataloaders(3 as unknown as Iterable<unknown>)).toThrow(
      mp.ArgumentError,
    );
  });
});

describe("one process", () => {
  const fabric = bf16();

  it("gives back what is exchanged with none", async () => {
    const x = mp.ones([2]);
    await fabric.barrier();
    expect(fabric.broadcast(x)).toBe(x);
    expect(fabric.allGather({ x }).x).toBe(x);
    expect(fabric.allReduce(x)).toBe(x);
    expect(fabric.rankZeroFirst(() => 3)).toBe(3);
    expect(fabric.toDevice([x])[0]).toBe(x);
    expect(fabric.launch((self, a: number) => [self, a], 4)).toEqual([fabric, 4]);
  });

  it("has nothing to synchronize", () => {
    const model = fabric.setup(makeNet());
    expect(fabric.noBackwardSync(model, () => 5)).toBe(5);
    expect(() => fabric.noBackwardSync(makeNet(), () => 5)).toThrow(mp.ArgumentError);
  });

  it("calls callbacks that have the hook", () => {
    const calls: unknown[] = [];
    const callbacks = [
      { onStep: (...args: unknown[]) => calls.push(args) },
      { onEnd: () => calls.push("end") },
    ];
    const own = new mp.Fabric({ accelerator: TEST_ACCELERATOR, callbacks });
    own.call("onStep", 1, "a");
    own.call("onEnd");
    own.call("onNothing");
    expect(calls).toEqual([[1, "a"], "end"]);
  });

  it("prints a line", () => {
    const written: string[] = [];
    const spy = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
      written.push(String(text));
      return true;
    });
    try {
      fabric.print("loss %d", 3, { a: 1 });
    } finally {
      spy.mockRestore();
    }
    expect(written).toEqual(["loss 3 { a: 1 }\n"]);
  });
});

describe("seedEverything", () => {
  const variable = "PL_GLOBAL_SEED";

  function withVariable<T>(value: string | undefined, fn: () => T): T {
    const before = process.env[variable];
    if (value === undefined) Reflect.deleteProperty(process.env, variable);
    else process.env[variable] = value;
    try {
      return fn();
    } finally {
      if (before === undefined) Reflect.deleteProperty(process.env, variable);
      else process.env[variable] = before;
    }
  }

  it("seeds, and says so in the environment", () => {
    withVariable(undefined, () => {
      expect(mp.seedEverything(42)).toBe(42);
      expect(process.env[variable]).toBe("42");
      const first = mp.rand([3]).toArray();
      new mp.Fabric({ accelerator: TEST_ACCELERATOR, seed: 42 });
      expect(mp.rand([3]).toArray()).toEqual(first);
    });
  });

  it("takes the environment's seed, else 0", () => {
    expect(withVariable("7", () => mp.seedEverything())).toBe(7);
    expect(withVariable(undefined, () => mp.seedEverything())).toBe(0);
    expect(withVariable("7", () => mp.seedEverything(8))).toBe(8);
  });

  it.each([-1, 2 ** 32, 1.5, NaN, "3"])("refuses %j", (seed) => {
    withVariable(undefined, () => {
      expect(() => mp.seedEverything(seed as number)).toThrow(mp.ArgumentError);
      expect(process.env[variable]).toBeUndefined();
    });
  });

  it("takes the bounds, and names a bad variable", () => {
    withVariable(undefined, () => {
      expect(mp.seedEverything(0)).toBe(0);
      expect(mp.seedEverything(2 ** 32 - 1)).toBe(2 ** 32 - 1);
    });
    expect(() => withVariable("abc", () => mp.seedEverything())).toThrow(/PL_GLOBAL_SEED.*"abc"/);
  });
});
