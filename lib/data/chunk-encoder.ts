// Encodes a text chunk by chunk, remembering what each chunk gave: texts repeat their words, and
// Hugging Face's library looks at every character each time. A chunk is what stands between white
// space, so this is only for tokenizers for which white space is a boundary and nothing else.

/** Chunks to remember; then the older half is forgotten. */
const CAPACITY = 1 << 17;

/** A longer chunk is hardly a word, and does not come again. */
const LONGEST = 64;

/** What Hugging Face's BertNormalizer turns into a space; other white space it removes. */
const SPACE = /[\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u;
const ANY_SPACE = /[\s\u0085\ufeff]/u;

type Json = Record<string, unknown>;

const typeOf = (part: unknown): unknown =>
  part !== null && typeof part === "object" ? (part as Json).type : part;

/**
 * Whether the tokens of a text are those of its chunks, one after the other: BERT's normalizer and
 * splitter, WordPiece, and no added token with white space in it, as `normalize` leaves it.
 */
export function splitsAtSpaces(json: Json, normalize: ((text: string) => string) | null): boolean {
  const known =
    typeOf(json.normalizer) === "BertNormalizer" &&
    typeOf(json.pre_tokenizer) === "BertPreTokenizer" &&
    typeOf(json.model) === "WordPiece";
  const added = Array.isArray(json.added_tokens) ? (json.added_tokens as unknown[]) : [];
  return (
    known &&
    added.every((token) => {
      const content = (token as Json | null)?.content;
      if (typeof content !== "string" || ANY_SPACE.test(content)) return false;
      return normalize === null || !ANY_SPACE.test(normalize(content));
    })
  );
}

/**
 * ASCII characters that are no part of what is encoded by itself: white space and control
 * characters, and those that an added token begins with, as it is or as `normalize` leaves it.
 */
export function plainCharacters(
  json: Json,
  normalize: ((text: string) => string) | null,
): Uint8Array {
  const plain = new Uint8Array(128).fill(1, 0x21, 0x7f);
  const added = Array.isArray(json.added_tokens) ? (json.added_tokens as Json[]) : [];
  for (const { content } of added) {
    const [raw, normal] = [content as string, normalize?.(content as string) ?? ""];
    for (const first of [raw.slice(0, 1), normal.slice(0, 1)]) {
      // What a normalizer lowers may begin an added token as well.
      for (const c of [first, first.toUpperCase(), first.toLowerCase()]) {
        if (c.charCodeAt(0) < 128) plain[c.charCodeAt(0)] = 0;
      }
    }
  }
  return plain;
}

/** BERT's splitter makes each of these a word of its own. */
const isPunctuation = (code: number): boolean =>
  (code >= 0x21 && code <= 0x2f) ||
  (code >= 0x3a && code <= 0x40) ||
  (code >= 0x5b && code <= 0x60) ||
  (code >= 0x7b && code <= 0x7e);

/** Token ids of texts by those of their chunks, which `encode` gives. */
export class ChunkEncoder {
  private recent = new Map<string, readonly number[]>();
  private older = new Map<string, readonly number[]>();

  /** @param plain of {@link plainCharacters} */
  constructor(
    private readonly encode: (chunk: string) => readonly number[],
    private readonly plain: Uint8Array,
  ) {}

  /** Token ids of a text; it may stop once there are `most`. */
  ids(text: string, most = Infinity): number[] {
    const out: number[] = [];
    let start = -1;
    let plain = true;
    for (let at = 0; at <= text.length; at++) {
      const code = at < text.length ? text.charCodeAt(at) : 0x20;
      if (!isSpace(code)) {
        if (start < 0) {
          start = at;
          plain = true;
        }
        if (code >= 128 || this.plain[code] === 0) plain = false;
      } else if (start >= 0) {
        if (plain) this.addWords(text, start, at, out);
        else this.add(text.slice(start, at), out);
        start = -1;
        if (out.length >= most) break;
      }
    }
    return out;
  }

  /**
   * A chunk of plain characters, word by word. Others are taken as a whole: a letter may be lowered
   * by what stands behind a full stop.
   */
  private addWords(text: string, start: number, end: number, out: number[]): void {
    let begin = start;
    for (let at = start; at < end; at++) {
      if (!isPunctuation(text.charCodeAt(at))) continue;
      if (begin < at) this.add(text.slice(begin, at), out);
      this.add(text[at]!, out);
      begin = at + 1;
    }
    if (begin < end) this.add(text.slice(begin, end), out);
  }

  private add(chunk: string, out: number[]): void {
    const ids = this.recent.get(chunk) ?? this.remember(chunk);
    for (let i = 0; i < ids.length; i++) out.push(ids[i]!);
  }

  private remember(chunk: string): readonly number[] {
    const ids = this.older.get(chunk) ?? this.encode(chunk);
    if (chunk.length > LONGEST) return ids;
    if (this.recent.size >= CAPACITY / 2) {
      this.older = this.recent;
      this.recent = new Map();
    }
    this.recent.set(ownCopy(chunk), ids);
    return ids;
  }
}

function isSpace(code: number): boolean {
  if (code < 0x80) return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
  return code < 0x3001 && SPACE.test(String.fromCharCode(code));
}

/** A long slice keeps the whole text alive; a copy does not. */
function ownCopy(chunk: string): string {
  return chunk.length < 13 ? chunk : Buffer.from(chunk, "utf16le").toString("utf16le");
}
