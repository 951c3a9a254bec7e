// Loading a sharded checkpoint of 13 GB (a BERT of 3.2 billion parameters in float32) as bfloat16:
// how much the process grows beyond the model. The files are sparse: they hold zeros, and take no
// space on the disk. Needs 8 GB of memory.
import { execFileSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { printLoading } from "./support/memory.mjs";
import { printTable, save } from "./support/report.mjs";
import { BertForSequenceClassification, zeros } from "mixprec";

const LAYERS = 16;
const SHARD_BYTES = 2e9;

const size = { hiddenSize: 4096, intermediateSize: 16384, numAttentionHeads: 32 };
/** The same in config.json. */
const config = {
  model_type: "bert",
  hidden_size: size.hiddenSize,
  intermediate_size: size.intermediateSize,
  num_attention_heads: size.numAttentionHeads,
  num_hidden_layers: LAYERS,
};

/** Names and shapes of all weights, from those of a model of one layer. */
function layout() {
  const model = new BertForSequenceClassification({ ...size, numHiddenLayers: 1 });
  const entries = Object.entries(model.stateDict()).map(([name, tensor]) => [name, tensor.shape]);
  model.dispose();
  return entries.flatMap(([name, shape]) =>
    name.includes(".layer.0.")
      ? Array.from({ length: LAYERS }, (_, i) => [name.replace(".layer.0.", `.layer.${i}.`), shape])
      : [[name, shape]],
  );
}

const sizeOf = (shape) => 4 * shape.reduce((product, extent) => product * extent, 1);

function writeShard(file, entries) {
  let end = 0;
  const header = Object.fromEntries(
    entries.map(([name, shape]) => {
      const begin = end;
      end += sizeOf(shape);
      return [name, { dtype: "F32", shape, data_offsets: [begin, end] }];
    }),
  );
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const descriptor = openSync(file, "w");
  writeSync(descriptor, Buffer.concat([length, json]));
  ftruncateSync(descriptor, 8 + json.length + end);
  closeSync(descriptor);
}

function writeCheckpoint(directory, entries) {
  const shards = [[]];
  let bytes = 0;
  for (const entry of entries) {
    if (bytes + sizeOf(entry[1]) > SHARD_BYTES) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1).push(entry);
    bytes += sizeOf(entry[1]);
  }
  const weightMap = {};
  for (const [i, shard] of shards.entries()) {
    const file = `model-${i + 1}-of-${shards.length}.safetensors`;
    writeShard(path.join(directory, file), shard);
    for (const [name] of shard) weightMap[name] = file;
  }
  const index = { metadata: {}, weight_map: weightMap };
  writeFileSync(path.join(directory, "model.safetensors.index.json"), JSON.stringify(index));
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
  return shards.length;
}

async function loadOnce(directory) {
  zeros([4]).dispose();
  await printLoading(() =>
    BertForSequenceClassification.fromPretrained(directory, { dtype: "bfloat16" }),
  );
}

function main() {
  const directory = mkdtempSync(path.join(tmpdir(), "mixprec-loading-"));
  try {
    const entries = layout();
    const shards = writeCheckpoint(directory, entries);
    const fileBytes = entries.reduce((sum, [, shape]) => sum + sizeOf(shape), 0);
    const largest = Math.max(...entries.map(([, shape]) => sizeOf(shape)));
    const output = execFileSync(process.execPath, [fileURLToPath(import.meta.url), directory]);
    const { seconds, grown } = JSON.parse(output.toString());
    const gigabytes = (bytes) => (bytes / 1e9).toFixed(3);
    printTable(
      ["files", "file GB", "model GB", "largest tensor GB", "grows GB", "s"],
      [
        [
          String(shards),
          gigabytes(fileBytes),
          gigabytes(fileBytes / 2),
          gigabytes(largest),
          gigabytes(grown),
          seconds.toFixed(1),
        ],
      ],
    );
    save("loading-large", {
      shards,
      fileBytes,
      modelBytes: fileBytes / 2,
      largest,
      grown,
      seconds,
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const [directory] = process.argv.slice(2);
await (directory === undefined ? main() : loadOnce(directory));
