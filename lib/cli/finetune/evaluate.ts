// How a model answers samples that it was not trained on.

import { noGrad, withFloat32MatmulPrecision } from "../../core/context.js";
import { tidy } from "../../core/scope.js";
import type { Tensor } from "../../core/tensor.js";
import { batchTensors } from "../../data/index.js";
import type { Device } from "../../dtype.js";
import type { FabricModule } from "../../fabric/index.js";
import type { SequenceClassifier } from "../../models/index.js";
import { argmax, isfinite, sum } from "../../ops/index.js";
import { batchesOf, type BatchOptions, type Samples } from "./dataset.js";
import { ConfusionMatrix, type Classification } from "./metrics.js";
import type { Mode } from "./modes.js";

/** What {@link evaluate} is told. */
export interface EvaluateOptions extends BatchOptions {
  readonly device: Device;
  /** Names of the classes, by label. */
  readonly classes: readonly string[];
  /** Called between batches; what it throws ends the evaluation. */
  readonly turn: () => Promise<void>;
}

/** Whether all numbers are finite. */
export const allFinite = (logits: Tensor): boolean => sum(isfinite(logits)).item() === logits.numel;

/** How samples are classified; null where an answer is not finite. The model is left in `eval`. */
export async function evaluate(
  model: FabricModule<SequenceClassifier>,
  samples: Samples,
  mode: Mode,
  options: EvaluateOptions,
): Promise<Classification | null> {
  const { device } = options;
  const matrix = new ConfusionMatrix(options.classes);
  model.eval();
  for (const batch of batchesOf(samples, options)) {
    await options.turn();
    const compute = (): number[] | null => {
      const { inputIds, attentionMask } = batchTensors(batch, { device });
      const { logits } = model.forward(inputIds, { attentionMask });
      if (!allFinite(logits)) return null;
      return argmax(logits, { dim: 1 }).toArray() as number[];
    };
    const answers = withFloat32MatmulPrecision(mode.matmulPrecision, () =>
      tidy(() => noGrad(compute)),
    );
    if (answers === null) return null;
    matrix.add(batch.labels, answers);
  }
  return matrix.summary();
}
