// Random numbers on a CUDA device are those of the CPU, bit by bit: in every dtype, and in lengths that
// end within a vector or take several rounds of the grid.

import { describe, expect, test } from "vitest";

import * as mp from "../../lib/index.js";
import { compare, expectSame, FLOATS, numbers } from "../helpers/compare-devices.js";
import { ON_CUDA, TEST_DEVICE } from "../helpers/devices.js";

/** Draws with the same seed on both devices and compares the bytes. */
function expectSameDraws(seed: number, draw: (device: mp.Device) => readonly mp.Tensor[]): void {
  mp.tidy(() => {
    mp.manualSeed(seed);
    const expected = draw("cpu");
    mp.manualSeed(seed);
    draw(TEST_DEVICE).forEach((found, i) => {
      expectSame(found, expected[i]!, true);
    });
  });
}

describe.skipIf(!ON_CUDA)("random numbers of the device", () => {
  for (const dtype of FLOATS) {
    test(`uniform and normal, ${dtype}`, () => {
      for (const count of [0, 1, 2, 3, 4, 5, 7, 1003, 40_001]) {
        expectSameDraws(count, (device) => [
          mp.rand([count], { dtype, device }),
          mp.randn([count], { dtype, device }),
          mp.nn.init.uniform(mp.empty([count], { dtype, device }), { a: -0.3, b: 1.7 }),
          mp.nn.init.normal(mp.empty([count], { dtype, device }), { mean: 1.5, std: 0.02 }),
        ]);
      }
    });

    test(`uniform in an interval that rounding would leave, ${dtype}`, () => {
      for (const [low, high] of [
        [1, 1 + 1e-3],
        [-1e-7, 1e-7],
        [255, 257],
      ] as const) {
        expectSameDraws(3, (device) => [
          mp.nn.init.uniform(mp.empty([5000], { dtype, device }), { a: low, b: high }),
        ]);
      }
    });

    test(`dropout, ${dtype}`, () => {
      for (const count of [1, 5, 8, 1003, 20_000]) {
        for (const p of [0, 0.1, 0.5, 0.999, 1]) {
          const dropped = (x: mp.Tensor): mp.Tensor[] => {
            mp.manualSeed(count);
            const leaf = x.detach();
            leaf.requiresGrad = true;
            const y = mp.dropout(leaf, { p, training: true });
            return [y, mp.grad(y.sum(), leaf)];
          };
          compare(dropped, [numbers(count, dtype, 1)], true);
        }
      }
      // Rows that are not aligned to vectors, and a transposed matrix.
      const dropped = (x: mp.Tensor): mp.Tensor => {
        mp.manualSeed(7);
        return mp.dropout(x, { p: 0.3, training: true });
      };
      compare((x) => dropped(x.narrow(0, 1, 1000)), [numbers(1003, dtype, 2)], true);
      compare((x) => dropped(x.reshape([17, 59]).transpose(0, 1)), [numbers(1003, dtype, 2)], true);
    });
  }

  const { init } = mp.nn;
  const INITIALIZERS: [string, (x: mp.Tensor) => mp.Tensor][] = [
    ["uniform", (x) => init.uniform(x, { a: -2, b: 0.1 })],
    ["normal", (x) => init.normal(x, { mean: -1, std: 3 })],
    ["truncNormal", (x) => init.truncNormal(x, { std: 0.5, a: -1, b: 0.7 })],
    ["constant", (x) => init.constant(x, 0.3)],
    ["zeros", (x) => init.zeros(x)],
    ["ones", (x) => init.ones(x)],
    ["xavierUniform", (x) => init.xavierUniform(x, { gain: 1.3 })],
    ["xavierNormal", (x) => init.xavierNormal(x)],
    ["kaimingUniform", (x) => init.kaimingUniform(x, { a: Math.sqrt(5) })],
    ["kaimingNormal", (x) => init.kaimingNormal(x, { mode: "fanOut", nonlinearity: "tanh" })],
    ["orthogonal", (x) => init.orthogonal(x, { gain: 2 })],
  ];

  test.each(INITIALIZERS)("initial values: %s", (_, fill) => {
    for (const dtype of FLOATS) {
      for (const shape of [
        [3, 5],
        [33, 9, 3, 2],
      ]) {
        expectSameDraws(11, (device) => [fill(mp.empty(shape, { dtype, device }))]);
        // Into memory that is not dense.
        expectSameDraws(12, (device) => {
          const whole = mp.zeros([...shape.slice(0, -1), 8], { dtype, device });
          return [fill(whole.narrow(-1, 2, 5)), whole];
        });
      }
      expectSameDraws(13, (device) => [init.eye(mp.empty([7, 4], { dtype, device }))]);
    }
  });

  const { nn } = mp;
  const MODULES: [string, (options: mp.nn.ParameterOptions) => mp.nn.Module][] = [
    ["Linear", (options) => new nn.Linear(37, 19, options)],
    ["Embedding", (options) => new nn.Embedding(101, 12, { ...options, paddingIdx: 3 })],
    ["Conv2d", (options) => new nn.Conv2d(6, 9, 3, { ...options, groups: 3 })],
    ["MultiheadAttention", (options) => new nn.MultiheadAttention(24, 3, options)],
    ["TransformerEncoderLayer", (options) => new nn.TransformerEncoderLayer(16, 2, options)],
    ["BatchNorm1d", (options) => new nn.BatchNorm1d(5, options)],
  ];

  test.each(MODULES)("initial weights of %s", (_, make) => {
    for (const dtype of FLOATS) {
      expectSameDraws(5, (device) => {
        const module = make({ dtype, device });
        return [...module.parameters(), ...module.buffers()];
      });
    }
  });

  test("a model trained on both devices drops the same elements, and counts on alike", () => {
    const results = (["cpu", TEST_DEVICE] as const).map((device) => {
      mp.manualSeed(31);
      const layer = new nn.Dropout(0.4);
      const masks = [1, 2, 3].map((i) => layer.forward(mp.ones([100 + i], { device })).toArray());
      return { masks, state: mp.getRandomState(), next: mp.rand([9], { device }).toArray() };
    });
    expect(results[1]).toEqual(results[0]);
  });

  test("whole numbers", () => {
    for (const dtype of ["int64", "int32", "int8", "uint8", ...FLOATS] as const) {
      for (const count of [1, 2, 3, 1003]) {
        expectSameDraws(count, (device) => [mp.randint(0, 100, [count], { dtype, device })]);
      }
    }
    expectSameDraws(1, (device) => [
      mp.randint(-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, [1001], { device }),
      mp.randint(-5, -4, [10], { device }),
    ]);
  });

  test("draws by weight", () => {
    for (const dtype of FLOATS) {
      for (const n of [1, 2, 3, 37, 1000]) {
        for (const replacement of [true, false]) {
          const samples = replacement ? 300 : n;
          const drawn = (weights: mp.Tensor): mp.Tensor => {
            mp.manualSeed(n);
            return mp.multinomial(weights, samples, { replacement });
          };
          const weights = mp
            .abs(numbers(3 * n, dtype, 4))
            .add(0.01)
            .reshape([3, n]);
          compare(drawn, [weights], true);
        }
      }
    }
    const drawn = (weights: mp.Tensor): mp.Tensor => {
      mp.manualSeed(9);
      return mp.multinomial(weights, 4);
    };
    const some = mp.tensor([0, 1, 0, 2, 3, 0, 1e-30, 0], { device: "cpu" });
    compare(drawn, [some], true);
  });

  test("weights that cannot be drawn from are named as on the CPU", () => {
    for (const [weights, samples] of [
      [[1, 2, -1.5, NaN], 1],
      [[1, Infinity], 1],
      [[0, 0], 1],
      [[1, 0, 2], 3],
    ] as const) {
      const message = (device: mp.Device): string => {
        const x = mp.tensor([[1, 1, 1, 1].slice(0, weights.length), weights], { device });
        try {
          mp.multinomial(x, samples).dataSync();
        } catch (error) {
          expect(error).toBeInstanceOf(mp.ArgumentError);
          return (error as Error).message;
        }
        return "no error";
      };
      expect(message(TEST_DEVICE)).toBe(message("cpu"));
      expect(message("cpu")).toMatch(/in row 1$/);
    }
    const huge = mp.full([3], 1.7e308, { dtype: "float64", device: TEST_DEVICE });
    expect(() => mp.multinomial(huge, 1).dataSync()).toThrow(/overflows in row 0/);
  });
});
