// What must be queued without waiting for the device: counted in a process of its own, where no
// launch blocks.

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ChildLibrary } from "../helpers/child.js";
import { ON_CUDA } from "../helpers/devices.js";

const TIMEOUT = 120_000;

/** `waitsOf(body)`: how often the host waits for the device in it. */
const PRELUDE = `
  const { memoryStatsNative } = await import(new URL("native.js", LIBRARY));
  const waitsOf = (body) => {
    const before = memoryStatsNative(0).waits;
    body();
    return memoryStatsNative(0).waits - before;
  };
  const print = (value) => process.stdout.write(JSON.stringify(value));
`;

/** A model, batches and `train(steps)`, with steps that read nothing. */
const TRAINING = `
  const { nn } = mp;
  mp.manualSeed(1);
  const on = { device: "cuda" };
  class Net extends nn.Module {
    constructor() {
      super();
      this.embedding = new nn.Embedding(50, 16, on);
      this.norm = new nn.LayerNorm(16, on);
      this.hidden = new nn.Linear(16, 32, on);
      this.drop = new nn.Dropout(0.1);
      this.out = new nn.Linear(32, 4, on);
    }
    forward(ids) {
      const x = this.norm.forward(this.embedding.forward(ids)).mean({ dim: 1 });
      return this.out.forward(this.drop.forward(mp.gelu(this.hidden.forward(x))));
    }
  }
  const net = new Net();
  const ids = mp.randint(0, 50, [8, 6], on);
  const labels = mp.randint(0, 4, [8], on);
`;

describe.skipIf(!ON_CUDA)("a step of training", () => {
  let library: ChildLibrary;
  beforeAll(async () => {
    library = await ChildLibrary.compile();
  });
  afterAll(() => library.remove());
  const result = (script: string): Promise<unknown> =>
    library.result(`const LIBRARY = ${JSON.stringify(library.url)};${PRELUDE}${script}`, {
      MIXPREC_LAUNCH_BLOCKING: "0",
    });

  test.each([
    ["AdamW", "new mp.AdamW(net.parameters(), { lr: 0.01 })"],
    ["Adam with amsgrad", "new mp.Adam(net.parameters(), { lr: 0.01, amsgrad: true })"],
    ["SGD", "new mp.SGD(net.parameters(), { lr: 0.01, momentum: 0.9 })"],
  ])(
    "in float16 with a loss scaler and %s waits for nothing until something is read",
    async (_, optimizer) => {
      const found = (await result(`
        ${TRAINING}
        const optimizer = ${optimizer};
        const scaler = new mp.GradScaler({ initScale: 2 ** 30, growthInterval: 100 });
        const schedule = mp.lrScheduler.linear(optimizer, { warmupSteps: 2, totalSteps: 60 });
        let outcome;
        let norm;
        const step = () => {
          optimizer.zeroGrad();
          const loss = mp.autocast({ device: "cuda", dtype: "float16" }, () =>
            mp.crossEntropy(net.forward(ids), labels));
          scaler.scale(loss).backward();
          scaler.unscale(optimizer);
          norm?.dispose();
          norm = mp.clipGradNorm(net.parameters(), 1, { errorIfNonfinite: false });
          outcome = scaler.step(optimizer);
          scaler.update();
          schedule.step();
          return loss;
        };
        const first = step().item();
        const queued = waitsOf(() => { for (let i = 0; i < 40; i++) mp.tidy(step); });
        const read = waitsOf(() => outcome.skipped);
        const again = waitsOf(() => [outcome.skipped, outcome.scale]);
        print({ queued, read, again, scale: scaler.getScale(), skipped: outcome.skipped,
                first, last: step().item() });`)) as Record<string, number | boolean>;
      expect(found).toMatchObject({ queued: 0, again: 0, skipped: false });
      expect(found.read).toBeGreaterThan(0);
      // The first scales overflowed and were halved, until one did not.
      expect(found.scale).toBeLessThan(2 ** 30);
      expect(found.last).toBeLessThan(found.first as number);
    },
    TIMEOUT,
  );

  test.each(["32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true"])(
    "of Fabric at %s waits for nothing",
    async (precision) => {
      const found = (await result(`
        ${TRAINING}
        const fabric = new mp.Fabric({ accelerator: "cuda", precision: ${JSON.stringify(precision)} });
        const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters(), { lr: 1e-3 }));
        const step = () => {
          const loss = mp.crossEntropy(model.forward(ids), labels);
          optimizer.zeroGrad();
          fabric.backward(loss);
          fabric.clipGradients(model, optimizer, { maxNorm: 1, errorIfNonfinite: false });
          optimizer.step();
          return loss;
        };
        const first = step().item();
        const queued = waitsOf(() => { for (let i = 0; i < 10; i++) mp.tidy(step); });
        const read = waitsOf(() => step().item());
        print({ queued, read, first });`)) as Record<string, number>;
      expect(found.queued).toBe(0);
      expect(found.read).toBeGreaterThan(0);
    },
    TIMEOUT,
  );

  test(
    "takes its batch from the host without waiting",
    async () => {
      const found = await result(`
        const waits = waitsOf(() => {
          for (let i = 0; i < 20; i++) {
            const x = mp.fromTypedArray(new Float32Array(4096).fill(i), [64, 64], { device: "cuda" });
            mp.tensor([1, 2, 3], { device: "cuda" }).dispose();
            x.mul(2).dispose();
          }
        });
        print(waits);`);
      expect(found).toBe(0);
    },
    TIMEOUT,
  );
});
