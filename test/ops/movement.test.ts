// Views: what shares memory and what copies, every layout against a plain copy, and bad arguments.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";

/** 0, 1, 2, … in a shape. */
function counting(shape: readonly number[]): mp.Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return mp.arange(0, count, 1, { dtype: "float32" }).reshape(shape);
}

const sharesMemory = (x: mp.Tensor, y: mp.Tensor): boolean => x.handle.storage === y.handle.storage;

describe("views", () => {
  it.each([
    ["reshape", (x: mp.Tensor) => x.reshape([4, 6])],
    ["flatten", (x: mp.Tensor) => x.flatten()],
    ["transpose", (x: mp.Tensor) => x.transpose(0, 2)],
    ["permute", (x: mp.Tensor) => x.permute([2, 0, 1])],
    ["expand", (x: mp.Tensor) => x.unsqueeze(0).expand([3, 2, 3, 4])],
    ["squeeze", (x: mp.Tensor) => x.unsqueeze(1).squeeze()],
    ["narrow", (x: mp.Tensor) => x.narrow(2, 1, 2)],
    ["slice", (x: mp.Tensor) => x.slice(1, 0, 3, 2)],
    ["select", (x: mp.Tensor) => x.select(0, 1)],
    ["split", (x: mp.Tensor) => x.split(2, 1)[1]!],
    ["chunk", (x: mp.Tensor) => x.chunk(2)[1]!],
    ["detach", (x: mp.Tensor) => x.detach()],
  ])("%s shares memory", (_, fn) => {
    const x = counting([2, 3, 4]);
    const y = fn(x);
    expect(sharesMemory(x, y)).toBe(true);
    y.fill(-1);
    expect((x.toArray() as number[][][]).flat(2).filter((v) => v === -1).length).toBeGreaterThan(0);
  });

  it("copies where no strides could say the same", () => {
    const x = counting([2, 3]).transpose(0, 1);
    const y = x.reshape([6]);
    expect(sharesMemory(x, y)).toBe(false);
    expect(y.toArray()).toEqual([0, 3, 1, 4, 2, 5]);
    // Dimensions that still follow each other in memory need no copy.
    const z = counting([4, 3, 2]).narrow(0, 1, 2).transpose(0, 1);
    expect(sharesMemory(z, z.reshape([3, 2, 2, 1]))).toBe(true);
    expect(sharesMemory(z, z.reshape([3, 4]))).toBe(false);
  });

  it("goes on as a view of a view, and survives what it was taken from", () => {
    const x = counting([4, 6]);
    const y = x.narrow(1, 1, 4).transpose(0, 1).slice(0, 1, 4, 2).select(1, -1);
    x.dispose();
    expect(y.toArray()).toEqual([20, 22]);
  });

  it("broadcasts without copying", () => {
    const y = mp.tensor([[1], [2]]).expand([2, 3]);
    expect(y.strides).toEqual([1, 0]);
    expect(y.toArray()).toEqual([
      [1, 1, 1],
      [2, 2, 2],
    ]);
    expect(mp.tensor(3).expand([2]).toArray()).toEqual([3, 3]);
    expect(
      mp
        .tensor([[5]])
        .expand([-1, 2])
        .toArray(),
    ).toEqual([[5, 5]]);
    expect(mp.ones([1, 2]).expand([0, 2]).shape).toEqual([0, 2]);
  });
});

describe("reshape of any layout", () => {
  it("reads elements in row-major order", () => {
    const shape = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(shape, fc.infiniteStream(fc.nat()), (extents, choices) => {
        const next = (below: number): number => choices.next().value! % below;
        mp.tidy(() => {
          let x = counting(extents);
          const order = extents.map((_, dim) => dim);
          for (let i = order.length - 1; i > 0; i--) {
            const j = next(i + 1);
            [order[i], order[j]] = [order[j]!, order[i]!];
          }
          x = x.permute(order);
          const dim = next(extents.length);
          const extent = x.shape[dim]!;
          const start = next(extent + 1);
          x = mp.slice(x, { dim, start, step: 1 + next(2) });
          const flat = Array.from(x.clone().dataSync() as Float32Array);
          const splits = [...x.shape];
          if (next(2) === 1) splits.splice(next(splits.length + 1), 0, 1);
          const target = next(2) === 1 ? [x.numel] : splits;
          const y = x.reshape(target);
          expect(y.shape).toEqual(target);
          expect(Array.from(y.dataSync() as Float32Array)).toEqual(flat);
        });
      }),
      { numRuns: 300, seed: 7 },
    );
  });
});

describe("slices", () => {
  it("are Python's", () => {
    const bound = fc.option(fc.integer({ min: -7, max: 7 }), { nil: null });
    fc.assert(
      fc.property(bound, bound, fc.integer({ min: 1, max: 4 }), (start, end, step) => {
        const list = [0, 1, 2, 3, 4];
        const taken = list.slice(start ?? 0, end ?? list.length).filter((_, i) => i % step === 0);
        const x = counting([5]);
        expect(mp.slice(x, { start, end, step }).toArray()).toEqual(taken);
        expect(x.slice(0, start, end, step).toArray()).toEqual(taken);
      }),
      { numRuns: 200, seed: 3 },
    );
  });
});

describe("pieces", () => {
  it("are as many as torch makes", () => {
    const sizes = (parts: mp.Tensor[]): number[] => parts.map((part) => part.shape[0]!);
    expect(sizes(counting([7]).split(3))).toEqual([3, 3, 1]);
    expect(sizes(counting([7]).split([0, 7]))).toEqual([0, 7]);
    expect(sizes(counting([7]).chunk(4))).toEqual([2, 2, 2, 1]);
    expect(sizes(counting([5]).chunk(4))).toEqual([2, 2, 1]);
    expect(sizes(counting([2]).chunk(4))).toEqual([1, 1]);
    expect(sizes(counting([0]).split(3))).toEqual([0]);
    expect(sizes(counting([0]).chunk(3))).toEqual([0, 0, 0]);
  });

  it("give the gradient of one where only one is used", () => {
    const x = counting([5]);
    x.requiresGrad = true;
    x.split(2)[1]!
      .mul(mp.tensor([3, 4]))
      .sum()
      .backward();
    expect(x.grad!.toArray()).toEqual([0, 0, 3, 4, 0]);
  });
});

describe("joins", () => {
  it("skip what has the shape [0], and promote", () => {
    const x = mp.cat([mp.zeros([0], { dtype: "float64" }), mp.ones([2, 1]), mp.ones([1, 1])]);
    expect(x.shape).toEqual([3, 1]);
    expect(x.dtype).toBe("float64");
    expect(mp.cat([mp.zeros([0]), mp.zeros([0])]).shape).toEqual([0]);
    const ints = mp.tensor([1, 2], { dtype: "int64" });
    expect(mp.stack([ints, mp.tensor([0.5, 1.5])]).toArray()).toEqual([
      [1, 2],
      [0.5, 1.5],
    ]);
  });

  it("take several hundred tensors", () => {
    const many = Array.from({ length: 700 }, (_, i) => mp.full([2], i));
    const x = mp.stack(many, 1);
    expect(x.shape).toEqual([2, 700]);
    expect(x.select(1, 699).toArray()).toEqual([699, 699]);
  });
});

describe("bad arguments", () => {
  const x = counting([2, 3, 4]);
  it.each([
    ["reshape, count", () => x.reshape([5, 5]), /reshape: input \[2, 3, 4\] .*24 and 25 elements/],
    ["reshape, -1", () => x.reshape([5, -1]), /24 elements cannot be divided by the 5/],
    ["reshape, two -1", () => x.reshape([-1, -1]), /only one extent can be -1/],
    ["reshape, fraction", () => x.reshape([1.5, 16]), /whole numbers from 0 up/],
    ["flatten, order", () => x.flatten(2, 1), /startDim not after endDim/],
    ["transpose", () => x.transpose(0, 3), /transpose: dimension out of range — expected -3 to 2/],
    ["permute, few", () => x.permute([0, 1]), /permute: expected the 3 dimensions/],
    ["permute, twice", () => x.permute([0, 1, 1]), /permute: a dimension is named twice/],
    ["expand", () => x.expand([2, 3, 5]), /expand: input \[2, 3, 4\] does not broadcast/],
    ["expand, fewer", () => x.expand([3, 4]), /does not broadcast to \[3, 4\]/],
    ["expand, new -1", () => x.expand([-1, 2, 3, 4]), mp.ShapeError],
    ["squeeze", () => x.squeeze(5), mp.ShapeError],
    ["unsqueeze", () => x.unsqueeze(4), mp.ShapeError],
    ["unsqueeze, rank", () => mp.zeros([1, 1, 1, 1, 1, 1, 1, 1]).unsqueeze(0), /at most 8/],
    [
      "narrow, long",
      () => x.narrow(1, 2, 2),
      /narrow: 2 elements from 2 are not all in dimension 1/,
    ],
    ["narrow, 0-d", () => mp.tensor(1).narrow(0, 0, 1), /at least one dimension/],
    ["select", () => x.select(2, 4), /select: index 4 is not in dimension 2 of input \[2, 3, 4\]/],
    ["split, sum", () => x.split([1, 1], 1), /split: pieces of \[1,1\] do not make up dimension 1/],
    ["split, 0", () => x.split(0), mp.ShapeError],
    ["cat, shapes", () => mp.cat([x, counting([2, 3])]), /cat: expected shapes that differ in/],
    ["cat, 0-d", () => mp.cat([mp.tensor(1)]), /use stack/],
    ["stack", () => mp.stack([x, counting([2])]), /stack: expected tensors of one shape/],
  ])("%s", (_, fn, message) => {
    expect(fn).toThrow(message);
    expect(fn).toThrow(mp.ShapeError);
  });

  it.each([
    ["chunk", () => x.chunk(0), /chunk: expected a number of chunks from 1 up, got 0/],
    ["slice, step", () => mp.slice(x, { step: 0 }), /slice: expected a step from 1 up, got 0/],
    ["slice, fraction", () => mp.slice(x, { start: 0.5 }), /slice: expected whole numbers/],
    ["cat, nothing", () => mp.cat([]), /cat: expected a list of at least one tensor/],
    ["cat, no list", () => mp.cat(x as never), mp.ArgumentError],
  ])("%s", (_, fn, message) => {
    expect(fn).toThrow(message);
    expect(fn).toThrow(mp.ArgumentError);
  });

  it("are no tensors", () => {
    expect(() => mp.reshape([1, 2] as never, [2])).toThrow(mp.DTypeError);
    expect(() => mp.cat([x, 3 as never])).toThrow(/cat: expected tensor 1 to be a Tensor, got 3/);
  });
});
