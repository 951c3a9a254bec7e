// What an operation costs from JavaScript: over tensors so small that the arithmetic does not
// count. Columns: without recording, each result disposed; inside tidy; left to the collector; and
// with gradients, the share of one operation in a recorded step and its backward.
//
// Times are processor time of this process, one thread, medians of repeated rounds: on a machine
// that others use too, wall time would measure them.

import os from "node:os";

process.env.MIXPREC_NUM_THREADS = "1";
const mp = await import("../dist/index.js");

const TARGET = 2000;
const ITERATIONS = 5000;
const ROUNDS = 9;

const x = mp.ones([4, 4]);
const y = mp.ones([4, 4]);
const bias = mp.ones([4]);
const ids = mp.tensor([0, 1, 2, 3], { dtype: "int64" });
const dense = x.expand([4, 4]).clone();
const image = mp.ones([1, 1, 4, 4]);
const kernel = mp.ones([1, 1, 2, 2]);
const heads = mp.ones([1, 1, 4, 4]);

const PRIMITIVES = {
  add: (a) => mp.add(a, y),
  "add, number": (a) => mp.add(a, 1),
  "add, method": (a) => a.add(y),
  mul: (a) => mp.mul(a, y),
  relu: (a) => mp.relu(a),
  exp: (a) => mp.exp(a),
  gelu: (a) => mp.gelu(a),
  "to float16": (a) => mp.to(a, "float16"),
  sum: (a) => mp.sum(a),
  "mean, dim": (a) => mp.mean(a, { dim: 1 }),
  softmax: (a) => mp.softmax(a),
  matmul: (a) => mp.matmul(a, y),
  linear: (a) => mp.linear(a, y, bias),
  reshape: (a) => mp.reshape(a, [2, 8]),
  transpose: (a) => mp.transpose(a, 0, 1),
  select: (a) => mp.select(a, 0, 1),
  narrow: (a) => mp.narrow(a, 0, 1, 2),
  cat: (a) => mp.cat([a, y], 0),
  embedding: (a) => mp.embedding(a, ids),
  gather: (a) => mp.gather(a, 1, ids.reshape([4, 1])),
  rmsNorm: (a) => mp.rmsNorm(a, 4, bias),
  layerNorm: (a) => mp.layerNorm(a, 4, bias, bias),
  dropout: (a) => mp.dropout(a, { p: 0.5 }),
};

/** Made of several operations, or of a kernel that does much more: for information. */
const COMPOSED = {
  attention: () => mp.scaledDotProductAttention(heads, heads, heads),
  crossEntropy: (a) => mp.crossEntropy(a, ids),
  mseLoss: (a) => mp.mseLoss(a, y),
  conv2d: () => mp.conv2d(image, kernel),
};

/** Processor time of one call in nanoseconds: the median over rounds. */
function measure(fn, iterations = ITERATIONS) {
  const round = () => {
    const start = process.cpuUsage();
    for (let i = 0; i < iterations; i++) fn();
    const { user, system } = process.cpuUsage(start);
    return ((user + system) * 1000) / iterations;
  };
  for (let i = 0; i < 3; i++) round();
  const times = Array.from({ length: ROUNDS }, round).sort((a, b) => a - b);
  return times[ROUNDS >> 1];
}

function row(name, fn) {
  const disposed = mp.noGrad(() => measure(() => fn(dense).dispose()));
  const tidied = mp.noGrad(() =>
    measure(() => {
      mp.tidy(() => {
        for (let i = 0; i < 10; i++) fn(dense);
      });
    }, ITERATIONS / 10),
  );
  const collected = mp.noGrad(() => measure(() => fn(dense)));
  return { name, disposed, tidied: tidied / 10, collected };
}

/** A chain of additions and its backward, for one addition. */
function recordedChain() {
  const leaf = mp.ones([4, 4], { requiresGrad: true });
  const seed = mp.ones([4, 4]);
  const length = 50;
  const time = measure(() => {
    mp.tidy(() => {
      let out = leaf;
      for (let i = 0; i < length; i++) out = out.mul(y);
      out.backward(seed);
    });
    leaf.grad.dispose();
    leaf.grad = null;
  }, ITERATIONS / length);
  return time / length;
}

const print = (cells) => {
  console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(14) : cell.padStart(12))).join(""));
};
const ns = (time) => `${time.toFixed(0)} ns`;

console.log(`${os.cpus()[0].model}, ${os.cpus().length} cores, Node ${process.versions.node}`);
print(["operation", "disposed", "tidy", "collected"]);
const rows = Object.entries(PRIMITIVES).map(([name, fn]) => row(name, fn));
for (const { name, disposed, tidied, collected } of rows) {
  print([name, ns(disposed), ns(tidied), ns(collected)]);
}
console.log("");
for (const [name, fn] of Object.entries(COMPOSED)) {
  const { disposed, tidied, collected } = row(name, fn);
  print([name, ns(disposed), ns(tidied), ns(collected)]);
}
console.log("");
console.log(`mul, recorded, with its backward (two more mul): ${ns(recordedChain())}`);
const over = rows.filter(({ disposed }) => disposed > TARGET).map(({ name }) => name);
console.log(
  over.length === 0
    ? `All operations take at most ${TARGET} ns.`
    : `Over the ${TARGET} ns that are the aim: ${over.join(", ")}.`,
);
