// What an operation costs from TypeScript: calls on tensors so small that computing takes no time, by
// operation, in microseconds a call. `plain` makes and disposes the result; `recorded` also records it
// on the tape, and lets go of that. The fastest of many rounds counts: what other processes take is
// no cost of ours. The project promises at most 2 µs.
// Usage: node bench/op-overhead.bench.mjs [--rounds N] [--calls N] [--save]

import { parseArgs } from "node:util";

import * as mp from "mixprec";
import { environment, median, printTable, save } from "./support/report.mjs";

const LIMIT = 2;

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "60" },
    calls: { type: "string", default: "2000" },
    save: { type: "boolean", default: false },
  },
});

mp.setNumThreads(1);
mp.manualSeed(0);
const x = mp.randn([2, 8]);
const y = mp.randn([2, 8]);
const row = mp.randn([8]);
const square = mp.randn([8, 8]);
const bias = mp.randn([8]);
const ids = mp.tensor([1, 2], { dtype: "int64" });
const labels = mp.tensor([1, 2], { dtype: "int64" });
const mask = mp.gt(x, 0);
const floats = [x, y, row, square, bias];

const OPS = {
  add: () => mp.add(x, y),
  "add (broadcast)": () => mp.add(x, row),
  "mul (number)": () => mp.mul(x, 2),
  exp: () => mp.exp(x),
  gelu: () => mp.gelu(x),
  where: () => mp.where(mask, x, y),
  "to float16": () => mp.to(x, "float16"),
  sum: () => mp.sum(x),
  "mean (dim)": () => mp.mean(x, { dim: 1 }),
  softmax: () => mp.softmax(x, { dim: 1 }),
  layerNorm: () => mp.layerNorm(x, [8], row, bias),
  matmul: () => mp.matmul(x, square),
  linear: () => mp.linear(x, square, bias),
  dropout: () => mp.dropout(x, { p: 0.1, training: true }),
  embedding: () => mp.embedding(square, ids),
  crossEntropy: () => mp.crossEntropy(x, labels),
  reshape: () => mp.reshape(x, [4, 4]),
  transpose: () => mp.transpose(x, 0, 1),
  narrow: () => mp.narrow(x, 1, 2, 4),
};

/** Microseconds a call: the fastest round and the median of them. */
function measure(op) {
  const calls = Number(options.calls);
  const times = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    const start = performance.now();
    for (let i = 0; i < calls; i++) {
      const result = op();
      // Backward would let go of what was saved; here nobody runs it.
      result.node?.free();
      result.dispose();
    }
    times.push(((performance.now() - start) * 1000) / calls);
  }
  // The first rounds compile.
  const settled = times.slice(times.length >> 2);
  return { fastest: Math.min(...settled), median: median(settled) };
}

const results = Object.entries(OPS).map(([name, op]) => {
  for (const tensor of floats) tensor.requiresGrad = false;
  const plain = measure(op);
  for (const tensor of floats) tensor.requiresGrad = true;
  const recorded = measure(op);
  return { name, plain, recorded };
});

const { processor, commit, loadAverage } = environment();
console.log(`${processor}, commit ${commit}, load average ${loadAverage.toFixed(1)}`);
const cell = (value) => value.toFixed(2);
printTable(
  ["operation", "plain (µs)", "median", "recorded (µs)", "median", ""],
  results.map(({ name, plain, recorded }) => [
    name,
    cell(plain.fastest),
    cell(plain.median),
    cell(recorded.fastest),
    cell(recorded.median),
    plain.fastest <= LIMIT ? "" : `above ${LIMIT} µs`,
  ]),
);
if (options.save) save("op-overhead", { limitMicroseconds: LIMIT, operations: results });
