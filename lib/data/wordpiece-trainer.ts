// Trains a WordPiece vocabulary as Hugging Face's trainer does: words start as characters, and the
// pair that is most frequent is joined again and again until the vocabulary is full. Ties go to the
// pair that sorts first, so the same words give the same vocabulary everywhere.

import { ArgumentError, describe } from "../errors.js";

/** How to train a vocabulary. */
export interface WordPieceTrainerOptions {
  /** Size at most, special tokens included. */
  vocabSize: number;
  /** First entries of the vocabulary. */
  specialTokens: readonly string[];
  /** Pairs that are less frequent are not joined; default 2. */
  minFrequency?: number;
  /** Most characters to keep, the most frequent ones; default 1000. */
  limitAlphabet?: number;
  /** Marks a piece that continues a word; default `##`. */
  prefix?: string;
}

interface Word {
  /** Indices into the pieces. */
  symbols: number[];
  readonly count: number;
}

interface Pair {
  readonly left: number;
  readonly right: number;
  count: number;
  /** Words that may hold the pair. */
  readonly words: Set<number>;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A binary heap of pairs with the counts they had when they went in. */
class PairHeap {
  private readonly entries: { pair: Pair; count: number }[] = [];

  constructor(private readonly pieces: readonly string[]) {}

  push(pair: Pair): void {
    const { entries } = this;
    let at = entries.length;
    entries.push({ pair, count: pair.count });
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(at, parent)) break;
      this.swap(at, parent);
      at = parent;
    }
  }

  /** The most frequent pair; entries whose count has changed since are put right on the way. */
  pop(): Pair | null {
    for (;;) {
      const { entries } = this;
      const top = entries[0];
      if (top === undefined) return null;
      const last = entries.pop()!;
      if (entries.length > 0) {
        entries[0] = last;
        this.sink();
      }
      if (top.count === top.pair.count) return top.pair;
      if (top.pair.count > 0 && top.pair.count < top.count) this.push(top.pair);
    }
  }

  private sink(): void {
    const { entries } = this;
    for (let at = 0; ;) {
      let best = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < entries.length && this.before(child, best)) best = child;
      }
      if (best === at) return;
      this.swap(at, best);
      at = best;
    }
  }

  private before(i: number, j: number): boolean {
    const [a, b] = [this.entries[i]!, this.entries[j]!];
    if (a.count !== b.count) return a.count > b.count;
    const { pieces } = this;
    const left = compare(pieces[a.pair.left]!, pieces[b.pair.left]!);
    return (left === 0 ? compare(pieces[a.pair.right]!, pieces[b.pair.right]!) : left) < 0;
  }

  private swap(i: number, j: number): void {
    const { entries } = this;
    [entries[i], entries[j]] = [entries[j]!, entries[i]!];
  }
}

/** Characters that stay, in sorted order. */
function alphabetOf(counts: ReadonlyMap<string, number>, limit: number): Set<string> {
  const characters = new Map<string, number>();
  for (const [word, count] of counts) {
    for (const c of word) characters.set(c, (characters.get(c) ?? 0) + count);
  }
  const byCount = [...characters].sort(([a, m], [b, n]) => n - m || compare(a, b));
  return new Set(byCount.slice(0, limit).map(([c]) => c));
}

/** The state of training: words as rows of pieces, and the pairs that occur in them. */
class Merger {
  readonly pieces: string[] = [];
  private readonly ids = new Map<string, number>();
  private readonly pairs = new Map<string, Pair>();
  private readonly heap = new PairHeap(this.pieces);

  constructor(
    private readonly words: Word[],
    private readonly prefix: string,
  ) {}

  idOf(piece: string): number {
    let id = this.ids.get(piece);
    if (id === undefined) {
      id = this.pieces.length;
      this.pieces.push(piece);
      this.ids.set(piece, id);
    }
    return id;
  }

  countPairs(): void {
    const touched = new Set<Pair>();
    this.words.forEach((_, at) => this.tally(at, 1, touched));
    for (const pair of touched) this.heap.push(pair);
  }

  /** Joins the most frequent pair; false where none occurs `minFrequency` times. */
  mergeNext(minFrequency: number): boolean {
    const pair = this.heap.pop();
    if (pair === null || pair.count < minFrequency) return false;
    const right = this.pieces[pair.right]!;
    const tail = right.startsWith(this.prefix) ? right.slice(this.prefix.length) : right;
    const joined = this.idOf(this.pieces[pair.left]! + tail);
    const touched = new Set<Pair>();
    for (const at of [...pair.words]) {
      this.tally(at, -1, touched);
      const word = this.words[at]!;
      word.symbols = joinPair(word.symbols, pair, joined);
      this.tally(at, 1, touched);
    }
    for (const changed of touched) {
      if (changed.count > 0) this.heap.push(changed);
    }
    return true;
  }

  private tally(at: number, sign: 1 | -1, touched: Set<Pair>): void {
    const { symbols, count } = this.words[at]!;
    for (let i = 1; i < symbols.length; i++) {
      const [left, right] = [symbols[i - 1]!, symbols[i]!];
      const key = `${left},${right}`;
      let pair = this.pairs.get(key);
      if (pair === undefined) {
        pair = { left, right, count: 0, words: new Set() };
        this.pairs.set(key, pair);
      }
      pair.count += sign * count;
      if (sign === 1) pair.words.add(at);
      else pair.words.delete(at);
      touched.add(pair);
    }
  }
}

function joinPair(symbols: readonly number[], pair: Pair, joined: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === pair.left && symbols[i + 1] === pair.right) {
      out.push(joined);
      i++;
    } else out.push(symbols[i]!);
  }
  return out;
}

/**
 * The vocabulary of words with their counts: special tokens, then characters in sorted order, then
 * joined pieces in the order they were joined.
 * @throws ArgumentError where `vocabSize` does not hold special tokens and characters.
 */
export function trainWordPiece(
  counts: ReadonlyMap<string, number>,
  options: WordPieceTrainerOptions,
): string[] {
  const { vocabSize, specialTokens, minFrequency = 2, limitAlphabet = 1000 } = options;
  const { prefix = "##" } = options;
  const alphabet = alphabetOf(counts, limitAlphabet);
  const spelled = [...counts]
    .sort(([a], [b]) => compare(a, b))
    .map(([word, count]) => {
      const characters = [...word].filter((c) => alphabet.has(c));
      return { pieces: characters.map((c, i) => (i === 0 ? c : prefix + c)), count };
    });
  const initial = [...new Set(spelled.flatMap(({ pieces }) => pieces))].sort(compare);
  const least = specialTokens.length + initial.length;
  if (!Number.isSafeInteger(vocabSize) || vocabSize < least) {
    throw new ArgumentError(
      `trainWordPiece: vocabSize — expected at least ${least} (${specialTokens.length} special ` +
        `tokens and ${initial.length} characters), got ${describe(vocabSize)}`,
      { op: "trainWordPiece" },
    );
  }
  const words: Word[] = [];
  const merger = new Merger(words, prefix);
  initial.forEach((piece) => merger.idOf(piece));
  for (const { pieces, count } of spelled) {
    words.push({ symbols: pieces.map((piece) => merger.idOf(piece)), count });
  }
  merger.countPairs();
  const special = new Set(specialTokens);
  const room = vocabSize - specialTokens.length;
  while (merger.pieces.length < room && merger.mergeNext(Math.max(1, minFrequency)));
  return [...specialTokens, ...merger.pieces.filter((piece) => !special.has(piece))];
}
