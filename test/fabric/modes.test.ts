import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR, TEST_DEVICE } from "../helpers/devices.js";
import { batch, makeNet, Net, weightsOf } from "./models.js";

const DEVICE = { accelerator: TEST_ACCELERATOR } as const;

interface Expected {
  precision: mp.PrecisionName;
  input: mp.DType;
  parameter: mp.DType;
  hidden: mp.DType;
  normed: mp.DType;
  out: mp.DType;
  output: mp.DType;
  scaled: boolean;
}

const F64 = "float64";
const F32 = "float32";
const F16 = "float16";
const BF16 = "bfloat16";

function row(
  precision: mp.PrecisionName,
  [input, parameter, hidden, normed, out, output]: mp.DType[],
  scaled = false,
): Expected {
  return {
    precision,
    input: input!,
    parameter: parameter!,
    hidden: hidden!,
    normed: normed!,
    out: out!,
    output: output!,
    scaled,
  };
}

// What the forward pass sees for a float32 input.
const MODES: Expected[] = [
  row("32-true", [F32, F32, F32, F32, F32, F32]),
  row("64-true", [F64, F64, F64, F64, F64, F32]),
  row("16-mixed", [F16, F32, F16, F32, F16, F32], true),
  row("bf16-mixed", [BF16, F32, BF16, F32, BF16, F32]),
  row("16-true", [F16, F16, F16, F16, F16, F32]),
  row("bf16-true", [BF16, BF16, BF16, BF16, BF16, F32]),
];

describe("Fabric precision", () => {
  it.each(MODES)("$precision: dtypes in the forward pass", (expected) => {
    const { precision, output, scaled, ...seen } = expected;
    const fabric = new mp.Fabric({ ...DEVICE, precision });
    const net = makeNet();
    const model = fabric.setup(net);
    const out = model.forward(batch(0).x);
    expect(net.seen).toEqual(seen);
    expect(out.dtype).toBe(output);
    expect(fabric.precision).toBe(precision);
    expect(fabric.scaler !== null).toBe(scaled);
    for (const tensor of [...net.parameters(), ...net.buffers()]) {
      expect(tensor.dtype).toBe(seen.parameter);
    }
  });

  it.each(MODES)("$precision: gradients have the parameters' dtype, and a step works", (mode) => {
    const fabric = new mp.Fabric({
      ...DEVICE,
      precision: mode.precision,
      scaler: mode.scaled ? { initScale: 256 } : undefined,
    });
    const net = makeNet();
    const [model, optimizer] = fabric.setup(net, new mp.AdamW(net.parameters(), { lr: 0.01 }));
    const before = weightsOf(net);
    const { x, labels } = batch(0);
    const loss = mp.crossEntropy(model.forward(x), labels);
    expect(loss.dtype).toBe("float32");
    fabric.backward(loss);
    for (const { grad } of net.parameters()) expect(grad!.dtype).toBe(mode.parameter);
    expect(optimizer.step()).toEqual({
      skipped: false,
      foundInf: false,
      scale: mode.scaled ? 256 : 1,
    });
    expect(weightsOf(net)).not.toEqual(before);
    expect(
      weightsOf(net)
        .flat(2)
        .every((x) => Number.isFinite(x)),
    ).toBe(true);
  });

  it.each(MODES)("$precision converts every floating tensor in nested arguments", (mode) => {
    class Echo extends mp.nn.Module {
      got: unknown;
      override forward(...inputs: unknown[]): unknown {
        this.got = inputs;
        return inputs;
      }
    }
    const fabric = new mp.Fabric({ ...DEVICE, precision: mode.precision });
    const echo = new Echo();
    const model = fabric.setup(echo);
    const double = mp.ones([1], { dtype: "float64" });
    const half = mp.ones([1], { dtype: "float16" });
    const ids = mp.ones([1], { dtype: "int64" });
    const flag = ids.gt(0);
    const inputs = [double, [half, { ids, flag, deep: new Map([["x", double]]) }], 3, "text", null];
    const out = model.forward(...inputs);
    const dtypes = (value: unknown): unknown => {
      const [first, [second, { ids: third, flag: fourth, deep }], ...rest] = value as [
        mp.Tensor,
        [mp.Tensor, { ids: mp.Tensor; flag: mp.Tensor; deep: Map<string, mp.Tensor> }],
        ...unknown[],
      ];
      const tensors = [first, second, third, fourth, deep.get("x")!];
      return [...tensors.map((tensor) => tensor.dtype), ...rest];
    };
    const converted = (to: mp.DType | null): unknown => [
      to ?? F64,
      to ?? F16,
      "int64",
      "bool",
      to ?? F64,
      3,
      "text",
      null,
    ];
    const isPlain = mode.precision === "32-true";
    expect(dtypes(echo.got)).toEqual(converted(isPlain ? null : mode.input));
    expect(dtypes(out)).toEqual(converted(isPlain ? null : "float32"));
    // The caller's own are as they were.
    expect([double.dtype, half.dtype]).toEqual([F64, F16]);
  });

  it("leaves arguments and outputs alone where nothing is converted", () => {
    const seen: unknown[] = [];
    class Same extends mp.nn.Module {
      override forward(x: unknown): unknown {
        seen.push(x);
        return x;
      }
    }
    const model = new mp.Fabric({ ...DEVICE, precision: "bf16-mixed" }).setup(new Same());
    const input = { ids: mp.ones([1], { dtype: "int64" }), options: { deep: [1, 2] } };
    expect(model.forward(input)).toBe(input);
    expect(seen[0]).toBe(input);
  });

  it("gives gradients to float64 inputs of a float16 model", () => {
    const fabric = new mp.Fabric({ ...DEVICE, precision: "bf16-true" });
    const model = fabric.setup(makeNet());
    const x = mp.ones([2, 4], { dtype: "float64", requiresGrad: true });
    fabric.backward(model.forward(x).sum());
    expect(x.grad!.dtype).toBe("float64");
  });

  it.each(MODES)("$precision: autocast() is the forward's region, without conversions", (mode) => {
    const fabric = new mp.Fabric({ ...DEVICE, precision: mode.precision });
    const x = mp.ones([2, 2]);
    const low = mode.precision.endsWith("mixed") ? mode.hidden : "float32";
    const [dtype, enabled] = fabric.autocast(() => [mp.matmul(x, x).dtype, mp.isAutocastEnabled()]);
    expect(dtype).toBe(low);
    expect(enabled).toBe(low !== "float32");
  });

  it("16-mixed is float16 on the CPU, too", () => {
    const fabric = new mp.Fabric({ ...DEVICE, precision: "16-mixed" });
    expect(fabric.autocast(() => mp.getAutocastDtype())).toBe("float16");
    expect(fabric.scaler!.getScale()).toBe(65536);
  });

  it.each([
    [16, "16-mixed"],
    ["bf16", "bf16-mixed"],
    [64, "64-true"],
    [undefined, "32-true"],
  ])("takes the alias %j", (precision, name) => {
    expect(new mp.Fabric({ ...DEVICE, precision: precision as "16" }).precision).toBe(name);
  });

  it("makes modules and tensors in the precision's dtype", () => {
    const fabric = new mp.Fabric({ ...DEVICE, precision: "bf16-true" });
    const module = fabric.initModule(() => new Net());
    expect(module).toBeInstanceOf(Net);
    expect(module.first.weight.dtype).toBe("bfloat16");
    const [made, ids] = fabric.initTensor(() => [
      mp.zeros([2]),
      mp.arange(0, 2, 1, { dtype: "int64" }),
    ]);
    expect(made.dtype).toBe("bfloat16");
    expect(ids.dtype).toBe("int64");
    expect(() => fabric.initModule(() => 3 as unknown as Net)).toThrow(mp.ArgumentError);
    const mixed = new mp.Fabric({ ...DEVICE, precision: "bf16-mixed" });
    expect(mixed.initModule(() => new Net()).first.weight.dtype).toBe("float32");
  });
});

describe("Fabric options", () => {
  it.each([
    [{ accelerator: "tpu" }, /accelerator.*auto, cpu, cuda, gpu.*"tpu"/],
    [{ strategy: "ddp" }, /strategy.*single_device.*"ddp".*one device/],
    [{ devices: 2 }, /devices.*several devices is not supported/],
    [{ devices: -1 }, /devices/],
    [{ devices: [0, 1] }, /devices.*\[0,1\]/],
    [{ devices: "2" }, /devices/],
    [{ precision: "fp8" }, /precision.*32-true.*"fp8"/],
    [{ precision: "bf16-mixed", scaler: {} }, /scaler.*16-mixed.*bf16-mixed/],
    [{ scaler: new mp.GradScaler() }, /scaler.*32-true/],
    [{ precision: "16-mixed", scaler: { initScale: -1 } }, /initScale/],
    [{ precison: "16-mixed" }, /there is no option "precison"/],
    [{ plugins: [] }, /there is no option "plugins"/],
    [{ seed: -1 }, /seed/],
  ])("%j is an error", (options, message) => {
    const make = (): unknown => new mp.Fabric(options as mp.FabricOptions);
    expect(make).toThrow(mp.ArgumentError);
    expect(make).toThrow(message);
  });

  it.each([
    [{ devices: 1 }],
    [{ devices: "1" }],
    [{ devices: "auto" }],
    [{ devices: [0] }],
    [{ strategy: "auto" }],
    [{ strategy: "single_device" }],
    [{}],
  ])("%j is one device", (options) => {
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, ...options } as mp.FabricOptions);
    expect(fabric.device).toBe(TEST_DEVICE);
    const { worldSize, globalRank, localRank, nodeRank, isGlobalZero } = fabric;
    expect([worldSize, globalRank, localRank, nodeRank, isGlobalZero]).toEqual([1, 0, 0, 0, true]);
  });

  it("takes the CPU as device 0 only", () => {
    expect(() => new mp.Fabric({ accelerator: "cpu", devices: [1] })).toThrow(mp.DeviceError);
  });

  it.runIf(!mp.cuda.isAvailable())("says where there is no CUDA device", () => {
    expect(new mp.Fabric().device).toBe("cpu");
    for (const accelerator of ["cuda", "gpu"] as const) {
      expect(() => new mp.Fabric({ accelerator })).toThrow(mp.DeviceError);
      expect(() => new mp.Fabric({ accelerator })).toThrow(/accelerator "cpu"/);
    }
  });

  it("knows Transformer Engine's precisions, and has them not", () => {
    expect(() => new mp.Fabric({ precision: "transformer-engine" })).toThrow(mp.DeviceError);
  });

  it("takes a scaler, or options for one", () => {
    const scaler = new mp.GradScaler({ initScale: 4 });
    expect(new mp.Fabric({ ...DEVICE, precision: 16, scaler }).scaler).toBe(scaler);
    const fabric = new mp.Fabric({ ...DEVICE, precision: 16, scaler: { initScale: 8 } });
    expect(fabric.scaler!.getScale()).toBe(8);
  });
});
