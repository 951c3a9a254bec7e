// Tokenizers in Hugging Face's format: tokenizer.json (+ tokenizer_config.json), loaded from a model
// directory or trained from texts. Hugging Face's library does the tokenizing; truncation, padding
// and typed errors are added here.

import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";

import * as huggingFace from "@huggingface/tokenizers";

import { ArgumentError, DataError, describe } from "../errors.js";
import { writeFileAtomic } from "../io/atomic-write.js";
import {
  bertTokenizerConfig,
  bertTokenizerJson,
  MAX_WORD_CHARACTERS,
  SPECIAL_TOKENS,
} from "./bert-tokenizer.js";
import { ChunkEncoder, plainCharacters, splitsAtSpaces } from "./chunk-encoder.js";
import { padBatch, type TokenBatch } from "./collate.js";
import { trainWordPiece } from "./wordpiece-trainer.js";

/** What is used of Hugging Face's class; its own declarations do not resolve in an ES module. */
interface HuggingFaceTokenizer {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: ((texts: string[]) => string[]) | null;
  encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
  decode(ids: number[], options?: { skip_special_tokens?: boolean }): string;
  tokenize(text: string): string[];
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string, number>;
}

const { Tokenizer } = huggingFace as unknown as {
  Tokenizer: new (json: object, config: object) => HuggingFaceTokenizer;
};

/** How long encoded texts may be. */
export interface EncodeOptions {
  /** Most tokens, special ones included; what is cut off is text, never `[CLS]` or `[SEP]`. */
  maxLength?: number;
}

/** How a batch of texts is encoded. */
export interface EncodeBatchOptions extends EncodeOptions {
  /** To the longest text in the batch (default), or always to `maxLength`. */
  padding?: "longest" | "max-length";
}

/** How a vocabulary is trained. */
export interface TrainTokenizerOptions {
  /** Most entries; default 8192. */
  vocabSize?: number;
  /** Default 2. */
  minFrequency?: number;
  /** What `tokenizer_config.json` says is the longest input; default 512. */
  modelMaxLength?: number;
}

/** The two files that make a tokenizer. */
export interface TokenizerDefinition {
  readonly json: Record<string, unknown>;
  readonly config: Record<string, unknown>;
}

type Json = Record<string, unknown>;
type Fail = (what: string, cause?: unknown) => never;

function isObject(value: unknown): value is Json {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

async function readJson(file: string, op: string): Promise<Json> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const message = `${op}: ${file}: cannot be read: ${(cause as Error).message}`;
    throw new DataError(message, { op, cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new DataError(`${op}: ${file}: not JSON: ${(cause as Error).message}`, { op, cause });
  }
  if (isObject(json)) return json;
  throw new DataError(`${op}: ${file}: expected a JSON object, got ${describe(json)}`, { op });
}

/** The content of a token in tokenizer_config.json, which is a string or an AddedToken. */
function tokenContent(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return isObject(value) && typeof value.content === "string" ? value.content : undefined;
}

/** A tokenizer that turns texts into token ids. */
export class TextTokenizer {
  /** Entries of the vocabulary: ids are below it. */
  readonly vocabSize: number;
  /** Id of the padding token; 0 where there is none. */
  readonly padId: number;
  private readonly tokenizer: HuggingFaceTokenizer;
  /** Special tokens in front of a text and behind it. */
  private readonly before: readonly number[];
  private readonly after: readonly number[];
  private readonly chunks: ChunkEncoder | null;
  private hash: string | null = null;

  /**
   * @param json content of tokenizer.json
   * @param config content of tokenizer_config.json
   * @param source what an error calls them
   * @throws DataError where Hugging Face's library does not take them.
   */
  constructor(
    private readonly json: Record<string, unknown>,
    private readonly config: Record<string, unknown> = {},
    source = "tokenizer.json",
  ) {
    const fail: Fail = (what, cause) => {
      throw new DataError(`tokenizer: ${source}: ${what}`, { op: "tokenizer", cause });
    };
    const model = json.model;
    if (!isObject(model)) fail(`expected an object "model", got ${describe(model)}`);
    // Without a type, as in old files, the library guesses; one that it does not know it misreads.
    if (model.type !== undefined && !MODEL_TYPES.includes(model.type)) {
      fail(`model — expected one of ${MODEL_TYPES.join(", ")}, got ${describe(model.type)}`);
    }
    if (model.type === "WordPiece") checkWordPiece(model, fail);
    try {
      const withDefaults = { added_tokens: [], ...json };
      this.tokenizer = new Tokenizer(withDefaults, config);
      const ids = [...this.tokenizer.get_vocab().values()];
      this.vocabSize = ids.reduce((most, id) => Math.max(most, id), -1) + 1;
      const content = this.tokenizer.encode("a", { add_special_tokens: false }).ids;
      const all = this.tokenizer.encode("a").ids;
      const at = all.findIndex((_, i) => content.every((id, k) => all[i + k] === id));
      this.before = all.slice(0, at);
      this.after = all.slice(at + content.length);
    } catch (cause) {
      fail(`cannot be used: ${(cause as Error).message}`, cause);
    }
    const pad = tokenContent(config.pad_token) ?? "[PAD]";
    this.padId = this.tokenizer.token_to_id(pad) ?? 0;
    const { normalizer } = this.tokenizer;
    this.chunks = splitsAtSpaces(json, normalizer)
      ? new ChunkEncoder((chunk) => this.encodeWhole(chunk), plainCharacters(json, normalizer))
      : null;
  }

  /** What tokenizer.json and tokenizer_config.json say; plain data, from which it is made again. */
  definition(): TokenizerDefinition {
    return { json: this.json, config: this.config };
  }

  /** SHA-256 of {@link definition}: tokenizers of one fingerprint give the same ids. */
  get fingerprint(): string {
    const { json, config } = this;
    this.hash ??= createHash("sha256")
      .update(JSON.stringify([json, config]))
      .digest("hex");
    return this.hash;
  }

  /** Special tokens in front of every text and behind it, by id. */
  get specialIds(): { readonly before: readonly number[]; readonly after: readonly number[] } {
    return { before: this.before, after: this.after };
  }

  /**
   * Loads tokenizer.json, and tokenizer_config.json where there is one, from a model directory.
   * @throws DataError where a file is missing or broken.
   */
  static async fromDirectory(directory: string): Promise<TextTokenizer> {
    const file = path.join(directory, "tokenizer.json");
    const json = await readJson(file, "tokenizer");
    const configFile = path.join(directory, "tokenizer_config.json");
    const config = await readJson(configFile, "tokenizer").catch((error: unknown) => {
      const cause = error instanceof DataError ? error.cause : undefined;
      if ((cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return {};
      throw error;
    });
    return new TextTokenizer(json, config, file);
  }

  /**
   * A WordPiece tokenizer, as BERT's uncased one, with a vocabulary trained from texts. The same
   * texts give the same vocabulary.
   * @throws ArgumentError for a vocabulary too small for the characters of the texts.
   */
  static train(texts: Iterable<string>, options: TrainTokenizerOptions = {}): TextTokenizer {
    const counts = new WordCounts();
    for (const text of texts) counts.add(text);
    return TextTokenizer.fromWordCounts(counts, options);
  }

  /**
   * {@link train} from words that were counted while texts went by.
   * @throws ArgumentError for a vocabulary too small for the characters of the words.
   */
  static fromWordCounts(words: WordCounts, options: TrainTokenizerOptions = {}): TextTokenizer {
    const { vocabSize = 8192, minFrequency = 2, modelMaxLength = 512 } = options;
    const { counts } = words;
    const vocabulary = trainWordPiece(counts, {
      vocabSize,
      minFrequency,
      specialTokens: SPECIAL_TOKENS,
    });
    return new TextTokenizer(bertTokenizerJson(vocabulary), bertTokenizerConfig(modelMaxLength));
  }

  /**
   * Token ids of a text, special tokens included.
   * @throws ArgumentError for a `maxLength` that does not hold the special tokens.
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const { maxLength = Infinity } = options;
    const special = this.before.length + this.after.length;
    if (!(maxLength > special) || (maxLength !== Infinity && !Number.isInteger(maxLength))) {
      throw new ArgumentError(
        `encode: maxLength — expected a whole number above ${special}, which the special tokens ` +
          `take, got ${describe(maxLength)}`,
        { op: "encode" },
      );
    }
    const room = maxLength - special;
    const content = this.encodeContent(text, room);
    return [...this.before, ...content.slice(0, room), ...this.after];
  }

  /** Token ids of a text without special tokens in front and behind, the first `most` at least. */
  encodeContent(text: string, most = Infinity): readonly number[] {
    return this.chunks === null ? this.encodeWhole(text) : this.chunks.ids(text, most);
  }

  private encodeWhole(text: string): number[] {
    // The library fails on a text of no words.
    return text === "" ? [] : this.tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** Token ids of several texts as one padded batch. */
  encodeBatch(texts: readonly string[], options: EncodeBatchOptions = {}): TokenBatch {
    const { maxLength, padding = "longest" } = options;
    if (padding === "max-length" && maxLength === undefined) {
      throw new ArgumentError(`encodeBatch: padding "max-length" needs maxLength`, {
        op: "encodeBatch",
      });
    }
    const limit = maxLength === undefined ? {} : { maxLength };
    return padBatch(
      texts.map((text) => this.encode(text, limit)),
      { padId: this.padId, length: padding === "max-length" ? maxLength : undefined },
    );
  }

  /** The tokens of a text, without special ones. */
  tokenize(text: string): string[] {
    return this.tokenizer.tokenize(text);
  }

  /** The text of token ids, without special tokens. */
  decode(ids: ArrayLike<number>): string {
    if (ids.length === 0) return "";
    return this.tokenizer.decode(Array.from(ids), { skip_special_tokens: true });
  }

  /** Id of a token, or undefined. */
  tokenId(token: string): number | undefined {
    return this.tokenizer.token_to_id(token);
  }

  /** Writes tokenizer.json and tokenizer_config.json. */
  async save(directory: string): Promise<void> {
    await mkdir(directory, { recursive: true });
    for (const [name, content] of [
      ["tokenizer.json", this.json],
      ["tokenizer_config.json", this.config],
    ] as const) {
      await writeFileAtomic(path.join(directory, name), `${JSON.stringify(content, null, 2)}\n`);
    }
  }
}

/** How often words occur in texts, as BERT's uncased tokenizer splits them. */
export class WordCounts {
  readonly counts = new Map<string, number>();
  // The library's own normalizer and splitter, so that training sees what encoding will.
  private readonly splitter = new Tokenizer(bertTokenizerJson(SPECIAL_TOKENS), {});

  add(text: string): void {
    const { counts, splitter } = this;
    const normalized = splitter.normalizer!(text);
    for (const word of splitter.pre_tokenizer!([normalized])) {
      if ([...word].length > MAX_WORD_CHARACTERS) continue;
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
}

/** The library takes a broken vocabulary without a word, and gives wrong ids later. */
function checkWordPiece(model: Json, fail: Fail): void {
  const vocabulary = model.vocab;
  if (!isObject(vocabulary)) fail(`expected an object "model.vocab", got ${describe(vocabulary)}`);
  const used = new Map<unknown, string>();
  for (const [token, id] of Object.entries(vocabulary)) {
    const name = JSON.stringify(token);
    if (!Number.isSafeInteger(id) || (id as number) < 0) {
      fail(`token ${name} — expected an id of at least 0, got ${describe(id)}`);
    }
    const other = used.get(id);
    if (other !== undefined)
      fail(`id ${describe(id)} for both ${JSON.stringify(other)} and ${name}`);
    used.set(id, token);
  }
  const unknown = model.unk_token;
  if (typeof unknown !== "string" || !Object.hasOwn(vocabulary, unknown)) {
    fail(`unk_token ${describe(unknown)} is not in the vocabulary`);
  }
}

const MODEL_TYPES: readonly unknown[] = ["WordPiece", "Unigram", "BPE"];
