// Batches as tensors on a device. On a GPU each is copied through pinned memory: the call returns once
// the batch was read, while the device is still busy with the step before.

import type { Tensor } from "../core/tensor.js";
import type { Device } from "../dtype.js";
import { fromTypedArray } from "../ops/create.js";
import type { LabelledBatch } from "./collate.js";

/** A padded batch on a device; int32. */
export interface BatchTensors {
  /** [batch, length] */
  readonly inputIds: Tensor;
  /** [batch, length]: 1 for a token, 0 for padding. */
  readonly attentionMask: Tensor;
  /** [batch] */
  readonly labels: Tensor;
}

/**
 * A batch on a device; inside `tidy` it is freed with the step. Called before the results of a step
 * are waited for, it is copied while the device computes.
 */
export function batchTensors(
  batch: LabelledBatch,
  options: { readonly device?: Device } = {},
): BatchTensors {
  const { inputIds, attentionMask, labels, shape } = batch;
  return {
    inputIds: fromTypedArray(inputIds, shape, options),
    attentionMask: fromTypedArray(attentionMask, shape, options),
    labels: fromTypedArray(labels, [labels.length], options),
  };
}
