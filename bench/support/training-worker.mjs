// Our contestant of training.bench.mjs: the training step of a DistilBERT classifier at one precision,
// with dropout, as bench/rivals/pytorch_training.py does it. The protocol is that of contestant.mjs.
// Usage: training-worker.mjs SIZE PRECISION MATMUL_PRECISION THREADS WARMUP

import { createInterface } from "node:readline";

import {
  DistilBertForSequenceClassification,
  Fabric,
  manualSeed,
  memory,
  optim,
  ones,
  randint,
  setNumThreads,
  tidy,
  withFloat32MatmulPrecision,
} from "mixprec";

// The same as SIZES of the rival; "builtin" is what `mixprec finetune` trains by itself.
const SIZES = {
  full: { config: {}, batch: 4, length: 128 },
  small: {
    config: { vocabSize: 8192, dim: 256, nHeads: 4, hiddenDim: 1024, nLayers: 4 },
    batch: 16,
    length: 128,
  },
  builtin: {
    config: { vocabSize: 1000, dim: 64, nHeads: 4, hiddenDim: 128, nLayers: 2 },
    batch: 16,
    length: 64,
  },
};

const [size, precision, matmulPrecision, threads, warmup] = process.argv.slice(2);
setNumThreads(Number(threads));
manualSeed(0);

const { config, batch, length } = SIZES[size];
const fabric = new Fabric({ precision });
const bare = new DistilBertForSequenceClassification(config);
const parameters = bare.parameters().reduce((total, { numel }) => total + numel, 0);
const [model, optimizer] = fabric.setup(bare, new optim.AdamW(bare.parameters(), { lr: 5e-5 }));
model.train();
const ids = randint(1, bare.config.vocabSize, [batch, length]);
const attentionMask = ones([batch, length], { dtype: "int64" });
const labels = randint(0, bare.config.numLabels, [batch]);

function train() {
  optimizer.zeroGrad();
  const { loss } = model.forward(ids, { attentionMask, labels });
  fabric.backward(loss);
  fabric.optimizerStep(optimizer);
  return loss.item();
}

function step() {
  const cpuBefore = process.cpuUsage();
  const before = performance.now();
  const loss = withFloat32MatmulPrecision(matmulPrecision, () => tidy(train));
  const seconds = (performance.now() - before) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { seconds, cpuSeconds: (user + system) / 1e6, loss };
}

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

for (let i = 0; i < Number(warmup); i++) step();
say({ ready: true, parameters, batch, length });
for await (const line of createInterface({ input: process.stdin })) {
  const steps = Array.from({ length: Number(line) }, step);
  say({
    seconds: steps.map(({ seconds }) => seconds),
    cpuSeconds: steps.map(({ cpuSeconds }) => cpuSeconds),
    loss: steps.at(-1)?.loss,
    peakBytes: memory.maxMemoryAllocated(),
    reservedBytes: memory.maxMemoryReserved(),
    residentBytes: process.resourceUsage().maxRSS * 1024,
  });
}
