// Seeded random numbers for the order of data: xoshiro128**, whose state goes into checkpoints. Not
// for tensors, whose random numbers are counter-based and made natively.

import { ArgumentError, describe } from "../errors.js";

/** The four 32-bit words of a {@link Random}. */
export type RandomState = readonly [number, number, number, number];

const rotateLeft = (x: number, by: number): number => (x << by) | (x >>> (32 - by));

/** One step of splitmix32, which spreads a seed over the state. */
function* splitmix32(seed: number): Generator<number, never> {
  let state = seed >>> 0;
  for (;;) {
    state = (state + 0x9e3779b9) >>> 0;
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    yield (z ^ (z >>> 15)) >>> 0;
  }
}

/**
 * A stream of random numbers that is the same for the same seed on every machine.
 * @throws ArgumentError unless the seed is a safe integer of at least 0.
 */
export class Random {
  private words: [number, number, number, number];

  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new ArgumentError(
        `Random: seed — expected a safe integer of at least 0, got ${describe(seed)}`,
        { op: "Random" },
      );
    }
    // The high half goes in between, so that seeds 2^32 apart are different streams.
    const low = splitmix32(seed);
    const high = splitmix32(Math.floor(seed / 2 ** 32) ^ 0x5bf03635);
    const word = (): number => (low.next().value ^ high.next().value) >>> 0;
    this.words = [word(), word(), word(), word()];
    // All zeros is the one state that the generator never leaves.
    if (this.words.every((w) => w === 0)) this.words[0] = 1;
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    const s = this.words;
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotateLeft(s[3], 11);
    return result;
  }

  /** A whole number from 0 to `bound` - 1, each equally likely; `bound` from 1 to 2^32. */
  below(bound: number): number {
    // The last, incomplete run of `bound` numbers would make small results likelier: draw again.
    const limit = 2 ** 32 - (2 ** 32 % bound);
    let draw = this.uint32();
    while (draw >= limit) draw = this.uint32();
    return draw % bound;
  }

  /** What {@link Random.fromState} continues from. */
  state(): RandomState {
    const [a, b, c, d] = this.words;
    return [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
  }

  /**
   * A stream that goes on where `state` was taken.
   * @throws ArgumentError for anything but four 32-bit words that are not all 0.
   */
  static fromState(state: unknown): Random {
    const valid =
      Array.isArray(state) &&
      state.length === 4 &&
      state.every((w) => Number.isInteger(w) && w >= 0 && w < 2 ** 32) &&
      state.some((w) => w !== 0);
    if (!valid) {
      throw new ArgumentError(
        `Random: state — expected four 32-bit words, not all 0, got ${describe(state)}`,
        { op: "Random" },
      );
    }
    const random = new Random(0);
    random.words = [...(state as unknown as RandomState)];
    return random;
  }
}

/** The items in a random order (Fisher and Yates); the input is left as it is. */
export function shuffled<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}
