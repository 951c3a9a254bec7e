// Tasks of worker threads for texts: what makes a padded batch of labelled texts, and what encodes
// many texts for a token store. Kept apart from everything that loads the addon.

import type { LabelledBatch } from "./collate.js";
import { TextTokenizer, type TokenizerDefinition } from "./tokenizer.js";
import type { WorkerTask } from "./worker-pool.js";

/** A text and its class. */
export interface TextSample {
  readonly text: string;
  readonly label: number;
}

/** How {@link collateTexts} makes batches. */
export interface CollateTextsOptions {
  /** Most tokens of a text, special ones included. */
  maxLength?: number;
  /** To the longest text in the batch (default), or always to `maxLength`. */
  padding?: "longest" | "max-length";
}

/** Token ids of several texts, without special tokens: those of text i end before `ends[i]`. */
export interface EncodedTexts {
  readonly ids: Int32Array;
  readonly ends: Int32Array;
}

interface CollateSetup extends CollateTextsOptions {
  readonly definition: TokenizerDefinition;
}

/** A {@link WorkerTask} that tokenizes texts and makes a padded batch of them. */
export function collateTexts(
  tokenizer: TextTokenizer,
  options: CollateTextsOptions = {},
): WorkerTask<TextSample[], LabelledBatch> {
  const setup: CollateSetup = { ...options, definition: tokenizer.definition() };
  return { module: import.meta.url, exportName: "createCollate", options: setup };
}

/** For worker threads: the function of {@link collateTexts}. */
export function createCollate(setup: CollateSetup): (samples: TextSample[]) => LabelledBatch {
  const { definition, ...options } = setup;
  const tokenizer = new TextTokenizer(definition.json, definition.config);
  return (samples) => ({
    ...tokenizer.encodeBatch(
      samples.map(({ text }) => text),
      options,
    ),
    labels: Int32Array.from(samples, ({ label }) => label),
  });
}

/** A {@link WorkerTask} that encodes texts. */
export function encodeTask(tokenizer: TextTokenizer): WorkerTask<readonly string[], EncodedTexts> {
  const options = tokenizer.definition();
  return { module: import.meta.url, exportName: "createEncode", options };
}

/** For worker threads: the function of {@link encodeTask}. */
export function createEncode(
  definition: TokenizerDefinition,
): (texts: readonly string[]) => EncodedTexts {
  const tokenizer = new TextTokenizer(definition.json, definition.config);
  return (texts) => encodeAll(tokenizer, texts);
}

/** Encodes texts in this thread. */
export function encodeAll(tokenizer: TextTokenizer, texts: readonly string[]): EncodedTexts {
  const all = texts.map((text) => tokenizer.encodeContent(text));
  const ends = new Int32Array(all.length);
  let length = 0;
  all.forEach((ids, i) => (ends[i] = length += ids.length));
  const ids = new Int32Array(length);
  all.forEach((content, i) => ids.set(content, i === 0 ? 0 : ends[i - 1]));
  return { ids, ends };
}
