// Modules against torch: state dictionaries, outputs, gradients, buffers.
import { describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import {
  compareWith,
  goldenTensor,
  readGolden,
  type GoldenTensor,
  type Tolerance,
} from "../helpers/golden.js";

interface ModuleCase {
  readonly name: string;
  readonly module: string;
  readonly args: readonly unknown[];
  readonly state: Readonly<Record<string, GoldenTensor>>;
  readonly training: boolean;
  readonly inputs: readonly GoldenTensor[];
  readonly call: readonly unknown[];
  readonly outputs: readonly (GoldenTensor | null)[];
  readonly gradOutputs: readonly GoldenTensor[];
  readonly grads: {
    readonly inputs: readonly GoldenTensor[];
    readonly parameters: Readonly<Record<string, GoldenTensor>>;
  };
  readonly after?: Readonly<Record<string, GoldenTensor>>;
}

const { cases } = readGolden("nn.json") as { cases: ModuleCase[] };

const TOLERANCES: Readonly<Record<"float64" | "float32", Tolerance>> = {
  float64: { relative: 1e-11, absolute: 1e-12, ofLargest: 1e-12 },
  float32: { relative: 2e-5, absolute: 2e-6, ofLargest: 2e-6 },
};

type Build = new (...args: unknown[]) => mp.nn.Module;

function construct({ module, args }: ModuleCase): mp.nn.Module {
  const ModuleClass = (mp.nn as unknown as Record<string, Build>)[module]!;
  return new ModuleClass(...args);
}

function fillIn(value: unknown, inputs: readonly mp.Tensor[]): unknown {
  if (typeof value !== "object" || value === null) return value;
  if ("$" in value) return inputs[value.$ as number]!;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, fillIn(v, inputs)]));
}

const tensors = (golden: Readonly<Record<string, GoldenTensor>>): Record<string, mp.Tensor> =>
  Object.fromEntries(Object.entries(golden).map(([key, value]) => [key, goldenTensor(value)]));

describe.each(["float64", "float32"] as const)("%s", (dtype) => {
  const tolerance = TOLERANCES[dtype];
  const like = (golden: GoldenTensor): GoldenTensor =>
    golden.dtype === "float64" ? { ...golden, dtype } : golden;
  const problems: string[] = [];
  const compare = (what: string, actual: mp.Tensor | null, golden: GoldenTensor | null): void => {
    if (actual === null || golden === null) {
      if (actual !== golden) problems.push(`${what}: expected a tensor and null`);
      return;
    }
    const difference = compareWith(actual, like(golden), { tolerance });
    if (difference !== null) problems.push(`${what}: ${difference}`);
  };

  it.each(cases.map((entry) => [entry.name, entry] as const))("%s", (_, entry) => {
    problems.length = 0;
    const module = construct(entry).to(dtype).train(entry.training);
    expect(Object.keys(module.stateDict())).toEqual(Object.keys(entry.state));
    module.loadStateDict(tensors(entry.state));
    const inputs = entry.inputs.map((golden) => {
      const given = goldenTensor(golden);
      if (golden.dtype !== "float64") return given;
      const leaf = given.detach().to(dtype);
      leaf.requiresGrad = golden.grad === true;
      return leaf;
    });
    const result = module.forward(...entry.call.map((arg) => fillIn(arg, inputs)));
    const outputs = (Array.isArray(result) ? result : [result]) as (mp.Tensor | null)[];
    expect(outputs).toHaveLength(entry.outputs.length);
    outputs.forEach((output, i) => {
      compare(`output ${i}`, output, entry.outputs[i]!);
    });
    const active = outputs.filter((output) => output?.requiresGrad === true) as mp.Tensor[];
    expect(active).toHaveLength(entry.gradOutputs.length);
    const leaves = inputs.filter((input) => input.requiresGrad);
    const parameters = module.namedParameters();
    expect(parameters.map(([name]) => name)).toEqual(Object.keys(entry.grads.parameters));
    const wanted = [...leaves, ...parameters.map(([, parameter]) => parameter)];
    if (wanted.length > 0) {
      const gradOutputs = entry.gradOutputs.map((golden) => goldenTensor(golden).to(dtype));
      const grads = mp.grad(active, wanted, { gradOutputs });
      leaves.forEach((_leaf, i) => {
        compare(`gradient of input ${i}`, grads[i]!, entry.grads.inputs[i]!);
      });
      parameters.forEach(([name], i) => {
        const golden = entry.grads.parameters[name]!;
        compare(`gradient of ${name}`, grads[leaves.length + i]!, golden);
      });
    }
    const buffers = new Map(module.namedBuffers());
    for (const [name, golden] of Object.entries(entry.after ?? {})) {
      compare(`${name} afterwards`, buffers.get(name) ?? null, golden);
    }
    expect(problems).toEqual([]);
  });
});
