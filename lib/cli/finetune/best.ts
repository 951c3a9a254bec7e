// What the evaluations of a run have shown, the weights of the best one, and when to stop.

import { noGrad } from "../../core/context.js";
import { clone, to } from "../../ops/index.js";
import type { Module, StateDict } from "../../nn/index.js";
import { releaseState } from "./checkpoint.js";
import type { Evaluation } from "./result.js";

/** A {@link BestWeights} at some time. */
export interface BestState {
  readonly evaluations: readonly Evaluation[];
  /** On the CPU; null where none are kept. */
  readonly weights: StateDict | null;
}

function copyOf(module: Module): StateDict {
  const state = module.stateDict();
  try {
    const copies = Object.entries(state).map(([name, tensor]) => [
      name,
      noGrad(() => (tensor.device === "cpu" ? clone(tensor) : to(tensor, "cpu"))),
    ]);
    return Object.fromEntries(copies) as StateDict;
  } finally {
    releaseState(state);
  }
}

/** Keeps, on the CPU, the weights that had the highest validation accuracy, the first of them. */
export class BestWeights {
  readonly evaluations: Evaluation[] = [];
  private weights: StateDict | null = null;

  /**
   * @param keep whether weights are kept.
   * @param patience evaluations without a better one after which the run is to stop; null: never.
   */
  constructor(
    readonly keep: boolean,
    private readonly patience: number | null,
  ) {}

  get best(): Evaluation | null {
    return this.evaluations.reduce<Evaluation | null>(
      (best, one) => (best === null || one.accuracy > best.accuracy ? one : best),
      null,
    );
  }

  /** Whether there was no better evaluation for too long. */
  get exhausted(): boolean {
    const { best, evaluations, patience } = this;
    if (patience === null || best === null) return false;
    return evaluations.length - 1 - evaluations.indexOf(best) >= patience;
  }

  /** The evaluation after that step. */
  at(step: number): Evaluation | null {
    const last = this.evaluations.at(-1);
    return last?.step === step ? last : null;
  }

  /** Takes note of an evaluation of the module as it is. */
  note(evaluation: Evaluation, module: Module): void {
    this.evaluations.push(evaluation);
    if (!this.keep || this.best !== evaluation) return;
    this.release();
    this.weights = copyOf(module);
  }

  /** Writes the weights that are kept into the module. */
  apply(module: Module): void {
    if (this.weights !== null) module.loadStateDict(this.weights);
  }

  state(): BestState {
    return { evaluations: this.evaluations, weights: this.weights };
  }

  /** Goes on from a state, whose tensors it takes over. */
  restore({ evaluations, weights }: BestState): void {
    this.evaluations.push(...evaluations);
    this.weights = weights;
  }

  release(): void {
    releaseState(this.weights);
    this.weights = null;
  }
}
