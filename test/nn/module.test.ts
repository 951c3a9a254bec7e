import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_DEVICE } from "../helpers/devices.js";
import { elements } from "../helpers/golden.js";
import { liveTensors } from "../helpers/memory.js";

const { nn } = mp;

class Block extends nn.Module {
  readonly second = new nn.Linear(2, 2);
  readonly scale = new nn.Parameter(mp.tensor([1, 2]));
  readonly first = new nn.Linear(2, 2, { bias: false });
  readonly counts = this.registerBuffer("counts", mp.zeros([2], { dtype: "int64" }));
  readonly scratch = this.registerBuffer("scratch", mp.zeros([1]), { persistent: false });
  readonly absent = this.registerBuffer("absent", null);
  readonly plain = mp.zeros([3]);
  readonly listed = [new nn.LayerNorm(2), new nn.Parameter(mp.zeros([1]))];
  readonly #hidden = new nn.Linear(1, 1);

  override forward(x: mp.Tensor): mp.Tensor {
    return this.second.forward(this.first.forward(x)).mul(this.scale);
  }

  hiddenIsThere(): boolean {
    return this.#hidden instanceof nn.Linear;
  }
}

const KEYS = [
  "scale",
  "listed.1",
  "counts",
  "second.weight",
  "second.bias",
  "first.weight",
  "listed.0.weight",
  "listed.0.bias",
];

const names = (pairs: readonly (readonly [string, unknown])[]): string[] =>
  pairs.map(([name]) => name);

function snapshot(module: mp.nn.Module): Record<string, number[]> {
  const state = Object.entries(module.stateDict());
  return Object.fromEntries(state.map(([key, tensor]) => [key, elements(tensor)]));
}

describe("what a module is made of", () => {
  it("is found among its properties, in their order and under their names", () => {
    const block = new Block();
    expect(block.hiddenIsThere()).toBe(true);
    expect(names(block.namedParameters())).toEqual(KEYS.filter((key) => key !== "counts"));
    expect(block.parameters()).toEqual(block.namedParameters().map(([, p]) => p));
    expect(names(block.namedBuffers())).toEqual(["counts", "scratch"]);
    expect(block.buffers()).toEqual([block.counts, block.scratch]);
    expect(names(block.namedChildren())).toEqual(["second", "first", "listed.0"]);
    expect(block.children()).toEqual([block.second, block.first, block.listed[0]]);
    expect(names(block.namedModules())).toEqual(["", "second", "first", "listed.0"]);
    expect(block.modules()[0]).toBe(block);
    expect(Object.keys(block.stateDict())).toEqual(KEYS);
    expect(block.absent).toBeNull();
  });

  it("can be listed without children and with a prefix", () => {
    const block = new Block();
    expect(names(block.namedParameters({ recurse: false }))).toEqual(["scale", "listed.1"]);
    expect(names(block.namedBuffers({ recurse: false, prefix: "a.b" }))).toEqual([
      "a.b.counts",
      "a.b.scratch",
    ]);
    expect(names(block.namedParameters({ prefix: "m" }))[2]).toBe("m.second.weight");
    expect(names(block.namedModules("m"))).toEqual(["m", "m.second", "m.first", "m.listed.0"]);
  });

  it("may be shared: listed once, saved under each name", () => {
    class Tied extends nn.Module {
      readonly encoder = new nn.Embedding(4, 3);
      readonly decoder = new nn.Linear(3, 4, { bias: false });
      readonly again = this.encoder;
      constructor() {
        super();
        Object.assign(this.decoder, { weight: this.encoder.weight });
      }
    }
    const tied = new Tied();
    expect(names(tied.namedParameters())).toEqual(["encoder.weight"]);
    expect(names(tied.namedModules())).toEqual(["", "encoder", "decoder"]);
    expect(Object.keys(tied.stateDict())).toEqual([
      "encoder.weight",
      "decoder.weight",
      "again.weight",
    ]);
  });

  it("may refer to itself", () => {
    class Loop extends nn.Module {
      readonly weight = new nn.Parameter(mp.zeros([1]));
      readonly self: mp.nn.Module = this;
    }
    const loop = new Loop();
    expect(names(loop.namedParameters())).toEqual(["weight"]);
    expect(Object.keys(loop.stateDict())).toEqual(["weight"]);
  });

  it("may change later", () => {
    const block = new Block();
    const added = new nn.Parameter(mp.ones([1]));
    Object.assign(block, { added });
    expect(block.parameters()).toContain(added);
    expect(Object.keys(block.stateDict())).toContain("added");
  });
});

describe("Parameter", () => {
  it("is a leaf tensor that requires gradients and shares memory", () => {
    const data = mp.tensor([1, 2]);
    const parameter = new nn.Parameter(data);
    expect(parameter).toBeInstanceOf(mp.Tensor);
    expect([parameter.requiresGrad, parameter.isLeaf]).toEqual([true, true]);
    mp.noGrad(() => parameter.fill(5));
    expect(elements(data)).toEqual([5, 5]);
    data.dispose();
    expect(elements(parameter)).toEqual([5, 5]);
    expect(elements(parameter.mul(2))).toEqual([10, 10]);
  });

  it("is cut off from the graph of what it is made from", () => {
    const x = mp.tensor([1], { requiresGrad: true });
    const parameter = new nn.Parameter(x.mul(2));
    expect(parameter.isLeaf).toBe(true);
    parameter.mul(3).sum().backward();
    expect(x.grad).toBeNull();
    expect(elements(parameter.grad!)).toEqual([3]);
  });

  it("outlives tidy, as do buffers", () => {
    const block = mp.tidy(() => new Block());
    expect(elements(block.scale)).toEqual([1, 2]);
    expect(elements(block.counts)).toEqual([0, 0]);
    expect(elements(block.second.bias!)).toHaveLength(2);
  });

  it("takes no gradients on demand, and not of integers", () => {
    const ids = mp.zeros([2], { dtype: "int64" });
    expect(new nn.Parameter(ids, { requiresGrad: false }).requiresGrad).toBe(false);
    expect(() => new nn.Parameter(ids)).toThrow(mp.GradError);
    expect(() => new nn.Parameter([1] as unknown as mp.Tensor)).toThrow(mp.ArgumentError);
    ids.dispose();
    expect(() => new nn.Parameter(ids, { requiresGrad: false })).toThrow(mp.DisposedError);
  });
});

describe("stateDict and loadStateDict", () => {
  it("carry all over, cast to the module's dtypes", () => {
    const [from, to] = [new Block(), new Block()];
    mp.noGrad(() => from.counts.fill(7));
    from.to("float64");
    const { scale } = to;
    expect(to.loadStateDict(from.stateDict())).toEqual({ missingKeys: [], unexpectedKeys: [] });
    expect(snapshot(to)).toEqual(snapshot(from.to("float32")));
    expect(to.scale).toBe(scale);
    expect(scale.dtype).toBe("float32");
  });

  it("share memory with the module, without history", () => {
    const block = new Block();
    const state = block.stateDict();
    expect(state.scale!.requiresGrad).toBe(false);
    mp.noGrad(() => block.scale.fill(9));
    expect(elements(state.scale!)).toEqual([9, 9]);
    state.scale!.dispose();
    expect(elements(block.scale)).toEqual([9, 9]);
    block.loadStateDict(block.stateDict());
    expect(elements(block.scale)).toEqual([9, 9]);
  });

  it("name missing and unexpected keys, and load nothing then", () => {
    const block = new Block();
    const before = snapshot(block);
    const others = Object.entries(new Block().stateDict());
    const rest = others.filter(([key]) => key !== "scale" && key !== "first.weight");
    const state = { ...Object.fromEntries(rest), extra: mp.zeros([1]), scratch: mp.ones([1]) };
    const load = (): unknown => block.loadStateDict(state);
    expect(load).toThrow(mp.CheckpointError);
    expect(load).toThrow(
      /does not fit Block, nothing was loaded — missing keys: scale, first.weight; unexpected keys: extra, scratch$/,
    );
    expect(snapshot(block)).toEqual(before);
  });

  it("report them where strict is off, and load the rest", () => {
    const block = new Block();
    const other = new Block();
    const result = block.loadStateDict(
      { "second.bias": other.second.bias!, extra: mp.zeros([1]) },
      { strict: false },
    );
    expect(result.missingKeys).toEqual(KEYS.filter((key) => key !== "second.bias"));
    expect(result.unexpectedKeys).toEqual(["extra"]);
    expect(elements(block.second.bias!)).toEqual(elements(other.second.bias!));
  });

  it.each<[string, unknown, RegExp]>([
    ["another shape", mp.zeros([3]), /scale: expected shape \[2\], got \[3\]/],
    ["a shape that would broadcast", mp.zeros([1]), /scale: expected shape \[2\], got \[1\]/],
    ["integers for floats", mp.zeros([2], { dtype: "int8" }), /scale: expected float32, got int8/],
    ["what is no tensor", [1, 2], /scale: expected a tensor, got array of 2/],
    ["nothing", undefined, /scale: expected a tensor, got undefined/],
  ])("refuse %s even if not strict, and load nothing then", (_, value, message) => {
    const block = new Block();
    const before = snapshot(block);
    const state = { "second.bias": mp.ones([2]), scale: value as mp.Tensor };
    const load = (): unknown => block.loadStateDict(state, { strict: false });
    expect(load).toThrow(mp.CheckpointError);
    expect(load).toThrow(message);
    expect(snapshot(block)).toEqual(before);
  });

  it("refuse a disposed tensor, and load nothing then", () => {
    const block = new Block();
    const before = snapshot(block);
    const gone = mp.ones([2]);
    gone.dispose();
    const state = { "second.bias": mp.ones([2]), scale: gone };
    expect(() => block.loadStateDict(state, { strict: false })).toThrow(mp.DisposedError);
    expect(snapshot(block)).toEqual(before);
  });

  it("list a few of many faults", () => {
    const many = new nn.ModuleList(Array.from({ length: 9 }, () => new nn.Linear(1, 1)));
    expect(() => many.loadStateDict({})).toThrow(/missing keys: 0.weight, .* and 8 more/);
    const wrong = Object.keys(many.stateDict()).map((key) => [key, mp.zeros([5])] as const);
    expect(() => many.loadStateDict(Object.fromEntries(wrong))).toThrow(/; and 8 more$/);
  });

  it("are an error for backward where a saved tensor changed", () => {
    const layer = new nn.Linear(2, 2);
    const x = mp.ones([1, 2], { requiresGrad: true });
    const loss = layer.forward(x).sum();
    layer.loadStateDict(new nn.Linear(2, 2).stateDict());
    expect(() => loss.backward()).toThrow(mp.GradError);
  });
});

describe("train and eval", () => {
  it("reach every module below", () => {
    const model = new nn.Sequential(new nn.Dropout(0.5), new nn.Sequential(new nn.Dropout(0.5)));
    const modes = (): boolean[] => model.modules().map(({ training }) => training);
    expect(modes()).toEqual([true, true, true, true]);
    expect(model.eval()).toBe(model);
    expect(modes()).toEqual([false, false, false, false]);
    const x = mp.ones([8]);
    expect(model.forward(x)).toBe(x);
    expect(model.train()).toBe(model);
    expect(modes()).toEqual([true, true, true, true]);
  });
});

describe("to", () => {
  it("converts floating parameters, buffers and gradients in place", () => {
    const block = new Block();
    const { scale } = block;
    block
      .forward(mp.ones([1, 2]))
      .sum()
      .backward();
    const grad = scale.grad!;
    expect(block.to("bfloat16")).toBe(block);
    expect(block.parameters().map(({ dtype }) => dtype)).toEqual(new Array(7).fill("bfloat16"));
    expect([block.counts.dtype, block.scratch.dtype]).toEqual(["int64", "bfloat16"]);
    expect(block.scale).toBe(scale);
    expect(scale.requiresGrad).toBe(true);
    expect(scale.grad).toBe(grad);
    expect(grad.dtype).toBe("bfloat16");
    block.to({ dtype: "float64", device: TEST_DEVICE }).to(TEST_DEVICE);
    block.zeroGrad();
    block
      .forward(mp.ones([1, 2], { dtype: "float64" }))
      .sum()
      .backward();
    expect(scale.grad!.dtype).toBe("float64");
  });

  it("frees what it replaces, and nothing inside a tidy", async () => {
    const model = new nn.Sequential(new nn.Linear(2, 3), new nn.BatchNorm1d(3));
    const before = await liveTensors();
    mp.tidy(() => {
      model.to("float64");
    });
    expect(mp.memory.tensorCount()).toBe(before);
    expect(elements(model.buffers()[1]!)).toEqual([1, 1, 1]);
  });

  it("keeps tensors that optimizers hold", () => {
    const layer = new nn.Linear(2, 1, { bias: false });
    const optimizer = new mp.SGD(layer.parameters(), { lr: 0.5 });
    layer.to("float64");
    const before = elements(layer.weight);
    layer
      .forward(mp.ones([1, 2], { dtype: "float64" }))
      .sum()
      .backward();
    optimizer.step();
    expect(elements(layer.weight)).toEqual(before.map((value) => value - 0.5));
  });

  it("refuses what is no floating dtype or no device", () => {
    const block = new Block();
    expect(() => block.to("int8")).toThrow(
      /expected a floating-point dtype for a module, got int8/,
    );
    expect(() => block.to("float128" as mp.DType)).toThrow(mp.DeviceError);
    expect(() => block.to({ dtype: "float128" as mp.DType })).toThrow(mp.DTypeError);
    expect(() => block.to("tpu" as mp.Device)).toThrow(mp.DeviceError);
  });
});

describe("zeroGrad, requiresGrad, apply, dispose", () => {
  it("drops gradients and their memory, or zeroes them", () => {
    const layer = new nn.Linear(2, 2);
    const run = (): void =>
      layer
        .forward(mp.ones([1, 2]))
        .sum()
        .backward();
    run();
    const { grad } = layer.weight;
    layer.zeroGrad({ setToNone: false });
    expect(layer.weight.grad).toBe(grad);
    expect(elements(grad!)).toEqual([0, 0, 0, 0]);
    layer.zeroGrad();
    expect(layer.weight.grad).toBeNull();
    expect(grad!.isDisposed).toBe(true);
    layer.zeroGrad();
    run();
    expect(elements(layer.bias!.grad!)).toEqual([1, 1]);
  });

  it("freezes and thaws", () => {
    const model = new nn.Sequential(new nn.Linear(2, 2), new nn.Linear(2, 2));
    expect(model.at(0)!.requiresGrad(false)).toBe(model.at(0));
    model
      .forward(mp.ones([1, 2]))
      .sum()
      .backward();
    expect(model.parameters().map(({ grad }) => grad !== null)).toEqual([false, false, true, true]);
    model.requiresGrad();
    expect(model.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true);
  });

  it("applies a function to children first", () => {
    const model = new nn.Sequential(new nn.ReLU(), new nn.Sequential(new nn.Tanh()));
    const order: string[] = [];
    expect(model.apply((module) => order.push(module.constructor.name))).toBe(model);
    expect(order).toEqual(["ReLU", "Tanh", "Sequential", "Sequential"]);
  });

  it("frees all of a model", async () => {
    const before = await liveTensors();
    {
      using model = new nn.Sequential(new nn.Linear(2, 3), new nn.BatchNorm1d(3));
      mp.tidy(() => {
        model
          .forward(mp.ones([2, 2]))
          .sum()
          .backward();
      });
      expect(mp.memory.tensorCount()).toBeGreaterThan(before);
    }
    expect(mp.memory.tensorCount()).toBe(before);
  });

  it("says so where forward is missing", () => {
    class Empty extends nn.Module {}
    expect(() => new Empty().forward()).toThrow(/forward: Empty does not define it/);
  });
});
