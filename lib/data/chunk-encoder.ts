// Encodes a text chunk by chunk, remembering what each chunk gave: texts repeat their words, and
// Hugging Face's library looks at every character each time. A chunk is what stands between white
// space, so this is only for tokenizers for which white space is a boundary and nothing else.

/** Chunks to remember; then the older half is forgotten. */
const CAPACITY = 1 << 17;

/** A longer chunk is hardly a word, and does not come again. */
const LONGEST = 64;

/** What Hugging Face's BertNormalizer turns into a space; other white space it removes. */
const SPACE = /[\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
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

/** Token ids of texts by those of their chunks, which `encode` gives. */
export class ChunkEncoder {
  private recent = new Map<string, readonly number[]>();
  private older = new Map<string, readonly number[]>();

  constructor(private readonly encode: (chunk: string) => readonly number[]) {}

  /** Token ids of a text; it may stop once there are `most`. */
  ids(text: string, most = Infinity): number[] {
    const out: number[] = [];
    let start = -1;
    // As splitting by SPACE does, without a list of strings.
    for (let at = 0; at <= text.length; at++) {
      if (at < text.length && !isSpace(text.charCodeAt(at))) {
        if (start < 0) start = at;
      } else if (start >= 0) {
        for (const id of this.chunk(text.slice(start, at))) out.push(id);
        start = -1;
        if (out.length >= most) break;
      }
    }
    return out;
  }

  private chunk(chunk: string): readonly number[] {
    let ids = this.recent.get(chunk);
    if (ids !== undefined) return ids;
    ids = this.older.get(chunk) ?? this.encode(chunk);
    if (chunk.length > LONGEST) return ids;
    if (this.recent.size >= CAPACITY / 2) {
      this.older = this.recent;
      this.recent = new Map();
    }
    this.recent.set(copyOf(chunk), ids);
    return ids;
  }
}

function isSpace(code: number): boolean {
  if (code < 0x80) return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
  return code < 0x3001 && SPACE.test(String.fromCharCode(code));
}

/** A slice keeps the whole text alive; a copy does not. */
function copyOf(chunk: string): string {
  return Buffer.from(chunk, "utf16le").toString("utf16le");
}
