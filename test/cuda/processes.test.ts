// Worker threads, ends of processes and errors of the device, each in a process of its own.

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ChildLibrary } from "../helpers/child.js";
import { EMULATED, ON_CUDA } from "../helpers/devices.js";

const TIMEOUT = 120_000;

describe.skipIf(!ON_CUDA)("processes that use the device", () => {
  let library: ChildLibrary;
  beforeAll(async () => {
    library = await ChildLibrary.compile();
  });
  afterAll(() => library.remove());

  /** A script's text that trains for `steps` and gives the losses to `done`. */
  const training = (steps: string): string => `
    const weight = mp.arange(0, 32, 1, { dtype: "float32", device: "cuda" }).mul(0.01);
    const w = weight.reshape([32, 1]).detach();
    w.requiresGrad = true;
    const optimizer = new mp.optim.AdamW([w], { lr: 0.05 });
    const losses = [];
    for (let step = 0; step < ${steps}; step++) {
      mp.tidy(() => {
        const x = mp.arange(0, 256, 1, { dtype: "float32", device: "cuda" }).mul(0.004);
        const loss = x.reshape([8, 32]).mul(w.reshape([32])).sum({ dim: 1 }).sub(3).pow(2).mean();
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        losses.push(loss.item());
      });
    }`;

  test(
    "two workers train, and one goes on when the other has ended",
    async () => {
      const worker = `
        import { parentPort, workerData } from "node:worker_threads";
        const mp = await import(${JSON.stringify(library.url)});
        const train = (steps) => {
          ${training("steps")}
          return losses;
        };
        parentPort.postMessage(train(workerData.steps));
        if (workerData.exit) process.exit(0);
        if (workerData.goesOn) {
          await new Promise((resolve) => parentPort.once("message", resolve));
          parentPort.postMessage(train(5));
        }`;
      const found = (await library.result(
        `
        const { Worker } = await import("node:worker_threads");
        const source = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(worker)}));
        const run = (steps, exit, others) => new Promise((resolve, reject) => {
          const posted = [];
          const goesOn = others !== undefined;
          const worker = new Worker(source, { workerData: { steps, exit, goesOn } });
          others?.then(() => worker.postMessage("the others have ended"));
          worker.on("message", (losses) => posted.push(losses));
          worker.on("error", reject);
          worker.on("exit", (code) => resolve({ code, losses: posted[0], later: posted[1] }));
        });
        const alone = await run(5, false);
        // One leaves early, by itself or by process.exit, while the others train.
        const short = [run(5, true), run(5, false)];
        const together = await Promise.all([run(60, false, Promise.all(short)), ...short]);
        const stopped = new Worker(source, { workerData: { steps: 100000, exit: false } });
        const goesOn = run(30, false);
        setTimeout(() => stopped.terminate(), 300);
        const after = await goesOn;
        process.stdout.write(JSON.stringify({ alone, together, after }));`,
      )) as Record<"alone" | "after", { code: number; losses: number[] }> & {
        together: { code: number; losses: number[]; later?: number[] }[];
      };
      const [long, exited, short] = found.together;
      for (const run of [found.alone, found.after, ...found.together]) expect(run.code).toBe(0);
      expect(long!.losses).toHaveLength(60);
      expect(exited!.losses).toEqual(found.alone.losses);
      expect(short!.losses).toEqual(found.alone.losses);
      expect(long!.losses.slice(0, 5)).toEqual(found.alone.losses);
      expect(found.after.losses).toEqual(long!.losses.slice(0, 30));
      expect(long!.losses[59]).toBeLessThan(long!.losses[0]! * 0.75);
      expect(long!.later).toEqual(found.alone.losses);
    },
    TIMEOUT,
  );

  const QUEUED = `
    let x = mp.ones([1 << 18], { device: "cuda" });
    const bias = mp.ones([1 << 18], { device: "cuda" });
    for (let i = 0; i < 300; i++) x = x.mul(0.5).add(bias);`;

  test.each([
    ["runs out of script", ""],
    ["calls process.exit", "process.exit(0);"],
    ["waits for a copy", "await x.data();"],
    ["calls process.exit while a copy is on its way", "x.data(); process.exit(0);"],
    ["throws away a copy that is on its way", "x.data().catch(() => {}); x.dispose();"],
  ])(
    "a process that %s ends well with work in the queue",
    async (_, end) => {
      const ended = await library.run(QUEUED + end, { MIXPREC_LAUNCH_BLOCKING: "0" });
      expect(ended).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
    },
    TIMEOUT,
  );

  test(
    "an uncaught error with work in the queue is what is reported",
    async () => {
      const ended = await library.run(`${QUEUED} throw new Error("of the user");`, {
        MIXPREC_LAUNCH_BLOCKING: "0",
      });
      expect(ended.signal).toBeNull();
      expect(ended.code).toBe(1);
      expect(ended.stderr).toMatch(/of the user/);
    },
    TIMEOUT,
  );

  /** Where an error of a script's second step comes up. */
  const ERRORS = `
    const found = {};
    const attempt = (step, body) => {
      try {
        body();
      } catch (error) {
        found[step] ??= { name: error.constructor.name, message: error.message };
      }
    };`;
  interface Found {
    name: string;
    message: string;
  }

  test(
    "an index out of range is reported by its call where launches block, else by a later one",
    async () => {
      const script = `${ERRORS}
        const weight = mp.ones([4, 2], { device: "cuda" });
        const ids = mp.tensor([1, 9], { dtype: "int64", device: "cuda" });
        attempt("embedding", () => mp.embedding(weight, ids));
        attempt("after", () => { mp.cuda.synchronize(); weight.add(1); });
        attempt("later", () => found.usable = weight.add(1).sum().item());
        process.stdout.write(JSON.stringify(found));`;
      const blocking = (await library.result(script, {
        MIXPREC_LAUNCH_BLOCKING: "1",
      })) as Record<string, Found>;
      expect(blocking.embedding!.name).toBe("ArgumentError");
      expect(blocking.embedding!.message).toMatch(/^embedding: index out of range.*got 9/);
      expect(blocking.after).toBeUndefined();
      expect(blocking.usable).toBe(16);

      const queued = (await library.result(script, {
        MIXPREC_LAUNCH_BLOCKING: "0",
      })) as Record<string, Found>;
      // Whether the next call sees it already is up to the device.
      const late = queued.after ?? queued.embedding;
      expect(late!.name).toBe("ArgumentError");
      expect(late!.message).toMatch(/embedding.*index out of range.*got 9/);
      expect(queued.usable).toBe(16);
    },
    TIMEOUT,
  );

  // A GPU that works has no kernel to fail.
  test.skipIf(!EMULATED)(
    "a device that died says why, what to do, and which call it was where launches block",
    async () => {
      const script = `${ERRORS}
        const x = mp.ones([4, 100], { device: "cuda" });
        attempt("softmax", () => mp.softmax(x, { dim: 1 }));
        attempt("after", () => mp.cuda.synchronize());
        attempt("cpu", () => found.cpu = mp.ones([3], { device: "cpu" }).sum().item());
        process.stdout.write(JSON.stringify(found));`;
      const env = { MIXPREC_EMULATOR_FAULT: "softmax" };
      const blocking = (await library.result(script, {
        ...env,
        MIXPREC_LAUNCH_BLOCKING: "1",
      })) as Record<string, Found>;
      expect(blocking.softmax!.name).toBe("DeviceError");
      expect(blocking.softmax!.message).toMatch(/^softmax: /);
      expect(blocking.softmax!.message).toMatch(/planted fault in .*softmax/);
      expect(blocking.softmax!.message).toMatch(/restart it/);
      expect(blocking.softmax!.message).not.toMatch(/MIXPREC_LAUNCH_BLOCKING/);
      expect(blocking.cpu).toBe(3);

      const queued = (await library.result(script, {
        ...env,
        MIXPREC_LAUNCH_BLOCKING: "0",
      })) as Record<string, Found>;
      const late = queued.softmax ?? queued.after;
      expect(late!.name).toBe("DeviceError");
      expect(late!.message).toMatch(/planted fault in .*softmax/);
      expect(late!.message).toMatch(/MIXPREC_LAUNCH_BLOCKING=1/);
      expect(queued.cpu).toBe(3);
    },
    TIMEOUT,
  );
});
