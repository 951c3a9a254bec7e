import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR } from "../helpers/devices.js";
import { batch, makeNet, weightsOf, type Net } from "./models.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "mixprec-fabric-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

interface Run {
  fabric: mp.Fabric;
  net: Net;
  model: mp.FabricModule<Net>;
  optimizer: mp.FabricOptimizer<mp.AdamW>;
  scheduler: mp.LRScheduler;
}

function newRun(precision: mp.PrecisionName, seed: number): Run {
  const scaler = precision === "16-mixed" ? { initScale: 2 ** 24, growthInterval: 3 } : undefined;
  const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision, scaler });
  const net = makeNet(seed);
  const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters(), { lr: 0.01 }));
  const scheduler = mp.lrScheduler.linear(optimizer, { warmupSteps: 2, totalSteps: 30 });
  return { fabric, net, model, optimizer, scheduler };
}

function train({ fabric, model, optimizer, scheduler }: Run, from: number, to: number): number[] {
  const losses: number[] = [];
  for (let i = from; i < to; i++) {
    const { x, labels } = batch(i);
    const noisy = mp.dropout(x, { p: 0.2, training: true });
    const loss = mp.crossEntropy(model.forward(noisy), labels);
    optimizer.zeroGrad();
    fabric.backward(loss);
    fabric.clipGradients(model, optimizer, { maxNorm: 1, errorIfNonfinite: false });
    scheduler.step(optimizer.step());
    losses.push(loss.item());
  }
  return losses;
}

describe("Fabric.save and load", () => {
  it.each(["32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"] as const)(
    "%s continues bitwise where it was saved",
    async (precision) => {
      const file = path.join(folder, `${precision}.safetensors`);
      const whole = newRun(precision, 1);
      mp.manualSeed(5);
      train(whole, 0, 12);
      const { model, optimizer, scheduler } = whole;
      await whole.fabric.save(file, {
        model,
        optimizer,
        scheduler,
        random: mp.getRandomState(),
        step: 12,
      });
      const scale = whole.fabric.scaler?.getScale();
      const expected = train(whole, 12, 20);

      const again = newRun(precision, 2);
      const state = {
        model: again.model,
        optimizer: again.optimizer,
        scheduler: again.scheduler,
        random: mp.getRandomState(),
        step: 0,
      };
      expect(await again.fabric.load(file, state)).toEqual({});
      expect(state.step).toBe(12);
      expect(again.fabric.scaler?.getScale()).toBe(scale);
      expect(again.net.first.weight.dtype).toBe(whole.net.first.weight.dtype);
      mp.setRandomState(state.random);
      expect(train(again, 12, 20)).toEqual(expected);
      expect(weightsOf(again.net)).toEqual(weightsOf(whole.net));
      expect(again.fabric.scaler?.stateDict()).toEqual(whole.fabric.scaler?.stateDict());
    },
  );

  it("returns what has no place in the state, and all of it without one", async () => {
    const file = path.join(folder, "rest.safetensors");
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision: "16-mixed" });
    const net = makeNet();
    await fabric.save(file, { net, epoch: 3, notes: { a: [1, "b"] }, x: mp.tensor([1, 2]) });
    const state = { epoch: 0 };
    const rest = await fabric.load(file, state);
    expect(state.epoch).toBe(3);
    expect(Object.keys(rest).sort()).toEqual(["net", "notes", "x"]);
    expect(rest.notes).toEqual({ a: [1, "b"] });
    expect((rest.x as mp.Tensor).toArray()).toEqual([1, 2]);
    const all = await fabric.load(file);
    expect(Object.keys(all).sort()).toEqual([mp.FABRIC_STATE, "epoch", "net", "notes", "x"].sort());
    expect(all[mp.FABRIC_STATE]).toEqual({ scaler: fabric.scaler!.stateDict() });
  });

  it("is for any precision: a scaler's state is taken where there is a scaler", async () => {
    const file = path.join(folder, "other.safetensors");
    const make = (precision: mp.PrecisionName): mp.Fabric =>
      new mp.Fabric({ accelerator: TEST_ACCELERATOR, precision });
    const scaled = make("16-mixed");
    scaled.scaler!.loadStateDict({ ...scaled.scaler!.stateDict(), scale: 32 });
    const net = makeNet();
    await scaled.save(file, { net });
    await make("bf16-mixed").load(file, { net: makeNet(2) });
    const resumed = make("16-mixed");
    await resumed.load(file, { net: makeNet(2) });
    expect(resumed.scaler!.getScale()).toBe(32);
    await make("32-true").save(file, { net });
    const fresh = make("16-mixed");
    await fresh.load(file, { net: makeNet(2) });
    expect(fresh.scaler!.getScale()).toBe(65536);
  });

  it("names missing keys and loads nothing, unless it is not strict", async () => {
    const file = path.join(folder, "strict.safetensors");
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    const [saved, target] = [makeNet(1), makeNet(2)];
    await fabric.save(file, { net: saved });
    const before = weightsOf(target);
    const load = fabric.load(file, { net: target, optimizer: 1, epoch: 2 });
    await expect(load).rejects.toThrow(mp.CheckpointError);
    await expect(fabric.load(file, { net: target, epoch: 2 })).rejects.toThrow(
      /no epoch; it has net/,
    );
    expect(weightsOf(target)).toEqual(before);
    const state = { net: target, epoch: 2 };
    await fabric.load(file, state, { strict: false });
    expect(state.epoch).toBe(2);
    expect(weightsOf(target)).toEqual(weightsOf(saved));
  });

  it("saves what a filter lets through", async () => {
    const file = path.join(folder, "filter.safetensors");
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    const net = makeNet(1);
    const filter = { net: (name: string) => name.startsWith("second.") };
    await fabric.save(file, { net, epoch: 1 }, { filter });
    const all = await fabric.load(file);
    expect(Object.keys(all.net as object)).toEqual(["second.weight", "second.bias"]);
    const target = makeNet(2);
    const first = target.first.weight.toArray();
    await fabric.load(file, { net: target }, { strict: false });
    expect(target.first.weight.toArray()).toEqual(first);
    expect(target.second.weight.toArray()).toEqual(net.second.weight.toArray());
  });

  it("refuses what cannot be saved, before it writes", async () => {
    const file = path.join(folder, "bad.safetensors");
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    const net = makeNet();
    const save = (state: unknown, filter?: unknown): Promise<void> =>
      fabric.save(file, state as Record<string, unknown>, { filter: filter as undefined });
    await expect(save([net])).rejects.toThrow(mp.ArgumentError);
    await expect(save(null)).rejects.toThrow(mp.ArgumentError);
    await expect(save({ [mp.FABRIC_STATE]: 1 })).rejects.toThrow(/Fabric's own/);
    await expect(save({ net }, { model: () => true })).rejects.toThrow(/filter has model/);
    await expect(save({ net }, { net: true })).rejects.toThrow(/filter of net.*function/);
    await expect(save({ fn: () => 1 })).rejects.toThrow(mp.ArgumentError);
    await expect(fabric.load(file)).rejects.toThrow(mp.CheckpointError);
  });

  it("loads one module or optimizer by itself", async () => {
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    const file = path.join(folder, "raw.safetensors");
    const [saved, target] = [makeNet(1), makeNet(2)];
    await mp.saveSafetensors(file, saved.stateDict());
    await fabric.loadRaw(file, target);
    expect(weightsOf(target)).toEqual(weightsOf(saved));
    const own = fabric.setup(makeNet(3));
    await mp.saveCheckpoint(file, saved);
    await fabric.loadRaw(file, own);
    expect(weightsOf(own)).toEqual(weightsOf(saved));
    const optimizer = new mp.AdamW(saved.parameters(), { lr: 0.25 });
    await mp.saveCheckpoint(file, optimizer);
    const other = new mp.AdamW(target.parameters());
    await fabric.loadRaw(file, other);
    expect(other.paramGroups[0]!.lr).toBe(0.25);
    await expect(fabric.loadRaw(file, 3 as unknown as Net)).rejects.toThrow(mp.ArgumentError);
    await expect(fabric.loadRaw(file, makeNet())).rejects.toThrow(mp.CheckpointError);
  });
});
