import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";
import { liveTensors } from "../helpers/memory.js";

/** An optimizer that only counts, as a user's own may be. */
class CountingOptimizer {
  steps = 0;
  readonly paramGroups: { params: mp.Tensor[] }[];

  constructor(...params: mp.Tensor[]) {
    this.paramGroups = [{ params }];
  }

  step(): void {
    this.steps++;
  }
}

function leaf(data: mp.NestedArray, dtype: mp.DType = "float32"): mp.Tensor {
  return mp.tensor(data, { dtype, requiresGrad: true });
}

function withGrad(values: number[], dtype: mp.DType = "float32"): mp.Tensor {
  const parameter = leaf(
    values.map(() => 0),
    dtype,
  );
  parameter.grad = mp.tensor(values, { dtype });
  return parameter;
}

/** A scaler that has its scale on the device. */
function started(options: mp.GradScalerOptions = {}): mp.GradScaler {
  const scaler = new mp.GradScaler(options);
  scaler.scale(mp.tensor(1));
  return scaler;
}

/** One iteration with the gradients that are there. */
function iterate(scaler: mp.GradScaler, ...optimizers: mp.ScalableOptimizer[]): mp.StepResult[] {
  const results = optimizers.map((optimizer) => scaler.step(optimizer));
  scaler.update();
  return results;
}

const finite = (): CountingOptimizer => new CountingOptimizer(withGrad([1, -2]));
const overflown = (): CountingOptimizer => new CountingOptimizer(withGrad([1, Infinity]));

describe("GradScaler options", () => {
  it("have torch's defaults", () => {
    const scaler = new mp.GradScaler();
    expect(scaler.isEnabled()).toBe(true);
    expect(scaler.getScale()).toBe(65536);
    expect(scaler.stateDict()).toEqual({
      scale: 65536,
      growthFactor: 2,
      backoffFactor: 0.5,
      growthInterval: 2000,
      growthTracker: 0,
    });
  });

  it("can be read and set later", () => {
    const scaler = new mp.GradScaler();
    scaler.setGrowthFactor(3);
    scaler.setBackoffFactor(0.25);
    scaler.setGrowthInterval(7);
    expect(scaler.getGrowthFactor()).toBe(3);
    expect(scaler.getBackoffFactor()).toBe(0.25);
    expect(scaler.getGrowthInterval()).toBe(7);
    expect(() => scaler.setGrowthFactor(1)).toThrow(mp.ArgumentError);
    expect(() => scaler.setBackoffFactor(1)).toThrow(mp.ArgumentError);
    expect(() => scaler.setGrowthInterval(0)).toThrow(mp.ArgumentError);
    expect(scaler.getGrowthFactor()).toBe(3);
  });

  it.each([
    [{ growthFactor: 1 }, "growthFactor"],
    [{ growthFactor: NaN }, "growthFactor"],
    [{ growthFactor: Infinity }, "growthFactor"],
    [{ backoffFactor: 1 }, "backoffFactor"],
    [{ backoffFactor: 0 }, "backoffFactor"],
    [{ growthInterval: 0 }, "growthInterval"],
    [{ growthInterval: 1.5 }, "growthInterval"],
    [{ growthInterval: 2 ** 31 }, "growthInterval"],
    [{ initScale: 0 }, "initScale"],
    [{ initScale: -1 }, "initScale"],
    [{ initScale: NaN }, "initScale"],
    [{ initScale: 1e39 }, "initScale"],
    [{ initScale: "2" }, "initScale"],
    [{ minScale: -1 }, "minScale"],
    [{ initScale: 2, minScale: 4 }, "minScale"],
    [{ enabled: 1 }, "enabled"],
    [{ onRepeatedSkips: { after: 0, action: () => undefined } }, "onRepeatedSkips.after"],
    [{ onRepeatedSkips: { after: 3 } }, "onRepeatedSkips.action"],
  ])("%j is an error that names %s", (options, name) => {
    const make = (): unknown => new mp.GradScaler(options as mp.GradScalerOptions);
    expect(make).toThrow(mp.ArgumentError);
    expect(make).toThrow(new RegExp(`GradScaler: ${name}`));
  });
});

it("GradScaler keeps its scale on a device that is there", () => {
  expect(new mp.GradScaler({ device: TEST_DEVICE }).scale(mp.tensor(1)).item()).toBe(65536);
  expect(() => new mp.GradScaler({ device: "tpu" as mp.Device })).toThrow(mp.DeviceError);
});

describe("GradScaler.scale", () => {
  it("multiplies by the scale; a float16 scalar becomes float32", () => {
    const scaler = new mp.GradScaler({ initScale: 4 });
    const scaled = scaler.scale(mp.tensor(70000 / 2, { dtype: "float16" }));
    expect(scaled.dtype).toBe("float32");
    expect(scaled.item()).toBe(4 * 35008);
    expect(scaler.scale(mp.tensor(3, { dtype: "float64" })).dtype).toBe("float64");
  });

  it("leaves a float16 tensor with dimensions float16", () => {
    const scaled = new mp.GradScaler().scale(mp.tensor([1, 2], { dtype: "float16" }));
    expect(scaled.dtype).toBe("float16");
    expect(scaled.toArray()).toEqual([Infinity, Infinity]);
  });

  it("goes into arrays and objects", () => {
    const scaler = new mp.GradScaler({ initScale: 8 });
    const [a, { b }] = scaler.scale([mp.tensor(1), { b: [mp.tensor(2)] }] as const);
    expect(a.item()).toBe(8);
    expect(b[0].item()).toBe(16);
  });

  it.each([[1], ["loss"], [null], [undefined], [[1]], [new Set()]])("refuses %j", (value) => {
    expect(() => new mp.GradScaler().scale(value)).toThrow(mp.ArgumentError);
  });

  it("is not cast by autocast, whatever the policy", () => {
    const scaler = new mp.GradScaler();
    const policy = { mul: "low" } as const;
    const scaled = mp.autocast({ device: TEST_DEVICE, dtype: "float16", policy }, () =>
      scaler.scale(mp.tensor(2)),
    );
    expect(scaled.item()).toBe(131072);
  });

  it("scales the gradients", () => {
    const w = leaf([1, 2]);
    new mp.GradScaler({ initScale: 16 }).scale(w.mul(3).sum()).backward();
    expect(w.grad!.toArray()).toEqual([48, 48]);
  });
});

describe("GradScaler.unscale", () => {
  it("divides the gradients by the scale, in place", () => {
    const scaler = started({ initScale: 1024 });
    const parameters = [
      withGrad([1024, -3]),
      withGrad([2048], "float64"),
      withGrad([512], "bfloat16"),
      leaf([1]),
    ];
    const grads = parameters.map(({ grad }) => grad);
    scaler.unscale(new CountingOptimizer(...parameters));
    expect(parameters.map(({ grad }) => grad)).toEqual(grads);
    expect(grads.map((grad) => grad?.toArray())).toEqual([
      [1, Math.fround(-3 / 1024)],
      [2],
      [0.5],
      undefined,
    ]);
  });

  it("takes gradients that are strided", () => {
    const scaler = started({ initScale: 2 });
    const parameter = leaf([
      [0, 0],
      [0, 0],
    ]);
    parameter.grad = mp
      .tensor([
        [2, 4],
        [6, 8],
      ])
      .transpose(0, 1);
    scaler.unscale(new CountingOptimizer(parameter));
    expect(parameter.grad.toArray()).toEqual([
      [1, 3],
      [2, 4],
    ]);
  });

  it("is an error the second time, and after step", () => {
    const scaler = started();
    const optimizer = finite();
    scaler.unscale(optimizer);
    expect(() => scaler.unscale(optimizer)).toThrow(mp.ScalerError);
    expect(() => scaler.unscale(optimizer)).toThrow(/unscale: already called/);
    scaler.step(optimizer);
    expect(() => scaler.unscale(optimizer)).toThrow(/after step/);
    scaler.update();
    scaler.unscale(optimizer);
  });

  it("is an error before anything was scaled", () => {
    expect(() => new mp.GradScaler().unscale(finite())).toThrow(mp.ScalerError);
    expect(() => new mp.GradScaler().unscale(finite())).toThrow(/scaler\.scale\(loss\)/);
  });

  it("names the parameters whose gradients are float16", () => {
    const scaler = started();
    const half = withGrad([1, 2], "float16");
    const own = new CountingOptimizer(withGrad([1]), half);
    expect(() => scaler.unscale(own)).toThrow(mp.ScalerError);
    expect(() => scaler.unscale(own)).toThrow(/parameter 1 \(float16 \[2\]\)/);
    expect(half.grad!.toArray()).toEqual([1, 2]);
    const ours = new mp.SGD([["head.weight", half]], { lr: 1 });
    expect(() => scaler.step(ours)).toThrow(/head\.weight \(float16 \[2\]\)/);
    expect(half.toArray()).toEqual([0, 0]);
    // It is the first thing that is looked at; nothing of the optimizer has changed.
    expect(scaler.stageOf(ours)).toBe("ready");
  });

  it("names a few of many", () => {
    const scaler = started();
    const many = Array.from({ length: 20 }, () => withGrad([1], "float16"));
    expect(() => scaler.unscale(new CountingOptimizer(...many))).toThrow(/and 12 more/);
  });
});

describe("GradScaler.step", () => {
  it("steps on finite gradients, and reports it", () => {
    const scaler = started({ initScale: 4 });
    const optimizer = finite();
    const [result] = iterate(scaler, optimizer);
    expect(result).toEqual({ skipped: false, foundInf: false, scale: 4 });
    expect(optimizer.steps).toBe(1);
  });

  it.each([Infinity, -Infinity, NaN])("leaves the step out for a gradient of %s", (bad) => {
    const scaler = started({ initScale: 4 });
    const optimizer = new CountingOptimizer(withGrad([1]), withGrad([0, bad]));
    const [result] = iterate(scaler, optimizer);
    expect(result).toEqual({ skipped: true, foundInf: true, scale: 4 });
    expect(optimizer.steps).toBe(0);
    expect(scaler.getScale()).toBe(2);
  });

  it("steps on unscaled gradients, also those that were clipped in between", () => {
    const scaler = new mp.GradScaler({ initScale: 1024 });
    const w = leaf([3, 4]);
    const optimizer = new mp.SGD([w], { lr: 1 });
    scaler.scale(w.mul(mp.tensor([3, 4])).sum()).backward();
    scaler.unscale(optimizer);
    expect(mp.clipGradNorm([w], 1).item()).toBe(5);
    scaler.step(optimizer);
    scaler.update();
    const clipped = [3 - 0.6, 4 - 0.8];
    (w.toArray() as number[]).forEach((x, i) => expect(x).toBeCloseTo(clipped[i]!, 5));
  });

  it("is the step of the optimizer without a scaler, bitwise", () => {
    const run = (scaled: boolean): unknown => {
      mp.manualSeed(3);
      const w = mp.randn([4, 5], { requiresGrad: true });
      const x = mp.randn([2, 5]);
      const optimizer = new mp.AdamW([w], { lr: 0.01 });
      const scaler = new mp.GradScaler({ initScale: 2 ** 10, enabled: scaled });
      for (let i = 0; i < 5; i++) {
        optimizer.zeroGrad();
        scaler.scale(mp.linear(x, w).pow(2).sum()).backward();
        expect(scaler.step(optimizer).skipped).toBe(false);
        scaler.update();
      }
      return w.toArray();
    };
    expect(run(true)).toEqual(run(false));
  });

  it("leaves weights, moments and step count as they are when it skips", () => {
    const scaler = started();
    const w = withGrad([1, 2]);
    const optimizer = new mp.AdamW([w]);
    iterate(scaler, optimizer);
    const before = [w.toArray(), optimizer.stateOf(w)!.step!.item()];
    w.grad!.copyFrom(mp.tensor([NaN, 1]));
    expect(iterate(scaler, optimizer)[0]!.skipped).toBe(true);
    expect([w.toArray(), optimizer.stateOf(w)!.step!.item()]).toEqual(before);
  });

  it("is an error the second time", () => {
    const scaler = started();
    const optimizer = finite();
    scaler.step(optimizer);
    expect(() => scaler.step(optimizer)).toThrow(mp.ScalerError);
    expect(() => scaler.step(optimizer)).toThrow(/step: already called/);
    expect(optimizer.steps).toBe(1);
  });

  it("is an error with a closure, and before anything was scaled", () => {
    expect(() => started().step(finite(), () => 1)).toThrow(/closures/);
    expect(() => new mp.GradScaler().step(finite())).toThrow(mp.ScalerError);
  });

  it("names the parameters where no gradient reached the optimizer", () => {
    const scaler = started();
    const own = new CountingOptimizer(leaf([1]), leaf([[1, 2]]));
    expect(() => scaler.step(own)).toThrow(mp.ScalerError);
    expect(() => scaler.step(own)).toThrow(
      /no gradient reached.*parameter 0 \(float32 \[1\]\), parameter 1 \(float32 \[1, 2\]\)/,
    );
    const ours = new mp.SGD([["encoder.bias", leaf([1])]], { lr: 1 });
    expect(() => scaler.step(ours)).toThrow(/encoder\.bias/);
  });

  it("asks the optimizer's own parameters() before its groups", () => {
    const scaler = started({ initScale: 2 });
    const w = withGrad([4]);
    const optimizer = { parameters: () => [w], step: () => undefined };
    expect(iterate(scaler, optimizer)[0]!.skipped).toBe(false);
    expect(w.grad!.toArray()).toEqual([2]);
  });

  it("takes float16 gradients where the optimizer keeps float32 masters", () => {
    const run = (dtype: mp.DType): number => {
      const w = leaf([1], dtype);
      const optimizer = new mp.AdamW([w], { lr: 1e-3, masterWeights: true });
      const scaler = new mp.GradScaler({ initScale: 1024 });
      for (let i = 0; i < 3; i++) {
        optimizer.zeroGrad();
        // 2^-26 is 0 in float16, 2^-16 is not.
        scaler
          .scale(
            w
              .to("float32")
              .mul(2 ** -26)
              .sum(),
          )
          .backward();
        expect(scaler.step(optimizer).skipped).toBe(false);
        scaler.update();
      }
      return (optimizer.stateOf(w)!.master ?? w).item();
    };
    expect(run("float16")).toBeCloseTo(run("float32"), 6);
    expect(run("float16")).toBeLessThan(1);
  });

  it("skips on float16 gradients of masters that overflowed", () => {
    const w = withGrad([Infinity], "float16");
    const optimizer = new mp.AdamW([w], { masterWeights: true });
    const scaler = started({ initScale: 8 });
    expect(iterate(scaler, optimizer)[0]!.skipped).toBe(true);
    expect(scaler.getScale()).toBe(4);
    expect(w.toArray()).toEqual([0]);
  });
});

describe("GradScaler.update", () => {
  /** The scale after each update, for iterations that overflow where `plan` has an x. */
  function trajectory(plan: string, options: mp.GradScalerOptions): number[] {
    const scaler = started(options);
    return [...plan].map((step) => {
      iterate(scaler, step === "x" ? overflown() : finite());
      return scaler.getScale();
    });
  }

  it("backs off at once and grows after an interval without overflow", () => {
    const options = { initScale: 16, growthInterval: 3 };
    expect(trajectory("...x..x....", options)).toEqual([16, 16, 32, 16, 16, 16, 8, 8, 8, 16, 16]);
  });

  it("has other factors and intervals", () => {
    const options = { initScale: 8, growthFactor: 4, backoffFactor: 0.25, growthInterval: 1 };
    expect(trajectory(".x.xx", options)).toEqual([32, 8, 32, 8, 2]);
  });

  it("falls below 1 as torch's does, and never to 0", () => {
    expect(trajectory("xxx", { initScale: 2 })).toEqual([1, 0.5, 0.25]);
    const last = trajectory("x".repeat(160), { initScale: 1 }).at(-1);
    expect(last).toBe(2 ** -126);
  });

  it("stops at minScale", () => {
    const options = { initScale: 8, minScale: 3, growthInterval: 1 };
    expect(trajectory("xxx..", options)).toEqual([4, 3, 3, 6, 12]);
  });

  it("does not grow beyond what float32 holds", () => {
    const largest = 2 ** 127;
    const options = { initScale: largest, growthInterval: 1 };
    expect(trajectory("..x", options)).toEqual([largest, largest, largest / 2]);
  });

  it("counts one overflow among several optimizers, and one update for all", () => {
    const scaler = started({ initScale: 8, growthInterval: 2 });
    const results = iterate(scaler, finite(), overflown());
    expect(results.map(({ skipped }) => skipped)).toEqual([false, true]);
    expect(scaler.getScale()).toBe(4);
    iterate(scaler, finite(), finite());
    expect(scaler.stateDict()).toMatchObject({ scale: 4, growthTracker: 1 });
    iterate(scaler, finite(), finite());
    expect(scaler.stateDict()).toMatchObject({ scale: 8, growthTracker: 0 });
  });

  it("takes a new scale, and leaves the tracker alone", () => {
    const scaler = started({ initScale: 8 });
    iterate(scaler, finite());
    scaler.update(128);
    expect(scaler.stateDict()).toMatchObject({ scale: 128, growthTracker: 1 });
    scaler.update(mp.tensor([64]));
    expect(scaler.getScale()).toBe(64);
    scaler.update(mp.tensor(32, { dtype: "float64" }));
    expect(scaler.getScale()).toBe(32);
  });

  it("refuses a new scale that is none", () => {
    const scaler = started();
    for (const bad of [0, -1, NaN, Infinity, "2", mp.tensor([1, 2]), leaf([1])]) {
      expect(() => scaler.update(bad as number), String(bad)).toThrow(mp.ArgumentError);
    }
    expect(scaler.getScale()).toBe(65536);
  });

  it("is an error when nothing was looked at", () => {
    expect(() => new mp.GradScaler().update()).toThrow(mp.ScalerError);
    const scaler = started();
    expect(() => scaler.update()).toThrow(mp.ScalerError);
    expect(() => scaler.update()).toThrow(/update: no optimizer/);
    // One without gradients does not count.
    scaler.unscale(new CountingOptimizer(leaf([1])));
    expect(() => scaler.update()).toThrow(mp.ScalerError);
  });

  it("drops all records, with a new scale too", () => {
    const scaler = started();
    const optimizer = finite();
    scaler.unscale(optimizer);
    expect(scaler.stageOf(optimizer)).toBe("unscaled");
    scaler.update(4);
    expect(scaler.stageOf(optimizer)).toBe("ready");
  });

  it("keeps what a step reported", () => {
    const scaler = started({ initScale: 8 });
    const [first] = iterate(scaler, overflown());
    const [second] = iterate(scaler, finite());
    expect(first).toEqual({ skipped: true, foundInf: true, scale: 8 });
    expect(second).toEqual({ skipped: false, foundInf: false, scale: 4 });
  });
});

describe("a disabled GradScaler", () => {
  it("does nothing, and its step is the optimizer's", () => {
    const scaler = new mp.GradScaler({ enabled: false });
    const loss = mp.tensor(1);
    const optimizer = overflown();
    expect(scaler.isEnabled()).toBe(false);
    expect(scaler.scale(loss)).toBe(loss);
    scaler.unscale(optimizer);
    scaler.unscale(optimizer);
    expect(scaler.step(optimizer)).toEqual({ skipped: false, foundInf: false, scale: 1 });
    expect(scaler.step(optimizer).skipped).toBe(false);
    expect(optimizer.steps).toBe(2);
    scaler.update();
    expect(scaler.getScale()).toBe(1);
    expect(scaler.stateDict()).toEqual({});
    scaler.loadStateDict({});
    scaler.loadStateDict({ scale: "nonsense" });
  });

  it("passes a closure on", () => {
    const w = leaf([1]);
    const optimizer = new mp.SGD([w], { lr: 1 });
    let ran = 0;
    new mp.GradScaler({ enabled: false }).step(optimizer, () => ++ran);
    expect(ran).toBe(1);
  });
});

describe("state of a GradScaler", () => {
  it("continues where it was saved", () => {
    const plan = [finite, overflown, finite, finite, finite, overflown, finite];
    const options = { initScale: 16, growthInterval: 3 };
    const whole = started(options);
    const scales = plan.map((make) => (iterate(whole, make()), whole.getScale()));
    const first = started(options);
    for (const make of plan.slice(0, 4)) iterate(first, make());
    const state = JSON.parse(JSON.stringify(first.stateDict())) as mp.GradScalerState;
    for (const second of [new mp.GradScaler(), started()]) {
      second.loadStateDict(state);
      expect(second.stateDict()).toEqual(first.stateDict());
      second.scale(mp.tensor(1));
      const rest = plan.slice(4).map((make) => (iterate(second, make()), second.getScale()));
      expect(rest).toEqual(scales.slice(4));
    }
  });

  it("replaces what was found before it, and an update that was deferred", () => {
    const scaler = started({ initScale: 16 });
    const optimizer = overflown();
    scaler.step(optimizer);
    scaler.deferUpdate();
    scaler.loadStateDict(new mp.GradScaler({ initScale: 64 }).stateDict());
    expect(scaler.getScale()).toBe(64);
    expect(scaler.isUpdateDeferred).toBe(false);
    expect(scaler.stageOf(optimizer)).toBe("ready");
  });

  it("may come from torch", () => {
    const scaler = new mp.GradScaler();
    scaler.loadStateDict({
      scale: 512,
      growth_factor: 3,
      backoff_factor: 0.25,
      growth_interval: 10,
      _growth_tracker: 4,
    });
    expect(scaler.stateDict()).toEqual({
      scale: 512,
      growthFactor: 3,
      backoffFactor: 0.25,
      growthInterval: 10,
      growthTracker: 4,
    });
  });

  const good = new mp.GradScaler().stateDict();
  it.each([
    [{}, "empty"],
    [{ ...good, scale: undefined }, "scale"],
    [{ ...good, scale: -1 }, "scale"],
    [{ ...good, scale: NaN }, "scale"],
    [{ ...good, growthFactor: 0.5 }, "growthFactor"],
    [{ ...good, backoffFactor: "0.5" }, "backoffFactor"],
    [{ ...good, growthInterval: 0 }, "growthInterval"],
    [{ ...good, growthTracker: -1 }, "growthTracker"],
    [null, "object"],
    ["state", "object"],
  ])("%j is an error that says why: %s", (state, why) => {
    const scaler = started({ initScale: 2 });
    const load = (): void => scaler.loadStateDict(state as mp.GradScalerState);
    expect(load).toThrow(mp.ScalerError);
    expect(load).toThrow(new RegExp(why));
    expect(scaler.getScale()).toBe(2);
  });
});

describe("repeated skips", () => {
  it("are counted", () => {
    const scaler = started();
    expect(new mp.GradScaler().consecutiveSkips).toBe(0);
    const counts = [overflown, overflown, finite, overflown].map((make) => {
      iterate(scaler, make());
      return scaler.consecutiveSkips;
    });
    expect(counts).toEqual([1, 2, 0, 1]);
  });

  /** Iterations (counted from 1) in which an alarm after three skips was raised. */
  function alarms(plan: string): { at: number; skips: mp.RepeatedSkips }[] {
    const raised: { at: number; skips: mp.RepeatedSkips }[] = [];
    let at = 0;
    const scaler = started({
      initScale: 1024,
      onRepeatedSkips: { after: 3, action: (skips) => raised.push({ at, skips }) },
    });
    for (const step of plan) {
      at++;
      iterate(scaler, step === "x" ? overflown() : finite());
    }
    return raised;
  }

  it.each([
    ["xx.xx.xx", []],
    ["xxx", [3]],
    [".xxx", [4]],
    ["..xxx", [5]],
    ["x.xxx", [5]],
    ["xx.xxx.xxx", [6, 10]],
    ["xxxxxxx", [3, 6]],
    ["xxxx.xxx", [3, 8]],
    [".....xxx", [8]],
  ])("%s raise an alarm after three in a row, at %j", (plan, at) => {
    expect(alarms(plan).map((alarm) => alarm.at)).toEqual(at);
  });

  it("tell the alarm the scale, and which parameters it was", () => {
    const [alarm] = alarms("xxx");
    expect(alarm!.skips).toEqual({
      consecutiveSkips: 3,
      scale: 256,
      parameters: ["parameter 0 (float32 [2])"],
    });
    let named: readonly string[] = [];
    const scaler = started({
      onRepeatedSkips: { after: 1, action: ({ parameters }) => (named = parameters) },
    });
    const optimizer = new mp.SGD(
      [
        ["good", withGrad([1])],
        ["bad", withGrad([NaN])],
      ],
      { lr: 1 },
    );
    iterate(scaler, optimizer);
    expect(named).toEqual(["bad (float32 [1])"]);
  });

  it("raise one alarm for several optimizers", () => {
    let raised = 0;
    const scaler = started({ onRepeatedSkips: { after: 1, action: () => raised++ } });
    iterate(scaler, overflown(), overflown());
    expect(raised).toBe(1);
    iterate(scaler, finite(), overflown());
    expect(raised).toBe(2);
  });

  it("may end the training: the alarm's error comes out of the step", () => {
    const scaler = started({
      onRepeatedSkips: {
        after: 1,
        action: () => {
          throw new Error("diverged");
        },
      },
    });
    expect(() => scaler.step(overflown())).toThrow("diverged");
  });
});

describe("a deferred update", () => {
  it("is seen by whoever reads, and made later", () => {
    const scaler = started({ initScale: 8, growthInterval: 2 });
    const [a, b] = [overflown(), finite()];
    scaler.step(a);
    scaler.deferUpdate();
    expect(scaler.getScale()).toBe(4);
    expect(scaler.consecutiveSkips).toBe(1);
    // The second optimizer's gradients have the scale of the iteration.
    scaler.step(b);
    expect(b.paramGroups[0]!.params[0]!.grad!.toArray()).toEqual([1 / 8, -2 / 8]);
    scaler.updateDeferred();
    expect(scaler.isUpdateDeferred).toBe(false);
    expect(scaler.getScale()).toBe(4);
    expect(scaler.stageOf(a)).toBe("ready");
  });

  it("brings held gradients to the new scale, and waits for those that are unscaled", () => {
    const scaler = started({ initScale: 8 });
    const [a, held, unscaled] = [overflown(), finite(), finite()];
    scaler.unscale(unscaled);
    scaler.step(a);
    scaler.deferUpdate();
    scaler.updateDeferred([held]);
    expect(held.paramGroups[0]!.params[0]!.grad!.toArray()).toEqual([0.5, -1]);
    expect(scaler.getScale()).toBe(4);
    expect(scaler.stageOf(unscaled)).toBe("unscaled");
    scaler.step(unscaled);
    expect(unscaled.steps).toBe(1);
    scaler.update();
    expect(scaler.stateDict()).toMatchObject({ scale: 4, growthTracker: 1 });
  });
});

describe("tensors of a GradScaler", () => {
  it("survive tidy, and do not add up", async () => {
    const scaler = new mp.GradScaler({ initScale: 4 });
    const w = leaf([1, 2]);
    const optimizer = new mp.SGD([w], { lr: 0.1 });
    const step = (): void => {
      mp.tidy(() => {
        optimizer.zeroGrad();
        scaler.scale(w.mul(w).sum()).backward();
        scaler.unscale(optimizer);
        scaler.step(optimizer);
        scaler.update();
      });
    };
    step();
    step();
    // Results that nobody reads wait on a GPU until the collector takes them.
    const count = ON_CUDA ? liveTensors : () => mp.memory.tensorCount();
    const before = await count();
    for (let i = 0; i < 50; i++) step();
    expect(await count()).toBeLessThanOrEqual(before);
    expect(scaler.getScale()).toBe(4);
  });
});
