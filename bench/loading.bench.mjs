// Loading a DistilBERT base (268 MB in float32) whose file is in the page cache: time, and how much
// the process grows. Each load is a process of its own. MIXPREC_BENCH_REPEATS: how many.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { printLoading } from "./support/memory.mjs";
import { median, printTable, save } from "./support/report.mjs";
import { DistilBertForSequenceClassification, zeros } from "mixprec";

const megabytes = (bytes) => bytes / 1e6;

async function loadOnce(directory, dtype) {
  zeros([4]).dispose();
  await printLoading(() =>
    DistilBertForSequenceClassification.fromPretrained(directory, { dtype }),
  );
}

async function main() {
  const repeats = Number(process.env.MIXPREC_BENCH_REPEATS ?? 5);
  const root = mkdtempSync(path.join(tmpdir(), "mixprec-loading-"));
  try {
    const model = new DistilBertForSequenceClassification();
    const places = { "one file": {}, "six files": { maxShardSize: "50MB" } };
    for (const [name, options] of Object.entries(places)) {
      await model.savePretrained(path.join(root, name), options);
    }
    model.dispose();
    const figures = [];
    for (const name of Object.keys(places)) {
      const directory = path.join(root, name);
      const bytes = readdirSync(directory)
        .map((file) => statSync(path.join(directory, file)).size)
        .reduce((sum, size) => sum + size, 0);
      for (const dtype of ["float32", "bfloat16"]) {
        const script = fileURLToPath(import.meta.url);
        const runs = Array.from({ length: repeats }, () =>
          JSON.parse(
            execFileSync(process.execPath, [script, directory, dtype], { encoding: "utf8" }),
          ),
        );
        const seconds = median(runs.map((run) => run.seconds));
        const grown = Math.max(...runs.map((run) => run.grown));
        figures.push({ from: name, dtype, bytes, seconds, grown });
      }
    }
    printTable(
      ["from", "dtype", "file MB", "s", "grows MB"],
      figures.map(({ from, dtype, bytes, seconds, grown }) => [
        from,
        dtype,
        megabytes(bytes).toFixed(1),
        seconds.toFixed(3),
        megabytes(grown).toFixed(1),
      ]),
    );
    save("loading", { repeats, figures });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

const [directory, dtype] = process.argv.slice(2);
await (directory === undefined ? main() : loadOnce(directory, dtype));
