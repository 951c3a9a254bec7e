// Out of memory, on the CPU and on the device under test: the cache is given back, garbage is
// collected, and only then there is an error, which leaves the process usable. Each case has a
// process of its own.

import { spawnSync } from "node:child_process";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ChildLibrary } from "../helpers/child.js";
import { eachDevice } from "../helpers/devices.js";

const TIMEOUT = 120_000;

const PRELUDE = `
  const MIB = 2 ** 20;
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

let library: ChildLibrary;
beforeAll(async () => {
  library = await ChildLibrary.compile();
});
afterAll(() => library.remove());

eachDevice((device) => {
  test(
    "1,000 allocations that fail leave the process usable",
    async () => {
      const found = (await library.result(`${PRELUDE}
        const device = ${JSON.stringify(device)};
        const statistics = device === "cpu" ? mp.memory : mp.cuda;
        const kept = mp.ones([1000], { device });
        const before = statistics.memoryAllocated();
        const kinds = new Set();
        let last;
        for (let i = 0; i < 1000; i++) {
          // From the size of the address space up to the most elements there can be.
          const count = 2 ** (44 + (i % 4));
          last = failure(() => mp.empty([count], { dtype: "float64", device }));
          kinds.add(last?.name + " " + last?.code);
        }
        const after = statistics.memoryAllocated();
        const x = kept.mul(2).sum().item();
        print({ kinds: [...kinds], message: last.message, before, after, x });`)) as Record<
        string,
        unknown
      >;
      expect(found.kinds).toEqual(["OutOfMemoryError ERR_OUT_OF_MEMORY"]);
      expect(found.message).toMatch(
        new RegExp(`^empty: out of memory on ${device}: [\\d.]+ MiB were asked for.* in tensors`),
      );
      expect(found.message).toMatch(/in its cache, the peak was .*checkpoint\(\)/);
      expect(found.x).toBe(2000);
      expect(found.after).toBe(found.before);
    },
    TIMEOUT,
  );
});

/** The address space of a process can be limited from outside while it runs. */
const canLimit = process.platform === "linux" && spawnSync("prlimit", ["--version"]).status === 0;

describe.skipIf(!canLimit)("a process with little room", () => {
  /** Leaves the process room for as many more MiB. */
  const LIMIT = `
    const { spawnSync } = await import("node:child_process");
    const { readFileSync } = await import("node:fs");
    const limit = (room) => {
      const kib = Number(/VmSize:\\s*(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
      const bytes = kib * 1024 + room * MIB;
      const done = spawnSync("prlimit", ["--pid", String(process.pid), "--as=" + bytes + ":" + bytes]);
      if (done.status !== 0) throw new Error(String(done.stderr));
    };
    const bytes = (count) => mp.empty([count], { dtype: "uint8", device: "cpu" });
    // What the first operation, error and collection need.
    mp.ones([3], { device: "cpu" }).add(1).toArray();
    failure(() => bytes(2 ** 50));
  `;
  const result = (script: string): Promise<unknown> =>
    library.result(`${PRELUDE}${LIMIT}${script}`);

  test(
    "gives the cache back before an allocation fails",
    async () => {
      const found = await result(`
        limit(700);
        const parts = [bytes(200 * MIB), bytes(200 * MIB)];
        const refused = failure(() => bytes(400 * MIB))?.name;
        for (const part of parts) part.dispose();
        const cached = mp.memory.memoryReserved() / MIB;
        const large = bytes(500 * MIB);
        print({ refused, cached: cached >= 400, after: mp.memory.memoryAllocated() / MIB | 0 });`);
      expect(found).toEqual({ refused: "OutOfMemoryError", cached: true, after: 512 });
    },
    TIMEOUT,
  );

  test(
    "collects tensors that nobody refers to before an allocation fails",
    async () => {
      const found = await result(`
        limit(700);
        let reached = 0;
        const source = new Uint8Array(100 * MIB);
        for (let i = 0; i < 12; i++) {
          if (i % 3 === 0) bytes(150 * MIB);
          else if (i % 3 === 1) mp.fromTypedArray(source, [source.length], { device: "cpu" });
          else mp.ones([20 * MIB], { device: "cpu" }).mul(2);
          reached = i + 1;
        }
        print(reached);`);
      expect(found).toBe(12);
    },
    TIMEOUT,
  );

  test(
    "refuses a copy to JavaScript that has no room",
    async () => {
      const found = (await result(`
        const x = bytes(600 * MIB);
        limit(300);
        const sync = failure(() => x.bytes());
        let late;
        try {
          await x.data();
        } catch (error) {
          late = error.constructor.name;
        }
        const y = x.narrow(0, 0, 4).toArray().length;
        print({ name: sync?.name, message: sync?.message, late, y });`)) as Record<string, unknown>;
      expect(found).toMatchObject({ name: "OutOfMemoryError", late: "OutOfMemoryError", y: 4 });
      expect(found.message).toMatch(/data: out of memory on the host.*629145600 bytes/);
    },
    TIMEOUT,
  );

  test(
    "goes on training after a batch that was too large",
    async () => {
      const found = (await result(`
        const on = { device: "cpu" };
        const model = new mp.nn.Linear(64, 1, on);
        const optimizer = new mp.optim.SGD(model.parameters(), { lr: 0.01 });
        const step = (batch) => mp.tidy(() => {
          const loss = model.forward(mp.ones([batch, 64], on)).sub(1).pow(2).mean();
          optimizer.zeroGrad();
          loss.backward();
          optimizer.step();
          return loss.item();
        });
        const losses = [step(16)];
        limit(300);
        const refused = [];
        for (let i = 0; i < 5; i++) {
          refused.push(failure(() => step(2 ** 21))?.name ?? "none");
          losses.push(step(16));
        }
        print({ refused, falling: losses.every((loss, i) => i === 0 || loss <= losses[i - 1]) });`)) as {
        refused: string[];
        falling: boolean;
      };
      expect(found.refused).toEqual(Array(5).fill("OutOfMemoryError"));
      expect(found.falling).toBe(true);
    },
    TIMEOUT,
  );
});
