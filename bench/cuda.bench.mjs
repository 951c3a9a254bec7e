// Operations on the GPU: those that move memory as GB/s of what has to be moved, products as TFLOP/s;
// medians of rounds, each of as many calls as take a tenth of a second. Operands are random, since
// zeros take less power, and larger than the caches. bench/rivals/pytorch_cuda.py has the same rows.
// Usage: node bench/cuda.bench.mjs [--json]   (one line of JSON for each row)

import { parseArgs } from "node:util";

const mp = await import("../dist/index.js");
const { values } = parseArgs({ options: { json: { type: "boolean" } } });

const ROUNDS = 9;
const ROUND_SECONDS = 0.1;
const ROWS = 16384;
const COLUMNS = 4096;
const device = "cuda";

function seconds(body, calls) {
  mp.cuda.synchronize();
  const start = performance.now();
  for (let i = 0; i < calls; i++) mp.tidy(body);
  mp.cuda.synchronize();
  return (performance.now() - start) / 1000 / calls;
}

/** Seconds of a call: median and quartiles. */
function measure(body) {
  seconds(body, 3);
  const calls = Math.max(1, Math.round(ROUND_SECONDS / seconds(body, 3)));
  const times = Array.from({ length: ROUNDS }, () => seconds(body, calls)).sort((a, b) => a - b);
  return { median: times[4], low: times[2], high: times[6] };
}

function report(name, amount, unit, body) {
  const time = measure(body);
  const rate = amount / time.median / (unit === "GB/s" ? 1e9 : 1e12);
  const row = { name, [unit]: Number(rate.toFixed(2)), seconds: time };
  if (values.json) console.log(JSON.stringify(row));
  else console.log(`${name.padEnd(36)} ${rate.toFixed(1).padStart(9)} ${unit}`);
}

function memoryRows(dtype, size) {
  const x = mp.randn([ROWS, COLUMNS], { device }).to(dtype);
  const y = mp.randn([ROWS, COLUMNS], { device }).to(dtype);
  const weight = mp.ones([COLUMNS], { device });
  const bias = mp.zeros([COLUMNS], { device });
  const bytes = ROWS * COLUMNS * size;
  report(`copy ${dtype}`, 2 * bytes, "GB/s", () => x.clone());
  report(`add ${dtype}`, 3 * bytes, "GB/s", () => x.add(y));
  report(`gelu ${dtype}`, 2 * bytes, "GB/s", () => mp.gelu(x));
  report(`sum of rows ${dtype}`, bytes, "GB/s", () => x.sum({ dim: 1 }));
  report(`softmax ${dtype}`, 2 * bytes, "GB/s", () => mp.softmax(x, { dim: 1 }));
  report(`layerNorm ${dtype}`, 2 * bytes, "GB/s", () =>
    mp.layerNorm(x, [COLUMNS], weight.to(dtype), bias.to(dtype)),
  );
  for (const tensor of [x, y, weight, bias]) tensor.dispose();
}

function products(dtype, size, precision) {
  const x = mp.randn([size, size], { device }).to(dtype);
  const y = mp.randn([size, size], { device }).to(dtype);
  const name = `matmul ${dtype}${precision ? ` ${precision}` : ""} ${size}`;
  const run = () => report(name, 2 * size ** 3, "TFLOP/s", () => x.matmul(y));
  if (precision) mp.withFloat32MatmulPrecision(precision, run);
  else run();
  x.dispose();
  y.dispose();
}

/** AdamW over float32 parameters: 28 bytes each. */
function optimizerRow() {
  const count = 124_000_000;
  const parameter = mp.randn([count], { device });
  parameter.requiresGrad = true;
  parameter.grad = mp.randn([count], { device });
  const optimizer = new mp.optim.AdamW([parameter], { lr: 1e-4 });
  report("AdamW float32, 124 M", 28 * count, "GB/s", () => optimizer.step());
}

if (!mp.cuda.isAvailable()) {
  console.log("no GPU: nothing was measured");
} else if (/emulated/.test(mp.cuda.deviceProperties().name)) {
  throw new Error("the emulated device is for tests, its times say nothing");
} else {
  mp.manualSeed(1);
  mp.noGrad(() => {
    memoryRows("float32", 4);
    memoryRows("bfloat16", 2);
    products("bfloat16", 4096);
    products("float16", 4096);
    products("float32", 4096, "highest");
    products("float32", 4096, "high");
    products("float64", 2048);
  });
  optimizerRow();
}
