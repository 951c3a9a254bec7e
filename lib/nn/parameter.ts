// Parameters: the tensors that a module owns and training changes.

import { checkOptions } from "../core/options.js";
import { keep } from "../core/scope.js";
import { Tensor } from "../core/tensor.js";
import type { Device, DType } from "../dtype.js";
import { ArgumentError } from "../errors.js";
import { empty } from "../ops/index.js";
import type { Shape } from "../shape.js";

/** As what, and where, a module makes its parameters. */
export interface ParameterOptions {
  /** Default: float32. */
  dtype?: DType | undefined;
  /** Default: `cpu`. */
  device?: Device | undefined;
}

/**
 * A leaf tensor that `Module.parameters()` finds where it is a property of a module. It shares the
 * memory of the tensor it is made from, requires gradients unless told otherwise, and outlives
 * every `tidy`.
 */
export class Parameter extends Tensor {
  /**
   * @throws ArgumentError for what is no tensor, GradError where gradients are required of a dtype
   * that is not floating point.
   */
  constructor(data: Tensor, options: { requiresGrad?: boolean } = {}) {
    if (!(data instanceof Tensor)) {
      throw new ArgumentError(`Parameter: expected a Tensor, got ${typeof data}`, {
        op: "Parameter",
      });
    }
    checkOptions("Parameter", options, ["requiresGrad"]);
    data.assertUsable("Parameter");
    super(data.handle.retain(), data.shape, data.strides, data.dtype, data.device, false);
    keep(this);
    this.requiresGrad = options.requiresGrad ?? true;
  }
}

/** A parameter with memory of its own, which an initializer has yet to fill. */
export function newParameter(shape: Shape, options: ParameterOptions): Parameter {
  const data = empty(shape, { dtype: options.dtype, device: options.device });
  const parameter = new Parameter(data);
  data.dispose();
  return parameter;
}
