// The caching allocator: sizes, pools and statistics as PyTorch's, and what happens when the device
// has no more memory. Each case has a process, and so an allocator, of its own.

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ChildLibrary } from "../helpers/child.js";
import { EMULATED, ON_CUDA } from "../helpers/devices.js";

const MIB = 2 ** 20;
const TIMEOUT = 120_000;

/** Statistics of `cuda` in MiB, as `[allocated, reserved]`, and bytes on the device. */
const PRELUDE = `
  const MIB = 2 ** 20;
  const bytes = (count) => mp.empty([count], { dtype: "uint8", device: "cuda" });
  const stats = () => [mp.cuda.memoryAllocated() / MIB, mp.cuda.memoryReserved() / MIB];
  const print = (value) => process.stdout.write(JSON.stringify(value));
  const failure = (body) => {
    try {
      body();
    } catch (error) {
      return { name: error.constructor.name, code: error.code, message: error.message };
    }
    return null;
  };
`;

describe.skipIf(!ON_CUDA)("memory of the device", () => {
  let library: ChildLibrary;
  beforeAll(async () => {
    library = await ChildLibrary.compile();
  });
  afterAll(() => library.remove());
  const result = (script: string, env?: Record<string, string>): Promise<unknown> =>
    library.result(PRELUDE + script, env);

  test(
    "sizes are rounded, and come from segments of three kinds",
    async () => {
      const steps = await result(`
        const kept = [bytes(1)];
        const steps = [stats()];
        for (const count of [513, MIB, MIB + 1, 10 * MIB, 10 * MIB - 512, 33 * MIB / 2]) {
          kept.push(bytes(count));
          steps.push(stats());
        }
        print(steps);`);
      const tiny = 512 / MIB;
      expect(steps).toEqual([
        [tiny, 2], // the small pool takes 2 MiB at a time
        [3 * tiny, 2],
        [1 + 3 * tiny, 2], // up to 1 MiB is small
        [2 + 4 * tiny, 22], // 20 MiB at a time from there on
        [12 + 4 * tiny, 22], // what was left of the 20
        [22 + 3 * tiny, 42], // the rest is too small
        [38.5 + 3 * tiny, 60], // from 10 MiB a segment of its own, a multiple of 2 MiB
      ]);
    },
    TIMEOUT,
  );

  test(
    "freed memory stays in the cache, is used again and joined, until the cache is emptied",
    async () => {
      const steps = await result(`
        const steps = [];
        const parts = [];
        for (let i = 0; i < 4; i++) parts.push(bytes(5 * MIB));
        steps.push(stats());
        for (const i of [1, 3, 0, 2]) parts[i].dispose();
        steps.push(stats());
        const whole = bytes(9 * MIB);
        const rest = bytes(9 * MIB);
        steps.push(stats());
        whole.dispose();
        mp.cuda.emptyCache();
        steps.push(stats());
        rest.dispose();
        mp.cuda.emptyCache();
        steps.push(stats());
        steps.push([mp.cuda.maxMemoryAllocated() / MIB, mp.cuda.maxMemoryReserved() / MIB]);
        mp.cuda.resetPeakMemoryStats();
        steps.push([mp.cuda.maxMemoryAllocated(), mp.cuda.maxMemoryReserved()]);
        print(steps);`);
      expect(steps).toEqual([
        [20, 20],
        [0, 20],
        [18, 20],
        [9, 20], // a tensor is left in the segment
        [0, 0],
        [20, 20],
        [0, 0],
      ]);
    },
    TIMEOUT,
  );

  test(
    "memorySummary says what there is",
    async () => {
      const summary = (await result(`
        const x = bytes(3 * MIB);
        print(mp.cuda.memorySummary());`)) as string;
      expect(summary).toMatch(/cuda:0/);
      expect(summary).toMatch(/3\.0 MiB/);
      expect(summary).toMatch(/20\.0 MiB/);
    },
    TIMEOUT,
  );

  test(
    "1,000 allocations that fail leave the process usable",
    async () => {
      const found = (await result(`
        const kept = mp.ones([1000], { device: "cuda" });
        const before = stats();
        const kinds = new Set();
        let last;
        for (let i = 0; i < 1000; i++) {
          // Sizes that no device has, up to the most elements there can be.
          last = failure(() => bytes(2 ** (41 + (i % 7))));
          kinds.add(last?.name + " " + last?.code);
        }
        const x = kept.mul(2).sum().item();
        print({ kinds: [...kinds], message: last.message, before, after: stats(), x });`)) as {
        kinds: string[];
        message: string;
        before: number[];
        after: number[];
        x: number;
      };
      expect(found.kinds).toEqual(["OutOfMemoryError ERR_OUT_OF_MEMORY"]);
      expect(found.message).toMatch(/out of memory on cuda:0: [\d.]+ MiB were asked for/);
      expect(found.message).toMatch(/MiB in tensors and [\d.]+ MiB in its cache/);
      expect(found.message).toMatch(/checkpoint/);
      expect(found.x).toBe(2000);
      expect(found.after[0]).toBeCloseTo(found.before[0]!, 1);
    },
    TIMEOUT,
  );

  // A device that is small and that nobody else uses.
  describe.skipIf(!EMULATED)("on a small device", () => {
    const env = { MIXPREC_EMULATOR_MEMORY: "256" };

    test(
      "the cache is given back before an allocation fails",
      async () => {
        const found = await result(
          `
          const first = bytes(100 * MIB);
          const second = bytes(100 * MIB);
          const refused = failure(() => bytes(100 * MIB))?.name;
          first.dispose();
          second.dispose();
          const cached = stats();
          const large = bytes(240 * MIB);
          print({ refused, cached, after: stats() });`,
          env,
        );
        expect(found).toEqual({ refused: "OutOfMemoryError", cached: [0, 200], after: [240, 240] });
      },
      TIMEOUT,
    );

    test(
      "tensors that nobody refers to are collected before an allocation fails",
      async () => {
        const found = (await result(
          `
          let reached = 0;
          for (let i = 0; i < 20; i++) {
            bytes(60 * MIB);
            reached = i + 1;
          }
          print({ reached });`,
          env,
        )) as { reached: number };
        expect(found.reached).toBe(20);
      },
      TIMEOUT,
    );

    test(
      "an operation that finds no room for its result fails alone",
      async () => {
        const found = await result(
          `
          const x = mp.ones([20 * MIB], { device: "cuda" });  // 80 MiB
          const y = mp.ones([20 * MIB], { device: "cuda" });
          const z = x.add(y);
          const first = failure(() => x.add(z));
          const named = /add/.test(first.message) && /80\\.0 MiB were asked for/.test(first.message);
          z.dispose();
          const sum = x.add(y).narrow(0, 0, 3).toArray();
          print({ name: first.name, named, sum });`,
          env,
        );
        expect(found).toEqual({ name: "OutOfMemoryError", named: true, sum: [2, 2, 2] });
      },
      TIMEOUT,
    );

    test(
      "training goes on after a batch that was too large",
      async () => {
        const found = (await result(
          `
          const model = new mp.nn.Linear(64, 1);
          model.to("cuda");
          const optimizer = new mp.optim.SGD(model.parameters(), { lr: 0.01 });
          const step = (batch) => mp.tidy(() => {
            const x = mp.ones([batch, 64], { device: "cuda" });
            const loss = model.forward(x).sub(1).pow(2).mean();
            optimizer.zeroGrad();
            loss.backward();
            optimizer.step();
            return loss.item();
          });
          const losses = [step(16)];
          const refused = [];
          for (let i = 0; i < 5; i++) {
            refused.push(failure(() => step(2 ** 20))?.name ?? "none");
            losses.push(step(16));
          }
          print({ refused, falling: losses.every((loss, i) => i === 0 || loss <= losses[i - 1]) });`,
          env,
        )) as { refused: string[]; falling: boolean };
        expect(found.refused).toEqual(Array(5).fill("OutOfMemoryError"));
        expect(found.falling).toBe(true);
      },
      TIMEOUT,
    );
  });
});
