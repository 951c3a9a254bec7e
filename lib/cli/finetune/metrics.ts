// How good answers are: the confusion matrix, and what is counted from it.

/** How a class was recognized. A ratio whose denominator is 0 is 0. */
export interface ClassMetrics {
  readonly name: string;
  /** Share of right ones among the answers that name the class. */
  readonly precision: number;
  /** Share of the texts of the class that were recognized. */
  readonly recall: number;
  /** Harmonic mean of precision and recall. */
  readonly f1: number;
  /** Texts of the class. */
  readonly support: number;
}

/** How texts were classified. */
export interface Classification {
  /** Share of right answers. */
  readonly accuracy: number;
  /** Mean F1 of the classes that occur, among the labels or the answers. */
  readonly macroF1: number;
  readonly classes: readonly ClassMetrics[];
  /** Texts by class, and in it by the class of the answer. */
  readonly confusion: readonly (readonly number[])[];
}

const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** Counts answers. */
export class ConfusionMatrix {
  private readonly counts: number[][];

  /** @param names the classes, by label. */
  constructor(private readonly names: readonly string[]) {
    this.counts = names.map(() => names.map(() => 0));
  }

  /** Adds texts of the classes `labels`, that were taken for `answers`. */
  add(labels: ArrayLike<number>, answers: ArrayLike<number>): void {
    for (let i = 0; i < labels.length; i++) this.counts[labels[i]!]![answers[i]!]!++;
  }

  /** What was counted so far. */
  summary(): Classification {
    const { counts, names } = this;
    const given = names.map((_, i) => total(counts[i]!));
    const answered = names.map((_, i) => total(counts.map((row) => row[i]!)));
    const classes = names.map((name, i): ClassMetrics => {
      const right = counts[i]![i]!;
      return {
        name,
        precision: ratio(right, answered[i]!),
        recall: ratio(right, given[i]!),
        // 2 p r / (p + r), without the rounding of p and r.
        f1: ratio(2 * right, answered[i]! + given[i]!),
        support: given[i]!,
      };
    });
    const occurring = classes.filter((_, i) => given[i]! + answered[i]! > 0);
    const right = total(names.map((_, i) => counts[i]![i]!));
    return {
      accuracy: ratio(right, total(given)),
      macroF1: ratio(total(occurring.map(({ f1 }) => f1)), occurring.length),
      classes,
      confusion: counts.map((row) => [...row]),
    };
  }
}
