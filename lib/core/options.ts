// Checks of options objects. A misspelt option is an error: left alone, it would train something
// else.

import { ArgumentError, describe } from "../errors.js";
import { Tensor } from "./tensor.js";

/** Whether `value` is what an operation takes as its options: an object, and no list or tensor. */
export function isOptions(value: unknown): value is object {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Tensor)
  );
}

/**
 * Throws ArgumentError unless `options` is an object with no other keys than `names`; catches a
 * misspelt option and an argument passed at the wrong place.
 */
export function checkOptions(op: string, options: unknown, names: readonly string[]): void {
  if (!isOptions(options)) {
    throw new ArgumentError(
      `${op}: expected options as an object, such as { ${names[0]!}: … }, got ${describe(options)}`,
      { op },
    );
  }
  for (const name in options) {
    if (!names.includes(name)) {
      throw new ArgumentError(
        `${op}: there is no option "${name}" — expected ${names.join(", ")}`,
        { op },
      );
    }
  }
}

/** The one option of an operation along a dimension. */
export interface DimOptions {
  /** The dimension, from the end when negative, where it is not given by itself. */
  dim?: number | undefined;
}

/** The dimension of an operation, by itself or as `{ dim }`; `fallback` where it is left out. */
export function dimOf(op: string, given: number | DimOptions | undefined, fallback = 0): number {
  if (!isOptions(given)) return given ?? fallback;
  checkOptions(op, given, ["dim"]);
  return given.dim ?? fallback;
}

/**
 * The options of an operation along a dimension, which may stand in front of them, as in torch, or
 * among them: `sum(x, 0, { keepdim })` or `sum(x, { dim: 0, keepdim })`. Checked as
 * {@link checkOptions} does.
 */
export function optionsWithDim<D, O extends { dim?: D | null | undefined }>(
  op: string,
  dimOrOptions: D | O | null | undefined,
  options: Omit<O, "dim"> | undefined,
  names: readonly string[],
): O {
  if (isOptions(dimOrOptions)) {
    checkOptions(op, dimOrOptions, names);
    if (options === undefined) return dimOrOptions;
    throw new ArgumentError(`${op}: expected one options object, got two`, { op });
  }
  if (options === undefined) return { dim: dimOrOptions ?? undefined } as O;
  checkOptions(op, options, names);
  if (dimOrOptions === undefined || dimOrOptions === null) return options as O;
  if ("dim" in options) {
    throw new ArgumentError(`${op}: dim was given both before the options and among them`, { op });
  }
  return { ...options, dim: dimOrOptions } as O;
}
