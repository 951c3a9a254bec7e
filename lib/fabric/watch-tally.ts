// Counts what a number format could not hold, on the device: a few reductions for each tensor, added
// to sums that stay there until somebody asks. Nothing here waits for the device.

import { autocast } from "../amp/index.js";
import { noGrad } from "../core/context.js";
import { outsideScopes, tidy } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { finfo, type FloatDType } from "../dtype.js";
import {
  abs,
  add,
  amax,
  cat,
  eq,
  full,
  gt,
  isfinite,
  lt,
  maximum,
  mul,
  reshape,
  stack,
  sub,
  sum,
  to,
  where,
} from "../ops/index.js";

/** What is known of all tensors of one kind that a layer gave. */
export interface Counts {
  readonly dtype: FloatDType;
  /** Tensors that were looked at. */
  readonly tensors: number;
  readonly elements: number;
  /** The largest magnitude among finite elements. */
  readonly largest: number;
  readonly zeros: number;
  readonly notFinite: number;
  /** Neither 0 nor as large as the dtype's smallest normal number. */
  readonly subnormal: number;
  /** Zeros of tensors that have subnormal elements, too. */
  readonly underflow: number;
  /** Place, in the order of all that was looked at, of the first one not finite; Infinity: none. */
  readonly firstNotFinite: number;
}

/** Numbers of one tally: four sums, two maxima. */
const WIDTH = 6;

/** Sums for one kind of tensors of one layer. */
export class Tally {
  private dtype: FloatDType = "float32";
  private tensors = 0;
  private elements = 0;
  /** float64 [6]: sums of zeros, not finite, subnormal, underflow; maxima of magnitude, -place. */
  private state: Tensor | null = null;

  /** Adds a floating-point tensor; `place` grows with every one that is looked at. */
  add(x: Tensor, place: number): void {
    if (x.numel === 0) return;
    this.dtype = x.dtype as FloatDType;
    this.tensors++;
    this.elements += x.numel;
    const before = this.state;
    this.state = outsideScopes(() =>
      noGrad(() => autocast({ enabled: false }, () => tidy(() => joined(before, x, place)))),
    );
    before?.dispose();
  }

  /** The sums on the device; null where nothing was added. */
  get pending(): Tensor | null {
    return this.state;
  }

  /** What the numbers of {@link pending}, once read, say. */
  read(numbers: ArrayLike<number>): Counts {
    const { dtype, tensors, elements } = this;
    const [zeros, notFinite, subnormal, underflow, largest, place] = Array.from(numbers) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const counts = { zeros, notFinite, subnormal, underflow, largest, firstNotFinite: -place };
    return { dtype, tensors, elements, ...counts };
  }

  /** Forgets what was added. */
  reset(): void {
    this.state?.dispose();
    this.state = null;
    this.tensors = 0;
    this.elements = 0;
  }
}

/** `before` with what is in `x` added to it. */
function joined(before: Tensor | null, x: Tensor, place: number): Tensor {
  const { device } = x;
  const count = (mask: Tensor): Tensor => to(sum(mask), "float64");
  const finite = isfinite(x);
  const magnitude = abs(x);
  const zeros = count(eq(x, 0));
  const below = count(lt(magnitude, finfo(x.dtype).smallestNormal));
  const subnormal = sub(below, zeros);
  const notFinite = sub(full([], x.numel, { dtype: "float64", device }), count(finite));
  const underflow = mul(zeros, to(gt(subnormal, 0), "float64"));
  const largest = to(amax(where(finite, magnitude, 0)), "float64");
  const none = full([], -Infinity, { dtype: "float64", device });
  const first = where(gt(notFinite, 0), -place, none);
  const sums = stack([zeros, notFinite, subnormal, underflow]);
  const peaks = stack([largest, first]);
  if (before === null) return cat([sums, peaks]);
  return cat([add(before.narrow(0, 0, 4), sums), maximum(before.narrow(0, 4, WIDTH - 4), peaks)]);
}

/** Reads several tallies; the device is waited for once. */
export async function readTallies(tallies: readonly Tally[]): Promise<Map<Tally, Counts>> {
  const filled = tallies.filter(({ pending }) => pending !== null);
  const found = new Map<Tally, Counts>();
  if (filled.length === 0) return found;
  const all = outsideScopes(() =>
    noGrad(() =>
      tidy(() => reshape(cat(filled.map(({ pending }) => pending!)), [filled.length * WIDTH])),
    ),
  );
  try {
    // Counts of this moment: what is added while the device is waited for belongs to a later report.
    const headers = filled.map((tally) => tally.read(new Float64Array(WIDTH)));
    const numbers = await all.data();
    filled.forEach((tally, i) => {
      const read = tally.read(Array.from(numbers.subarray(i * WIDTH, (i + 1) * WIDTH), Number));
      const { dtype, tensors, elements } = headers[i]!;
      found.set(tally, { ...read, dtype, tensors, elements });
    });
    return found;
  } finally {
    all.dispose();
  }
}
