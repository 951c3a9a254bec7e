import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import * as mp from "../../../lib/index.js";
import {
  compareWith,
  elements,
  goldenTensor,
  readGolden,
  type GoldenTensor,
  type Tolerance,
} from "../../helpers/golden.js";

const { LlamaForCausalLM } = mp;

const GOLDEN = fileURLToPath(new URL("../../golden/llama/", import.meta.url));
const KINDS = ["llama", "grouped", "llama3", "linear", "dynamic", "mistral", "qwen2"];
/** Where config.json does not say. */
const LLAMA_THETA = 10000;
const TOLERANCE: Tolerance = { relative: 1e-5, absolute: 1e-5 };

interface Expected {
  readonly ids: GoldenTensor;
  readonly logits: GoldenTensor;
  readonly loss: GoldenTensor;
  readonly grads: Readonly<Record<string, GoldenTensor>>;
  readonly greedy: readonly number[];
}

const expectedOf = (kind: string): Expected =>
  readGolden(`llama/${kind}/expected.json`) as Expected;
const asFloat32 = (golden: GoldenTensor): GoldenTensor => ({ ...golden, dtype: "float32" });
const load = (kind: string): Promise<mp.LlamaForCausalLM> =>
  LlamaForCausalLM.fromPretrained(path.join(GOLDEN, kind), { dtype: "float32" });

async function configOf(kind: string): Promise<Record<string, unknown>> {
  const text = await readFile(path.join(GOLDEN, kind, "config.json"), "utf8");
  return JSON.parse(text) as Record<string, unknown>;
}

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-llama-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe.each(KINDS)("LlamaForCausalLM, %s", (kind) => {
  const expected = expectedOf(kind);

  it("computes torch's logits, loss and gradients", async () => {
    using model = await load(kind);
    const ids = goldenTensor(expected.ids);
    const { logits, loss } = model.forward(ids, { labels: ids });
    expect(compareWith(logits, asFloat32(expected.logits), { tolerance: TOLERANCE })).toBeNull();
    expect(compareWith(loss!, asFloat32(expected.loss), { tolerance: TOLERANCE })).toBeNull();
    loss!.backward();
    const named = model.namedParameters();
    expect(named.map(([name]) => name).sort()).toEqual(Object.keys(expected.grads).sort());
    for (const [name, parameter] of named) {
      const golden = asFloat32(expected.grads[name]!);
      const difference = compareWith(parameter.grad!, golden, { tolerance: TOLERANCE });
      expect(difference === null ? null : `${name}: ${difference}`).toBeNull();
    }
  });

  it("continues greedily as torch does", async () => {
    using model = await load(kind);
    const ids = expected.greedy.slice(0, 4);
    while (ids.length < expected.greedy.length) {
      const { logits } = mp.noGrad(() => model.forward(mp.tensor([ids], { dtype: "int64" })));
      ids.push(mp.argmax(mp.select(mp.select(logits, 0, 0), 0, -1)).item());
    }
    expect(ids).toEqual(expected.greedy);
  });

  it("saves what it loads, and computes the same from it", async () => {
    using model = await load(kind);
    await model.saveAs(directory);
    using again = await LlamaForCausalLM.fromPretrained(directory);
    expect(again.config).toEqual(model.config);
    const ids = goldenTensor(expected.ids);
    expect(elements(again.forward(ids).logits)).toEqual(elements(model.forward(ids).logits));
  });
});

describe("LlamaForCausalLM", () => {
  // Padding in front shifts positions, to which only dynamic scaling is not indifferent.
  it.each(["llama", "mistral", "qwen2"])("gives padded rows the same logits, %s", async (kind) => {
    using model = await load(kind);
    const row = mp.narrow(goldenTensor(expectedOf(kind).ids), 0, 0, 1);
    const plain = elements(model.forward(row).logits);
    const padding = mp.zeros([1, 3], { dtype: "int64" });
    for (const left of [true, false]) {
      const ids = mp.cat(left ? [padding, row] : [row, padding], 1);
      const seen = mp.ones([1, 7], { dtype: "int64" });
      const attentionMask = mp.cat(left ? [padding, seen] : [seen, padding], 1);
      const { logits } = model.forward(ids, { attentionMask });
      const own = elements(mp.narrow(logits, 1, left ? 3 : 0, 7));
      own.forEach((value, i) => {
        expect(Math.abs(value - plain[i]!)).toBeLessThan(1e-5);
      });
    }
  });

  it("refuses ids that are longer than its positions", async () => {
    using model = await load("llama");
    expect(() => model.forward(mp.zeros([1, 33], { dtype: "int64" }))).toThrow(
      /sequences of 33 tokens, the model has 32 positions/,
    );
  });

  it("reads rope_parameters, which newer files have for rope_scaling and rope_theta", async () => {
    const { rope_scaling, rope_theta, ...rest } = await configOf("llama3");
    expect(rope_theta).not.toBe(LLAMA_THETA);
    const rope_parameters = { ...(rope_scaling as object), rope_theta };
    using older = LlamaForCausalLM.fromConfig({ ...rest, rope_scaling, rope_theta });
    using newer = LlamaForCausalLM.fromConfig({ ...rest, rope_parameters });
    expect(older.config.ropeScaling?.kind).toBe("llama3");
    expect(newer.config).toEqual(older.config);
    const plain = { ...rest, rope_parameters: { rope_type: "default", rope_theta: 500 } };
    using unscaled = LlamaForCausalLM.fromConfig(plain);
    expect(unscaled.config).toMatchObject({ ropeScaling: null, ropeTheta: 500 });
  });

  const refused: readonly [string, Record<string, unknown>, RegExp][] = [
    ["another model", { model_type: "gpt2" }, /model_type "llama" or "mistral" or "qwen2"/],
    ["another activation", { hidden_act: "gelu" }, /hidden_act "silu" or "swish", got "gelu"/],
    ["another scaling", { rope_scaling: { type: "yarn", factor: 2 } }, /got "yarn"/],
    ["a scaling without factor", { rope_scaling: { type: "linear" } }, /factor above 0/],
    ["rope_parameters of no object", { rope_parameters: 3 }, /rope_parameters to be an object/],
    ["heads that do not fit", { num_key_value_heads: 3 }, /numKeyValueHeads to divide/],
    ["quantized weights", { quantization_config: { bits: 4 } }, /quantization_config/],
    ["a text for a number", { hidden_size: "16" }, /hidden_size to be a number/],
  ];
  it.each(refused)("refuses %s", async (_, change, message) => {
    const config = { ...(await configOf("llama")), ...change };
    expect(() => LlamaForCausalLM.fromConfig(config)).toThrow(mp.CheckpointError);
    expect(() => LlamaForCausalLM.fromConfig(config)).toThrow(message);
  });

  it("refuses weights that are missing, and names others", async () => {
    const weights = await mp.loadSafetensors(path.join(GOLDEN, "llama", "model.safetensors"));
    await writeFile(path.join(directory, "config.json"), JSON.stringify(await configOf("llama")));
    const file = path.join(directory, "model.safetensors");
    const more = { ...weights, "rotary_emb.inv_freq": mp.ones([2]), other: mp.ones([2]) };
    await mp.saveSafetensors(file, more);
    using model = await LlamaForCausalLM.fromPretrained(directory);
    expect(model.loadReport?.unexpectedKeys).toEqual(["other"]);
    const rest = Object.entries(weights).filter(([name]) => name !== "model.norm.weight");
    await mp.saveSafetensors(file, rest);
    await expect(LlamaForCausalLM.fromPretrained(directory)).rejects.toThrow(
      /lacks the tensor model\.norm\.weight/,
    );
  });
});
