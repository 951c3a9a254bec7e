// Texts to classes: tokenizes, batches texts of about one length, runs the model without gradients,
// and gives the answers in the order of the texts.

import { setImmediate } from "node:timers/promises";

import { checkDevice } from "../core/device.js";
import { noGrad } from "../core/context.js";
import { checkOptions } from "../core/options.js";
import { keep, tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { batchTensors, padBatch, TextTokenizer } from "../data/index.js";
import type { Device } from "../dtype.js";
import { ArgumentError, CheckpointError, DataError, describe, DisposedError } from "../errors.js";
import {
  Fabric,
  parsePrecision,
  PRECISIONS,
  type PrecisionInput,
  type PrecisionName,
} from "../fabric/index.js";
import { HUB_OPTIONS, type HubOptions } from "../io/index.js";
import { loadAny, type AnySequenceClassifier } from "../models/auto.js";
import { hubOptionsOf, readPretrained } from "../models/pretrained.js";
import { to } from "../ops/index.js";
import {
  best,
  labelsOf,
  scoreFunctionOf,
  scoresOf,
  type Classification,
  type ScoreFunction,
} from "./scores.js";

export type { Classification, ScoreFunction };

/** How to load a classifier and to run it. */
export interface TextClassificationOptions extends Omit<HubOptions, "repoType"> {
  /** In which number format it computes, as Fabric names it; default "bf16-true", 16 bits. */
  precision?: PrecisionInput | (string & {}) | undefined;
  /** Default: the first CUDA device where there is one, else the CPU. */
  device?: Device | undefined;
  /** Texts that go through the model at once; default 32. */
  batchSize?: number | undefined;
  /** Tokens of a text at most, the rest is cut off; default: what the model takes. */
  maxLength?: number | undefined;
}

/** How one call answers. */
export interface ClassifyOptions {
  /** Classes of each text, the likeliest first; null for all. Default 1. */
  topK?: number | null | undefined;
  /** Default: that of the pipeline. */
  batchSize?: number | undefined;
  /** Default: softmax; sigmoid where classes do not exclude each other, none for a regression. */
  functionToApply?: ScoreFunction | undefined;
}

/** A classifier that is called with texts. */
export interface TextClassificationPipeline {
  /**
   * Classes of one text, the likeliest first; one without `topK`.
   * @throws ArgumentError for what is no text, a text without tokens or an option that does not
   * exist, DataError for a token that the model does not know, DisposedError after `dispose`.
   */
  (text: string, options?: ClassifyOptions): Promise<Classification[]>;
  /** The likeliest class of each text, or with `topK` a list for each text. */
  (
    texts: readonly string[],
    options?: ClassifyOptions & { topK?: undefined },
  ): Promise<Classification[]>;
  (
    texts: readonly string[],
    options: ClassifyOptions & { topK: number | null },
  ): Promise<Classification[][]>;
  readonly model: AnySequenceClassifier;
  readonly tokenizer: TextTokenizer;
  /** Names of the classes, by id. */
  readonly labels: readonly string[];
  readonly precision: PrecisionName;
  readonly device: Device;
  /** Frees the model. Further calls are errors; calling it again is not. */
  dispose(): void;
  [Symbol.dispose](): void;
}

const OP = "pipeline";
const LOAD_OPTIONS: readonly string[] = [
  "precision",
  "device",
  "batchSize",
  "maxLength",
  ...HUB_OPTIONS.filter((name) => name !== "repoType"),
];
const CALL_OPTIONS = ["topK", "batchSize", "functionToApply"];
const SCORE_FUNCTIONS: readonly unknown[] = [
  "softmax",
  "sigmoid",
  "none",
] satisfies ScoreFunction[];
const BATCH_SIZE = 32;
/** Texts that are tokenized ahead, so that batches can be of about one length, in batches. */
const BATCHES_AHEAD = 64;

function fail(what: string): never {
  throw new ArgumentError(`${OP}: ${what}`, { op: OP });
}

function checkCount(name: string, value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
  return fail(`${name} — expected a whole number above 0, got ${describe(value)}`);
}

function fabricFor(device: Device | undefined, precision: PrecisionName): Fabric {
  // Nothing is trained, so that no loss is scaled.
  const scaler = PRECISIONS[precision].scaler ? { enabled: false } : undefined;
  if (device === undefined) return new Fabric({ precision, scaler });
  checkDevice(device, OP);
  if (device === "cpu") return new Fabric({ accelerator: "cpu", precision, scaler });
  const index = device === "cuda" ? 0 : Number(device.slice("cuda:".length));
  return new Fabric({ accelerator: "cuda", devices: [index], precision, scaler });
}

/** The model, ready to run; all of it is checked before. */
class Classifier {
  readonly labels: readonly string[];
  private disposed = false;

  constructor(
    readonly model: AnySequenceClassifier,
    readonly tokenizer: TextTokenizer,
    readonly fabric: Fabric,
    private readonly batchSize: number,
    private readonly maxLength: number,
  ) {
    this.labels = labelsOf(model.config);
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.model.dispose();
  }

  private checkAlive(): void {
    if (!this.disposed) return;
    throw new DisposedError(`${OP}: it was called after dispose()`, { op: OP });
  }

  async classify(
    input: unknown,
    options: ClassifyOptions,
  ): Promise<Classification[] | Classification[][]> {
    checkOptions(OP, options, CALL_OPTIONS);
    const { topK, functionToApply = scoreFunctionOf(this.model.config) } = options;
    const count = topK === null ? Infinity : topK === undefined ? 1 : checkCount("topK", topK);
    const batchSize =
      options.batchSize === undefined ? this.batchSize : checkCount("batchSize", options.batchSize);
    if (!SCORE_FUNCTIONS.includes(functionToApply)) {
      const names = SCORE_FUNCTIONS.join(", ");
      fail(`functionToApply — expected one of ${names}, got ${describe(functionToApply)}`);
    }
    this.checkAlive();
    const texts: readonly unknown[] = Array.isArray(input) ? input : [input];
    texts.forEach((text, i) => {
      if (typeof text === "string") return;
      const where = Array.isArray(input) ? `texts[${i}] — expected` : "expected a text or";
      fail(
        `${where} ${Array.isArray(input) ? "a text" : "a list of texts"}, got ${describe(text)}`,
      );
    });
    const all: Classification[][] = [];
    for (let start = 0; start < texts.length; start += batchSize * BATCHES_AHEAD) {
      const part = texts.slice(start, start + batchSize * BATCHES_AHEAD) as string[];
      for (const logits of await this.logitsOf(part, start, batchSize)) {
        all.push(best(scoresOf(logits, functionToApply), this.labels, count));
      }
    }
    if (!Array.isArray(input)) return all[0]!;
    return topK === undefined ? all.map(([likeliest]) => likeliest!) : all;
  }

  /** Logits of each text, in the order of the texts. */
  private async logitsOf(
    texts: readonly string[],
    first: number,
    batchSize: number,
  ): Promise<(Float32Array | Float64Array)[]> {
    const sequences = texts.map((text, i) => this.encode(text, first + i));
    const order = sequences.map((_, i) => i);
    order.sort((a, b) => sequences[b]!.length - sequences[a]!.length || a - b);
    const rows = new Array<Float32Array | Float64Array>(texts.length);
    for (let start = 0; start < order.length; start += batchSize) {
      const indices = order.slice(start, start + batchSize);
      this.checkAlive();
      const logits = this.forward(indices.map((i) => sequences[i]!));
      try {
        const data = (await logits.data()) as Float32Array | Float64Array;
        const width = this.labels.length;
        indices.forEach((i, row) => (rows[i] = data.slice(row * width, (row + 1) * width)));
      } finally {
        logits.dispose();
      }
      // On the CPU the model ran on this thread: others have their turn between two batches.
      await setImmediate();
    }
    return rows;
  }

  private encode(text: string, index: number): number[] {
    const { tokenizer, model, maxLength } = this;
    const ids = tokenizer.encode(text, { maxLength });
    if (ids.length === 0) fail(`texts[${index}] has no tokens, got ${describe(text)}`);
    const { vocabSize } = model.encoder;
    const unknown = ids.find((id) => id >= vocabSize);
    if (unknown === undefined) return ids;
    throw new DataError(
      `${OP}: texts[${index}] has the token ${unknown}, the model knows ${vocabSize} tokens; the ` +
        `tokenizer belongs to another model`,
      { op: OP },
    );
  }

  /** Token ids of texts to logits [B, numLabels], in float32 or wider. */
  private forward(sequences: readonly number[][]): Tensor {
    const { model, tokenizer, fabric } = this;
    const batch = padBatch(sequences, { padId: tokenizer.padId });
    const labels = new Int32Array(sequences.length);
    return tidy(() =>
      noGrad(() => {
        const options = { device: fabric.device };
        const { inputIds, attentionMask } = batchTensors({ ...batch, labels }, options);
        const { logits } = fabric.autocast(() => model.forward(inputIds, { attentionMask }));
        return keep(to(logits, logits.dtype === "float64" ? "float64" : "float32"));
      }),
    );
  }
}

/** Loads a classifier and its tokenizer; what `pipeline("text-classification", …)` does. */
export async function loadTextClassification(
  dirOrRepo: string,
  options: TextClassificationOptions,
): Promise<TextClassificationPipeline> {
  checkOptions(OP, options, LOAD_OPTIONS);
  const precision = parsePrecision(options.precision ?? "bf16-true");
  const batchSize = checkCount("batchSize", options.batchSize ?? BATCH_SIZE);
  const wanted =
    options.maxLength === undefined ? null : checkCount("maxLength", options.maxLength);
  const fabric = fabricFor(options.device, precision);
  const found = await readPretrained(dirOrRepo, hubOptionsOf(options));
  const tokenizer = await TextTokenizer.fromDirectory(found.directory);
  const dtype = PRECISIONS[precision].parameterDtype ?? "float32";
  const model = await loadAny(found, { dtype, device: fabric.device });
  try {
    const missing = model.loadReport!.missingKeys;
    if (missing.length > 0) {
      throw new CheckpointError(
        `${found.weightsFile}: lacks ${missing.join(", ")}: the model has not been trained to ` +
          `classify; fine-tune it first`,
        { op: OP },
      );
    }
    const most = model.encoder.maxLength;
    const maxLength = wanted ?? most;
    if (maxLength > most) {
      fail(`maxLength — expected at most ${most}, the positions of the model, got ${maxLength}`);
    }
    const { before, after } = tokenizer.specialIds;
    if (maxLength <= before.length + after.length) {
      fail(
        `maxLength — expected more than ${before.length + after.length}, which the special ` +
          `tokens take, got ${maxLength}`,
      );
    }
    model.eval();
    return callable(new Classifier(model, tokenizer, fabric, batchSize, maxLength), precision);
  } catch (error) {
    model.dispose();
    throw error;
  }
}

function callable(classifier: Classifier, precision: PrecisionName): TextClassificationPipeline {
  const { model, tokenizer, labels, fabric } = classifier;
  const dispose = (): void => {
    classifier.dispose();
  };
  return Object.assign(
    (input: unknown, options: ClassifyOptions = {}) => classifier.classify(input, options),
    { model, tokenizer, labels, precision, device: fabric.device },
    { dispose, [Symbol.dispose]: dispose },
  ) as TextClassificationPipeline;
}
