// Reading, tokenizing and batching: tokens per second, padding not counted, of generated reviews as
// long as IMDb's, from a CSV file to padded batches, and of each way through on its own.
// Usage: node bench/data.bench.mjs [--texts N] [--workers N] [--save]
// Times are wall time; "processor" is tokens per second of processor time of all threads, which is
// what a machine that does nothing else would give on one core.

import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import * as huggingFace from "@huggingface/tokenizers";

import { collateTexts, collateTokens, DataLoader, encodeFile } from "../dist/data/index.js";
import { loadTextDataset, Random, TextTokenizer, TokenDataset } from "../dist/data/index.js";
import { environment, median, printTable, save } from "./support/report.mjs";

// What the project promises, with workers on two cores.
const TARGET = 200_000;
const ROUNDS = 3;
const BATCH = 16;
const MAX_LENGTH = 512;

const { values: options } = parseArgs({
  options: {
    texts: { type: "string", default: "4000" },
    workers: { type: "string", default: "2" },
    save: { type: "boolean", default: false },
  },
});
const workers = Number(options.workers);

const SYLLABLES = "ba be bi bo ca ce co da de di do fa fe ga go ha he hi ka la le li lo ma me mi"
  .split(" ")
  .concat(
    "mo na ne ni no pa pe po ra re ri ro sa se si so ta te ti to va ve vi wa we ya".split(" "),
  );

/** Words by rank: the common ones are short, as in a language. */
function makeWords(count, random) {
  const words = new Set(["the", "a", "and", "of", "to", "is", "in", "it", "this", "that"]);
  while (words.size < count) {
    const parts = 1 + Math.min(4, Math.floor(Math.log10(words.size))) + random.below(2);
    let word = "";
    for (let i = 0; i < parts; i++) word += SYLLABLES[random.below(SYLLABLES.length)];
    words.add(word + ["", "", "n", "s", "ing", "ed"][random.below(6)]);
  }
  return [...words];
}

/** IMDb's reviews: 234 words in the mean, 174 in the median. */
function makeTexts(count, words, random) {
  const uniform = () => (random.uint32() + 0.5) / 2 ** 32;
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Array.from({ length: count }, () => {
    const length = Math.max(10, Math.round(Math.exp(Math.log(176) + 0.72 * normal())));
    let text = "";
    let begin = true;
    for (let i = 0; i < length; i++) {
      // Zipf: the frequency of a word goes with one over its rank.
      let word = words[Math.min(words.length - 1, Math.floor(words.length ** uniform()) - 1)];
      if (begin) word = word[0].toUpperCase() + word.slice(1);
      if (random.below(200) === 0) word = word.replace("e", "é");
      begin = random.below(16) === 0;
      const behind = begin ? [".", ".", "!", "?<br /><br />"][random.below(4)] : "";
      text += word + (behind || (random.below(12) === 0 ? "," : "")) + " ";
    }
    return text.trimEnd();
  });
}

/** A tokenizer like BERT's: 30,522 entries, the common words whole and the others in pieces. */
function makeTokenizer(words) {
  const { json, config } = TextTokenizer.train(["a"], { vocabSize: 100 }).definition();
  const letters = [..."abcdefghijklmnopqrstuvwxyz0123456789.,!?<>/-'\"()"];
  const entries = new Set(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
  for (const piece of [...letters, ...SYLLABLES, "ing", "ed"]) entries.add(piece).add(`##${piece}`);
  for (const word of words) if (entries.size < 30_522) entries.add(word);
  const vocab = Object.fromEntries([...entries].map((token, id) => [token, id]));
  return new TextTokenizer({ ...json, model: { ...json.model, vocab } }, config);
}

/** Tokens per second of wall and of processor time: medians of rounds of `run`, which counts. */
async function measure(name, run) {
  const wall = [];
  const processor = [];
  let tokens = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage();
    const start = performance.now();
    tokens = await run();
    wall.push(tokens / ((performance.now() - start) / 1000));
    const { user, system } = process.cpuUsage(before);
    processor.push(tokens / ((user + system) / 1e6));
  }
  return { name, tokens, perSecond: median(wall), perProcessorSecond: median(processor) };
}

const countTokens = ({ attentionMask }) => attentionMask.reduce((sum, one) => sum + one, 0);

async function countEpoch(loader) {
  let tokens = 0;
  for await (const batch of loader) tokens += countTokens(batch);
  return tokens;
}

const directory = mkdtempSync(path.join(tmpdir(), "mixprec-data-bench-"));
try {
  const random = new Random(1);
  const words = makeWords(60_000, random);
  const texts = makeTexts(Number(options.texts), words, random);
  const tokenizer = makeTokenizer(words);
  const csv = path.join(directory, "reviews.csv");
  const quoted = texts.map((text, i) => `"${text}",${i % 2}\n`);
  writeFileSync(csv, `text,label\n${quoted.join("")}`);
  const file = { kind: "csv", path: csv };
  const samples = texts.map((text, i) => ({ text, label: i % 2 }));
  const order = { batchSize: BATCH, shuffle: true, lengths: texts.map(({ length }) => length) };
  const collate = collateTexts(tokenizer, { maxLength: MAX_LENGTH });
  const { json, config } = tokenizer.definition();
  const library = new huggingFace.Tokenizer({ added_tokens: [], ...json }, config);

  const total = texts.reduce((sum, text) => sum + tokenizer.encode(text).length, 0);
  const rows = [];
  rows.push(
    await measure("the library alone, this thread", () =>
      texts.slice(0, 500).reduce((sum, text) => sum + library.encode(text).ids.length, 0),
    ),
  );
  rows.push(
    await measure("CSV to texts", async () => {
      const read = await loadTextDataset(csv);
      return read.texts.length === texts.length ? total : NaN;
    }),
  );
  for (const numWorkers of [0, workers]) {
    const threads = numWorkers === 0 ? "this thread" : `${numWorkers} workers`;
    rows.push(
      await measure(`CSV to token ids on the disk, ${threads}`, async () => {
        const cacheDirectory = mkdtempSync(path.join(directory, "cache-"));
        const { store } = await encodeFile(file, tokenizer, { cacheDirectory, numWorkers });
        store.close();
        return store.tokens;
      }),
    );
    const loader = new DataLoader(samples, { ...order, collate, numWorkers });
    rows.push(await measure(`texts to batches, ${threads}`, () => countEpoch(loader)));
    await loader.close();
  }
  const { store } = await encodeFile(file, tokenizer, { cacheDirectory: directory });
  const all = new TokenDataset(
    { find: (row) => ({ store, row }) },
    samples.map((_, i) => i),
    samples.map(({ label }) => label),
    tokenizer.specialIds,
    MAX_LENGTH,
  );
  const kept = new DataLoader(all, {
    ...order,
    lengths: all.lengths,
    collate: (items) => collateTokens(items, { padId: tokenizer.padId }),
  });
  rows.push(await measure("kept token ids to batches, this thread", () => countEpoch(kept)));
  store.close();

  const load = loadavg().map((value) => value.toFixed(1));
  const { cores, processor } = environment();
  console.log(`${cores} cores (${processor}), load ${load.join(" ")}`);
  const megabytes = (statSync(csv).size / 1e6).toFixed(1);
  const mean = Math.round(total / texts.length);
  console.log(`${texts.length} texts, ${megabytes} MB, ${mean} tokens each\n`);
  const figure = (value) => Math.round(value).toLocaleString("en");
  printTable(
    ["tokens per second", "wall", "processor"],
    rows.map(({ name, perSecond, perProcessorSecond }) => [
      name,
      figure(perSecond),
      figure(perProcessorSecond),
    ]),
  );
  const checked = rows.filter(({ name }) => name.endsWith("workers"));
  for (const { name, perSecond } of checked) {
    const verdict = perSecond >= TARGET ? "holds" : "does NOT hold";
    console.log(`${name}: at least ${figure(TARGET)} a second ${verdict}`);
  }
  if (options.save) save("data", { texts: texts.length, workers, loadAverages: loadavg(), rows });
} finally {
  rmSync(directory, { recursive: true });
}
