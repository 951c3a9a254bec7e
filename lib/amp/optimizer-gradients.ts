// The gradients that the loss scaler looks at, and how its errors name their parameters.

import { noGrad } from "../core/context.js";
import { outsideScopes } from "../core/scope.js";
import type { Tensor } from "../core/tensor.js";
import { isfinite, item, sum } from "../ops/index.js";
import { formatShape } from "../shape.js";

/** What `GradScaler` needs of an optimizer; those of `optim` have it. */
export interface ScalableOptimizer {
  /** All parameters; where it is missing, those of `paramGroups` count. */
  parameters?(): Iterable<Tensor>;
  readonly paramGroups?: Iterable<{
    readonly params: Iterable<Tensor>;
    /** Whether 16-bit parameters of the group have float32 masters. */
    readonly masterWeights?: boolean;
  }>;
  /** Updates the parameters. */
  step(): unknown;
  /** A step that the device itself leaves out where `foundInf` is not 0. */
  stepScaled?(gradScale: Tensor | null, foundInf: Tensor): void;
  /** How errors call a parameter. */
  describeParameter?(parameter: Tensor): string;
}

/** A parameter that has a gradient. */
export interface Gradient {
  readonly parameter: Tensor;
  readonly grad: Tensor;
}

/** The parameters of an optimizer, in the order of its groups. */
export function parametersOf(optimizer: ScalableOptimizer): Tensor[] {
  if (optimizer.parameters !== undefined) return [...optimizer.parameters()];
  return [...(optimizer.paramGroups ?? [])].flatMap(({ params }) => [...params]);
}

/** The parameters of an optimizer that have a gradient. */
export function gradientsOf(optimizer: ScalableOptimizer): Gradient[] {
  return parametersOf(optimizer).flatMap((parameter) => {
    const { grad } = parameter;
    return grad === null || grad.isDisposed ? [] : [{ parameter, grad }];
  });
}

/** Those of `gradients` that are float16. */
export function halfGradients(gradients: readonly Gradient[]): Gradient[] {
  return gradients.filter(({ grad }) => grad.dtype === "float16");
}

/** Whether an optimizer updates float32 masters of all of `gradients`, scaled as they are. */
export function hasMasters(
  optimizer: ScalableOptimizer,
  gradients: readonly Gradient[],
): optimizer is ScalableOptimizer & Required<Pick<ScalableOptimizer, "stepScaled">> {
  if (optimizer.stepScaled === undefined) return false;
  const groups = [...(optimizer.paramGroups ?? [])].filter((group) => group.masterWeights === true);
  const covered = new Set(groups.flatMap(({ params }) => [...params]));
  return gradients.every(({ parameter }) => covered.has(parameter));
}

/** How errors call each of `parameters`. */
export function namesOf(optimizer: ScalableOptimizer, parameters: readonly Tensor[]): string[] {
  const all = parametersOf(optimizer);
  return parameters.map(
    (parameter) =>
      optimizer.describeParameter?.(parameter) ??
      `parameter ${all.indexOf(parameter)} (${parameter.dtype} ${formatShape(parameter.shape)})`,
  );
}

const MAX_LISTED = 8;

/** {@link namesOf} in one line, the first few. */
export function listOf(optimizer: ScalableOptimizer, parameters: readonly Tensor[]): string {
  const shown = namesOf(optimizer, parameters.slice(0, MAX_LISTED)).join(", ");
  const more = parameters.length - MAX_LISTED;
  return more > 0 ? `${shown} and ${more} more` : shown;
}

/**
 * The parameters of an optimizer whose gradients are not finite, described; waits for the device.
 */
export function nonFinite(optimizer: ScalableOptimizer): string[] {
  const isFinite = (grad: Tensor): boolean =>
    outsideScopes(() =>
      noGrad(() => {
        const finite = isfinite(grad);
        const count = sum(finite);
        const all = item(count) === grad.numel;
        finite.dispose();
        count.dispose();
        return all;
      }),
    );
  const bad = gradientsOf(optimizer).filter(({ grad }) => !isFinite(grad));
  return namesOf(
    optimizer,
    bad.map(({ parameter }) => parameter),
  );
}
