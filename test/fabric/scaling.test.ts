import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR } from "../helpers/devices.js";
import { batch, makeNet, weightsOf, type Net } from "./models.js";

function mixed(scaler: mp.GradScalerOptions = {}): mp.Fabric {
  return new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision: "16-mixed", scaler });
}

function leaf(data: mp.NestedArray): mp.Tensor {
  return mp.tensor(data, { requiresGrad: true });
}

/** The loss of step `i`. */
function lossOf(model: Net, i: number): mp.Tensor {
  const { x, labels } = batch(i);
  return mp.crossEntropy(model.forward(x), labels);
}

describe("16-mixed", () => {
  it("trains with a scale as without one, where nothing under- or overflows", () => {
    const run = (scaler: mp.GradScaler): unknown[] => {
      const fabric = new mp.Fabric({
        accelerator: TEST_ACCELERATOR,
        precision: "16-mixed",
        scaler,
      });
      const net = makeNet();
      const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters(), { lr: 0.01 }));
      for (let i = 0; i < 5; i++) {
        optimizer.zeroGrad();
        fabric.backward(lossOf(model, i));
        optimizer.step();
      }
      return weightsOf(net).flat(2);
    };
    const scaled = run(new mp.GradScaler({ initScale: 2 ** 8 })) as number[];
    const plain = run(new mp.GradScaler({ enabled: false })) as number[];
    scaled.forEach((x, i) => expect(Math.abs(x - plain[i]!)).toBeLessThan(0.02));
  });

  it("keeps gradients that underflow without a scale", () => {
    const gradOf = (scaler: mp.GradScaler): number => {
      const w = leaf([[1]]);
      const fabric = new mp.Fabric({
        accelerator: TEST_ACCELERATOR,
        precision: "16-mixed",
        scaler,
      });
      const optimizer = fabric.setupOptimizers(new mp.SGD([w], { lr: 0 }));
      const out = fabric.autocast(() => mp.linear(mp.tensor([[1]]), w));
      fabric.backward(
        out
          .to("float32")
          .mul(2 ** -30)
          .sum(),
      );
      optimizer.step();
      return w.grad!.item();
    };
    expect(gradOf(new mp.GradScaler({ enabled: false }))).toBe(0);
    expect(gradOf(new mp.GradScaler({ initScale: 2 ** 16 }))).toBe(2 ** -30);
  });

  it("skips the first steps, whose scale overflows, and finds one that does not", () => {
    const fabric = mixed({ initScale: 2 ** 24 });
    const net = makeNet();
    const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters(), { lr: 0.01 }));
    const before = weightsOf(net);
    const scales: number[] = [];
    const skipped: boolean[] = [];
    for (let i = 0; i < 12; i++) {
      optimizer.zeroGrad();
      fabric.backward(lossOf(model, i));
      const result = optimizer.step();
      scales.push(result.scale);
      skipped.push(result.skipped);
      // What is read after a step is what the next one has.
      expect(fabric.scaler!.getScale()).toBe(result.skipped ? result.scale / 2 : result.scale);
    }
    expect(skipped[0]).toBe(true);
    expect(skipped.at(-1)).toBe(false);
    expect(scales[1]).toBe(2 ** 23);
    expect(weightsOf(net)).not.toEqual(before);
    expect(
      weightsOf(net)
        .flat(2)
        .every((x) => Number.isFinite(x)),
    ).toBe(true);
  });

  it("moves a schedule on for steps that were made", () => {
    const w = leaf([1]);
    const fabric = mixed({ initScale: 4 });
    const optimizer = fabric.setupOptimizers(new mp.SGD([w], { lr: 1 }));
    const schedule = mp.lrScheduler.linear(optimizer, { warmupSteps: 0, totalSteps: 4 });
    for (const factor of [1, Infinity, 1, NaN]) {
      optimizer.zeroGrad();
      fabric.backward(w.mul(factor).sum());
      schedule.step(optimizer.step());
    }
    expect(schedule.getLastLr()).toEqual([0.5]);
  });

  it("accumulates gradients over several backwards, with one scale", () => {
    const w = leaf([1, 2]);
    const fabric = mixed({ initScale: 8, growthInterval: 1 });
    const optimizer = fabric.setupOptimizers(new mp.SGD([w], { lr: 1 }));
    for (let i = 0; i < 3; i++) {
      w.grad = null;
      for (let micro = 0; micro < 4; micro++) fabric.backward(w.sum().mul(0.25));
      optimizer.step();
      expect(w.grad!.toArray()).toEqual([1, 1]);
    }
    expect(w.toArray()).toEqual([-2, -1]);
    expect(fabric.scaler!.getScale()).toBe(64);
  });
});

describe("clipping with a scaler", () => {
  const clip = { maxNorm: 0.05 };

  /** Weights after some steps with clipping, with the norms that were found. */
  function run(precision: "32-true" | "16-mixed", initScale = 1): { norms: number[]; w: number[] } {
    const fabric = new mp.Fabric({
      accelerator: TEST_ACCELERATOR,
      precision,
      scaler: precision === "16-mixed" ? { initScale } : undefined,
    });
    mp.manualSeed(4);
    const w = mp.randn([5, 4], { requiresGrad: true });
    // In float32 all the way, so that the two can be compared bitwise.
    const module = new mp.nn.Identity();
    const optimizer = new mp.AdamW([w], { lr: 0.1 });
    const [model, wrapped] = fabric.setup(module, optimizer);
    const norms: number[] = [];
    for (let i = 0; i < 4; i++) {
      wrapped.zeroGrad();
      fabric.backward(mp.linear(batch(i).x, w).pow(2).mean());
      norms.push(fabric.clipGradients(model, wrapped, clip).item());
      expect(mp.clipGradNorm([w], 1).item()).toBeLessThanOrEqual(0.0501);
      wrapped.step();
    }
    return { norms, w: (w.toArray() as number[][]).flat() };
  }

  it("is clipping of the unscaled gradients, bitwise", () => {
    const plain = run("32-true");
    expect(run("16-mixed", 2 ** 12)).toEqual(plain);
    expect(plain.norms.every((norm) => norm > clip.maxNorm)).toBe(true);
  });

  it("clamps the unscaled gradients", () => {
    const w = leaf([1, 1, 1]);
    const fabric = mixed({ initScale: 1024 });
    const [model, optimizer] = fabric.setup(new mp.nn.Identity(), new mp.SGD([w], { lr: 1 }));
    fabric.backward(w.mul(mp.tensor([3, 0.25, -2])).sum());
    expect(fabric.clipGradients(model, optimizer, { clipVal: 0.5 })).toBeUndefined();
    optimizer.step();
    expect(w.grad!.toArray()).toEqual([0.5, 0.25, -0.5]);
    expect(w.toArray()).toEqual([0.5, 0.75, 1.5]);
  });

  it("may be done twice, and with the user's own optimizer", () => {
    const w = leaf([3, 4]);
    const fabric = mixed({ initScale: 64 });
    const own = new mp.SGD([w], { lr: 1 });
    const [model] = fabric.setup(new mp.nn.Identity(), own);
    fabric.backward(w.pow(2).sum());
    expect(fabric.clipGradients(model, own, { maxNorm: 5 }).item()).toBe(10);
    expect(fabric.clipGradients(model, own, { maxNorm: 1 }).item()).toBeCloseTo(5, 4);
    expect(fabric.optimizerStep(own).skipped).toBe(false);
  });

  it("leaves an overflow to the scaler, unless it is to be an error", () => {
    const w = leaf([1]);
    const fabric = mixed({ initScale: 16 });
    const [model, optimizer] = fabric.setup(new mp.nn.Identity(), new mp.SGD([w], { lr: 1 }));
    fabric.backward(w.mul(Infinity).sum());
    expect(fabric.clipGradients(model, optimizer, { maxNorm: 1 }).item()).toBe(Infinity);
    expect(optimizer.step().skipped).toBe(true);
    expect(w.toArray()).toEqual([1]);
    optimizer.zeroGrad();
    fabric.backward(w.mul(Infinity).sum());
    expect(() =>
      fabric.clipGradients(model, optimizer, { maxNorm: 1, errorIfNonfinite: true }),
    ).toThrow(mp.GradError);
  });

  it("is an error without a scaler, unless it is to pass", () => {
    const w = leaf([1]);
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    const [model, optimizer] = fabric.setup(new mp.nn.Identity(), new mp.SGD([w], { lr: 1 }));
    fabric.backward(w.mul(Infinity).sum());
    const options = { maxNorm: 1 };
    expect(() => fabric.clipGradients(model, optimizer, options)).toThrow(mp.GradError);
    const passing = { ...options, errorIfNonfinite: false };
    expect(fabric.clipGradients(model, optimizer, passing).item()).toBe(Infinity);
  });

  it("takes exactly one bound, a module and an optimizer", () => {
    const w = leaf([1]);
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    const [model, optimizer] = fabric.setup(new mp.nn.Identity(), new mp.SGD([w], { lr: 1 }));
    const clipWith = (options: mp.ClipOptions) => () =>
      fabric.clipGradients(model, optimizer, options);
    expect(clipWith({})).toThrow(/one of maxNorm and clipVal, got none/);
    expect(clipWith({ maxNorm: 1, clipVal: 1 })).toThrow(/got both/);
    expect(clipWith({ maxNorm: -1 })).toThrow(mp.ArgumentError);
    expect(clipWith({ clipVal: NaN })).toThrow(mp.ArgumentError);
    expect(() => fabric.clipGradients({} as mp.nn.Module, optimizer, { maxNorm: 1 })).toThrow(
      mp.ArgumentError,
    );
    expect(() => fabric.clipGradients(model, {} as mp.SGD, { maxNorm: 1 })).toThrow(
      mp.ArgumentError,
    );
  });
});

describe("a backward that bypasses the scaler", () => {
  it("is an error where it happens, for outputs of the model", () => {
    const fabric = mixed({ initScale: 4 });
    const net = makeNet();
    const [model] = fabric.setup(net, new mp.SGD(net.parameters()));
    const backward = (): void => lossOf(model, 0).backward();
    expect(backward).toThrow(mp.ScalerError);
    expect(backward).toThrow(/fabric\.backward\(loss\)/);
    expect(net.first.weight.grad).toBeNull();
  });

  it("is an error at the step, and at clipping, however it happened", () => {
    const w = leaf([1]);
    const fabric = mixed({ initScale: 4 });
    const [model, optimizer] = fabric.setup(new mp.nn.Identity(), new mp.SGD([w], { lr: 1 }));
    w.mul(2).sum().backward();
    for (const act of [
      () => optimizer.step(),
      () => fabric.clipGradients(model, optimizer, { maxNorm: 1 }),
    ]) {
      expect(act).toThrow(mp.ScalerError);
      expect(act).toThrow(/fabric\.backward/);
    }
    expect(w.toArray()).toEqual([1]);
  });

  it("is an error for a second step without a backward in between", () => {
    const w = leaf([1]);
    const fabric = mixed({ initScale: 4 });
    const optimizer = fabric.setupOptimizers(new mp.SGD([w], { lr: 1 }));
    fabric.backward(w.mul(2).sum());
    optimizer.step();
    expect(() => optimizer.step()).toThrow(/not called since its last step/);
    fabric.backward(w.mul(2).sum());
    optimizer.step();
  });

  it("is none where gradients are recorded, or nothing is scaled", () => {
    const fabric = mixed({ initScale: 4 });
    const net = makeNet();
    const model = fabric.setup(net);
    const x = batch(0).x;
    x.requiresGrad = true;
    const penalty = mp.grad(model.forward(x).sum(), x, { createGraph: true });
    fabric.backward(penalty.pow(2).sum());
    expect(net.first.weight.grad).not.toBeNull();
    const plain = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision: "bf16-mixed" });
    const other = makeNet();
    lossOf(plain.setup(other), 0).backward();
    expect(other.first.weight.grad).not.toBeNull();
  });

  it("names the parameters where no gradient reached the optimizer", () => {
    const fabric = mixed({ initScale: 4 });
    const net = makeNet();
    const [, optimizer] = fabric.setup(net, new mp.SGD(net.parameters(), { lr: 1 }));
    fabric.backward(leaf([1]).sum());
    expect(() => optimizer.step()).toThrow(mp.ScalerError);
    expect(() => optimizer.step()).toThrow(
      /no gradient reached.*first\.weight \(float32 \[8, 4\]\)/,
    );
  });

  it("is told apart from an optimizer that was never set up", () => {
    const fabric = mixed();
    const other = new mp.SGD([leaf([1])], { lr: 1 });
    expect(() => fabric.optimizerStep(other)).toThrow(/not set up with this Fabric/);
  });

  it("refuses a closure", () => {
    const w = leaf([1]);
    const fabric = mixed({ initScale: 4 });
    const optimizer = fabric.setupOptimizers(new mp.SGD([w], { lr: 1 }));
    fabric.backward(w.sum());
    expect(() => optimizer.step(() => 1)).toThrow(mp.ScalerError);
  });
});

describe("two optimizers with one scaler", () => {
  interface Pair {
    fabric: mp.Fabric;
    a: mp.Tensor;
    b: mp.Tensor;
    optA: mp.FabricOptimizer<mp.SGD>;
    optB: mp.FabricOptimizer<mp.SGD>;
  }

  function pair(options: mp.GradScalerOptions): Pair {
    const fabric = mixed(options);
    const [a, b] = [leaf([1]), leaf([1])];
    const [optA, optB] = fabric.setupOptimizers(
      new mp.SGD([a], { lr: 1 }),
      new mp.SGD([b], { lr: 1 }),
    );
    return { fabric, a, b, optA, optB };
  }

  it("make one update an iteration", () => {
    const { fabric, a, b, optA, optB } = pair({ initScale: 8, growthInterval: 2 });
    const seen: unknown[] = [];
    for (let i = 0; i < 4; i++) {
      optA.zeroGrad();
      optB.zeroGrad();
      fabric.backward(a.add(b.mul(2)).sum());
      const results = [optA.step(), optB.step()];
      seen.push([results.map(({ scale }) => scale), fabric.scaler!.getScale()]);
    }
    expect(seen).toEqual([
      [[8, 8], 8],
      [[8, 8], 16],
      [[16, 16], 16],
      [[16, 16], 32],
    ]);
    expect([a.toArray(), b.toArray()]).toEqual([[-3], [-7]]);
  });

  it("make one update in an iteration with a backward for each", () => {
    const { fabric, a, b, optA, optB } = pair({ initScale: 8, growthInterval: 2 });
    for (let i = 0; i < 2; i++) {
      optA.zeroGrad();
      fabric.backward(a.sum());
      optA.step();
      optB.zeroGrad();
      fabric.backward(b.mul(2).sum());
      optB.step();
    }
    expect([a.toArray(), b.toArray()]).toEqual([[-1], [-3]]);
    expect(fabric.scaler!.stateDict()).toMatchObject({ scale: 16, growthTracker: 0 });
  });

  it("back off together when one overflows", () => {
    const { fabric, a, b, optA, optB } = pair({ initScale: 8 });
    fabric.backward(a.sum().add(b.mul(Infinity).sum()));
    expect([optA.step().skipped, optB.step().skipped]).toEqual([false, true]);
    expect(fabric.scaler!.getScale()).toBe(4);
    expect([a.toArray(), b.toArray()]).toEqual([[0], [1]]);
  });

  it("are unscaled once each, clipped or not, in any order", () => {
    const { fabric, a, b, optA, optB } = pair({ initScale: 8, growthInterval: 1 });
    const model = fabric.setup(new mp.nn.Identity());
    for (let i = 0; i < 3; i++) {
      optA.zeroGrad();
      optB.zeroGrad();
      fabric.backward(a.mul(2).add(b.mul(3)).sum());
      expect(fabric.clipGradients(model, optB, { maxNorm: 100 }).item()).toBe(3);
      optA.step();
      optB.step();
    }
    expect([a.toArray(), b.toArray()]).toEqual([[-5], [-8]]);
    expect(fabric.scaler!.getScale()).toBe(64);
  });

  it("keep the right gradients when one steps more often than the other", () => {
    const { fabric, a, b, optA, optB } = pair({ initScale: 8, growthInterval: 1 });
    // b's gradients come from scales 8, 8, and, after the update, 16.
    for (let i = 0; i < 3; i++) {
      optA.zeroGrad();
      fabric.backward(a.add(b).sum());
      optA.step();
      expect(a.grad!.toArray()).toEqual([1]);
    }
    optB.step();
    expect(b.grad!.toArray()).toEqual([3]);
    expect(a.toArray()).toEqual([-2]);
    expect(b.toArray()).toEqual([-2]);
  });

  it("recover when only one is ever stepped and overflows", () => {
    const { fabric, a, optA } = pair({ initScale: 2 ** 127 });
    let skips = 0;
    for (let i = 0; i < 20; i++) {
      optA.zeroGrad();
      fabric.backward(a.mul(2 ** 10).sum());
      if (optA.step().skipped) skips++;
    }
    expect(skips).toBeGreaterThan(0);
    expect(skips).toBeLessThan(19);
    expect(a.item()).toBeLessThan(0);
  });

  it("end an iteration early with an explicit update", () => {
    const { fabric, a, b, optA, optB } = pair({ initScale: 8, growthInterval: 1 });
    fabric.backward(a.sum());
    optA.step();
    fabric.scaler!.update();
    expect(fabric.scaler!.getScale()).toBe(16);
    fabric.backward(b.sum());
    expect(optB.step().scale).toBe(16);
    expect(b.grad!.toArray()).toEqual([1]);
  });
});

describe("a training step", () => {
  it.each(["32-true", "16-mixed", "bf16-mixed", "bf16-true"] as const)(
    "of %s leaves no tensors behind in a tidy",
    (precision) => {
      const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision });
      const net = makeNet();
      const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters()));
      const step = (i: number): void => {
        mp.tidy(() => {
          optimizer.zeroGrad();
          fabric.backward(lossOf(model, i));
          fabric.clipGradients(model, optimizer, { maxNorm: 1, errorIfNonfinite: false });
          // Read: until then a result on a GPU holds on to what it tells.
          expect(typeof optimizer.step().skipped).toBe("boolean");
        });
      };
      for (let i = 0; i < 3; i++) step(i);
      const before = mp.memory.tensorCount();
      for (let i = 0; i < 30; i++) step(i);
      expect(mp.memory.tensorCount()).toBeLessThanOrEqual(before);
    },
  );

  it.each(["16-mixed", "bf16-mixed"] as const)("of %s is the same bitwise twice", (precision) => {
    const run = (): unknown => {
      const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision });
      const net = makeNet();
      const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters()));
      for (let i = 0; i < 10; i++) {
        optimizer.zeroGrad();
        fabric.backward(lossOf(model, i));
        optimizer.step();
      }
      return weightsOf(net);
    };
    expect(run()).toEqual(run());
  });
});
