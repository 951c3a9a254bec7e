// Training steps end to end (forward, backward, AdamW; DistilBERT with dropout): our float32 next to
// PyTorch on the CPU, where that is installed, and every precision next to our float32, on one row
// each. Every contestant is a process of its own; two at a time take turns step by step, so that a
// machine whose speed drifts slows both. Times are medians, ratios medians of neighbouring steps.
// Usage: node bench/training.bench.mjs [--size small|full|builtin]... [--precision NAME]...
//   [--steps N] [--warmup N] [--threads N] [--no-rival] [--python FILE] [--save]
// The rival's python3 is the first of --python, $MIXPREC_RIVAL_PYTHON, python3 and /usr/bin/python3
// that imports torch.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Contestant } from "./support/contestant.mjs";
import { environment, median, medianRatio, printTable, save } from "./support/report.mjs";

const MODES = {
  "float32 highest": ["32-true", "highest"],
  "float32 high": ["32-true", "high"],
  "float32 medium": ["32-true", "medium"],
  "float16 mixed": ["16-mixed", "highest"],
  "bfloat16 mixed": ["bf16-mixed", "highest"],
  "bfloat16 pure": ["bf16-true", "highest"],
  "float16 pure": ["16-true", "highest"],
  float64: ["64-true", "highest"],
};
const BASE = "float32 highest";
// What the project promises: our float32 step in less than this share of PyTorch's time, and pure
// 16-bit training in at most this share of float32's memory.
const TIME_LIMITS = { small: 0.6, full: 0.7 };
const MEMORY_LIMIT = 0.55;

const here = (file) => fileURLToPath(new URL(file, import.meta.url));

const { values: options } = parseArgs({
  allowNegative: true,
  options: {
    size: { type: "string", multiple: true, default: ["small", "full", "builtin"] },
    precision: { type: "string", multiple: true, default: Object.keys(MODES) },
    steps: { type: "string", default: "9" },
    warmup: { type: "string", default: "2" },
    threads: { type: "string", default: "2" },
    rival: { type: "boolean", default: true },
    python: { type: "string" },
    save: { type: "boolean", default: false },
  },
});

// The rival runs at its best: with no settings that choose kernels for another machine, and with the
// better of two ways in which its threads wait: by default those of OpenMP spin, and take the cores
// from those of OpenBLAS.
const RIVAL_WAITING = [undefined, "passive"];

function rivalEnvironment(waiting) {
  const environment = { ...process.env };
  if (waiting !== undefined) environment.OMP_WAIT_POLICY = waiting;
  delete environment.OPENBLAS_CORETYPE;
  delete environment.OPENBLAS_L2_SIZE;
  environment.OMP_NUM_THREADS = options.threads;
  environment.OPENBLAS_NUM_THREADS = options.threads;
  return environment;
}

function findRival() {
  const candidates = [
    options.python,
    process.env.MIXPREC_RIVAL_PYTHON,
    "python3",
    "/usr/bin/python3",
  ];
  return candidates.find(
    (python) => python && spawnSync(python, ["-c", "import torch"]).status === 0,
  );
}

function startRival(python, size, waiting) {
  const args = [here("rivals/pytorch_training.py"), "--size", size, "--serve"];
  args.push("--threads", options.threads, "--warmup", options.warmup);
  return new Contestant("pytorch", python, args, rivalEnvironment(waiting)).ready();
}

/** How the rival's threads wait, the fastest way first, and its median time in each. */
async function rankWaiting(python, size) {
  const contestants = [];
  for (const waiting of RIVAL_WAITING) {
    contestants.push(await startRival(python, size, waiting));
    contestants.at(-1).waiting = waiting;
  }
  await takeTurns(...contestants, 3);
  await Promise.all(contestants.map((contestant) => contestant.end()));
  return contestants
    .map(({ waiting, seconds }) => ({ waiting, medianSeconds: median(seconds) }))
    .sort((a, b) => a.medianSeconds - b.medianSeconds);
}

function startOurs(mode, size) {
  const args = [here("support/training-worker.mjs"), size, ...MODES[mode]];
  args.push(options.threads, options.warmup);
  return new Contestant(mode, process.execPath, args, process.env).ready();
}

/** Alternates between two contestants, who goes first too. */
async function takeTurns(first, second, steps = Number(options.steps)) {
  for (let i = 0; i < steps; i++) {
    for (const contestant of i % 2 === 0 ? [first, second] : [second, first]) {
      await contestant.step();
    }
  }
}

function figuresOf({ seconds, cpuSeconds, last }) {
  return { ...last, medianSeconds: median(seconds), medianCpuSeconds: median(cpuSeconds), seconds };
}

async function againstRival(python, size) {
  const ranking = await rankWaiting(python, size);
  const { waiting } = ranking[0];
  const ours = await startOurs(BASE, size);
  const rival = await startRival(python, size, waiting);
  try {
    await takeTurns(ours, rival);
  } finally {
    await Promise.all([ours.end(), rival.end()]);
  }
  return {
    rival: `PyTorch ${rival.description.torch}`,
    waiting: ranking.map((entry) => ({ ...entry, waiting: entry.waiting ?? "default" })),
    ours: figuresOf(ours),
    theirs: figuresOf(rival),
    ratio: medianRatio(ours.seconds, rival.seconds),
    cpuRatio: medianRatio(ours.cpuSeconds, rival.cpuSeconds),
    limit: TIME_LIMITS[size],
  };
}

async function againstBase(mode, size) {
  const ours = await startOurs(mode, size);
  const base = await startOurs(BASE, size);
  try {
    await takeTurns(ours, base);
  } finally {
    await Promise.all([ours.end(), base.end()]);
  }
  return {
    mode,
    ...figuresOf(ours),
    timeRatio: medianRatio(ours.seconds, base.seconds),
    memoryRatio: ours.last.peakBytes / base.last.peakBytes,
    base: figuresOf(base),
  };
}

const milliseconds = (seconds) => (1000 * seconds).toFixed(1);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const times = (ratio) => `${ratio.toFixed(3)}x`;

function verdict(value, limit) {
  return limit === undefined ? "" : `${value < limit ? "below" : "NOT below"} ${limit}`;
}

function printRival(size, { rival, waiting, ours, theirs, ratio, cpuRatio, limit }) {
  const tried = waiting.map((entry) => `${entry.waiting} ${milliseconds(entry.medianSeconds)} ms`);
  console.log(`${rival} by the way its threads wait: ${tried.join(", ")}; the first is measured`);
  const row = [size, milliseconds(ours.medianSeconds), milliseconds(theirs.medianSeconds)];
  row.push(times(ratio), times(cpuRatio), verdict(ratio, limit));
  printTable(["size", "ours (ms)", `${rival} (ms)`, "time", "CPU time", ""], [row]);
}

function printModes(results) {
  const rows = results.map((result) => [
    result.mode,
    milliseconds(result.medianSeconds),
    milliseconds(result.base.medianSeconds),
    times(result.timeRatio),
    megabytes(result.peakBytes),
    times(result.memoryRatio),
    result.mode.endsWith("pure") ? verdict(result.memoryRatio, MEMORY_LIMIT) : "",
  ]);
  const titles = ["precision", "step (ms)", "float32 (ms)", "time", "peak (MB)", "memory", ""];
  printTable(titles, rows);
}

const { processor, cores, loadAverage, commit } = environment();
console.log(
  `${processor}, ${cores} cores, ${options.threads} threads, commit ${commit}, ` +
    `load average ${loadAverage.toFixed(1)}`,
);
const python = options.rival ? findRival() : undefined;
if (options.rival && python === undefined)
  console.log("PyTorch is not installed: ours alone is measured");
for (const size of options.size) {
  const rival =
    python === undefined || !(size in TIME_LIMITS) ? null : await againstRival(python, size);
  if (rival !== null) printRival(size, rival);
  const precisions = [];
  for (const mode of options.precision) {
    if (mode !== BASE) precisions.push(await againstBase(mode, size));
  }
  if (precisions.length > 0) printModes(precisions);
  if (options.save)
    save(`training-${size}`, { threads: Number(options.threads), rival, precisions });
}
