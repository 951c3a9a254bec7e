// Captured work, replayed: the same numbers, memory that stays put, and what can't be captured.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { ChildLibrary } from "../helpers/child.js";
import { ON_CUDA } from "../helpers/devices.js";

const device = "cuda";

test.skipIf(mp.cuda.isAvailable())("without a device, capturing a graph says so", () => {
  expect(() => mp.cuda.graph(() => mp.zeros([1]))).toThrow(mp.DeviceError);
});

describe.skipIf(!ON_CUDA)("cuda.graph", () => {
  test("queues nothing by itself, and computes at every replay what its inputs are then", () => {
    const x = mp.tensor([1, 2, 3], { device });
    const graph = mp.cuda.graph(() => {
      const doubled = x.mul(2);
      return { sum: doubled.add(1).sum(), doubled };
    });
    graph.replay();
    expect(graph.result.doubled.toArray()).toEqual([2, 4, 6]);
    expect(graph.result.sum.item()).toBe(15);
    // Inputs change in place.
    x.copyFrom(mp.tensor([10, 20, 30], { device }));
    expect(graph.result.sum.item()).toBe(15);
    graph.replay();
    expect(graph.result.sum.item()).toBe(123);
    graph.dispose();
  });

  test("replays a training step, with the losses of one that is queued each time", () => {
    const make = (): { step: () => mp.Tensor; weight: mp.Tensor } => {
      mp.manualSeed(3);
      const model = new mp.nn.Sequential(new mp.nn.Linear(6, 5), new mp.nn.Linear(5, 2));
      model.to(device);
      const optimizer = new mp.optim.AdamW(model.parameters(), { lr: 0.05 });
      const input = mp.randn([8, 6], { device });
      const target = mp.tensor([0, 1, 0, 1, 1, 0, 1, 0], { device, dtype: "int64" });
      const step = (): mp.Tensor => {
        optimizer.zeroGrad();
        const loss = mp.crossEntropy(model.forward(input), target);
        loss.backward();
        optimizer.step();
        return loss.detach();
      };
      return { step, weight: model.parameters()[0]! };
    };
    const eager = make();
    const expected: number[] = [];
    for (let i = 0; i < 8; i++) expected.push(mp.tidy(eager.step).item());

    const captured = make();
    const losses: number[] = [];
    // State is made by the steps before the capture, as it has to outlive the graph.
    for (let i = 0; i < 2; i++) losses.push(mp.tidy(captured.step).item());
    const graph = mp.cuda.graph(captured.step);
    for (let i = 0; i < 6; i++) {
      graph.replay();
      losses.push(graph.result.item());
    }
    expect(losses).toEqual(expected);
    expect(captured.weight.toArray()).toEqual(eager.weight.toArray());
    graph.dispose();
  });

  test("keeps its memory apart until it is disposed", () => {
    const x = mp.ones([256, 256], { device });
    const reference = mp.tidy(() => x.add(1).mul(3).sum().item());
    const graph = mp.cuda.graph(() => x.add(1).mul(3).sum());
    // Whatever is made now may not lie where the graph computes.
    const others = [5, 6, 7].map((value) => mp.full([256, 256], value, { device }));
    graph.replay();
    expect(graph.result.item()).toBe(reference);
    others.forEach((other, i) => expect(other.sum().item()).toBe((5 + i) * 65536));
    const reserved = mp.cuda.memoryReserved();
    graph.dispose();
    graph.result.dispose();
    mp.cuda.emptyCache();
    expect(mp.cuda.memoryReserved()).toBeLessThanOrEqual(reserved);
    expect(() => graph.replay()).toThrow("replay: the graph was disposed");
    graph.dispose();
  });

  test("copies from the host what was there when it was captured", () => {
    const numbers = new Float32Array([1, 2, 3]);
    const graph = mp.cuda.graph(() => mp.tensor(numbers, { device }).mul(2));
    numbers.fill(9);
    for (let i = 0; i < 3; i++) {
      graph.replay();
      expect(graph.result.toArray()).toEqual([2, 4, 6]);
    }
    graph.dispose();
    expect(mp.tensor(numbers, { device }).toArray()).toEqual([9, 9, 9]);
  });

  test("what is freed while it is captured stays until the capture is over", () => {
    const x = mp.ones([300], { device });
    const before = mp.cuda.memoryAllocated();
    const graph = mp.cuda.graph(() => {
      const y = x.add(1);
      x.dispose();
      return y;
    });
    expect(mp.cuda.memoryAllocated()).toBe(before); // y instead of x
    expect(graph.result.shape).toEqual([300]);
    graph.dispose();
  });

  test.each<[string, () => unknown, string]>([
    ["reads", () => mp.ones([1], { device }).item(), "reading a tensor is not possible while"],
    ["waits", () => mp.cuda.synchronize(), "waiting for the device is not possible while"],
    ["empties the cache", () => mp.cuda.emptyCache(), "emptying the cache is not possible while"],
    ["captures", () => mp.cuda.graph(() => 1), "capturing another graph is not possible while"],
  ])("refuses a function that %s, and goes on afterwards", (_, body, message) => {
    expect(() => mp.cuda.graph(body)).toThrow(mp.DeviceError);
    expect(() => mp.cuda.graph(body)).toThrow(message);
    expect(mp.ones([2], { device }).add(1).toArray()).toEqual([2, 2]);
  });

  test("refuses what is no synchronous function of CUDA work", () => {
    expect(() => mp.cuda.graph(() => Promise.resolve(1))).toThrow(mp.GradError);
    expect(() => mp.cuda.graph(3 as never)).toThrow(mp.ArgumentError);
    expect(() => mp.cuda.graph(() => 1, { device: "cpu" })).toThrow(mp.ArgumentError);
    expect(() => mp.cuda.graph(() => 1, { devise: "cuda" } as never)).toThrow('no option "devise"');
    expect(mp.ones([2], { device }).sum().item()).toBe(2);
  });

  test("an error in the function gives back what was captured", () => {
    const before = mp.cuda.memoryAllocated();
    expect(() =>
      mp.cuda.graph(() => {
        mp.ones([1000], { device });
        throw new RangeError("mine");
      }),
    ).toThrow(RangeError);
    expect(mp.cuda.memoryAllocated()).toBe(before);
  });

  test("other threads wait while one captures, and their work is in no graph", async () => {
    const library = await ChildLibrary.compile();
    try {
      const worker = `
        import { parentPort, workerData } from "node:worker_threads";
        const mp = await import(${JSON.stringify(library.url)});
        const device = "cuda";
        let x = mp.ones([64], { device });
        if (workerData === "captures") {
          const wrong = [];
          for (let i = 0; i < 150; i++) {
            const graph = mp.cuda.graph(() => x.add(1).mul(2).sum());
            graph.replay();
            graph.replay();
            if (graph.result.item() !== 256) wrong.push(graph.result.item());
            graph.dispose();
            graph.result.dispose();
          }
          parentPort.postMessage(wrong);
        } else {
          for (let i = 0; i < 600; i++) x = mp.tidy(() => x.add(1));
          parentPort.postMessage([...new Set(x.toArray())]);
        }`;
      const found = await library.result(`
        const { Worker } = await import("node:worker_threads");
        const source = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(worker)}));
        const run = (workerData) => new Promise((resolve, reject) => {
          const worker = new Worker(source, { workerData });
          worker.on("message", resolve);
          worker.on("error", reject);
        });
        const found = await Promise.all([run("captures"), run("adds"), run("captures")]);
        process.stdout.write(JSON.stringify(found));`);
      expect(found).toEqual([[], [601], []]);
    } finally {
      await library.remove();
    }
  }, 60_000);
});
