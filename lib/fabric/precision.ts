// The precisions a training run can have: one row each, pure data. Fabric reads the row and does
// what it says; names and aliases are those of Lightning Fabric.

import type { FloatDType } from "../dtype.js";
import { ArgumentError, describe, DeviceError } from "../errors.js";

/** Full name of a precision. */
export type PrecisionName =
  "32-true" | "64-true" | "16-mixed" | "bf16-mixed" | "16-true" | "bf16-true";

/** What `precision` takes: a full name or an alias; a number counts as the string of its digits. */
export type PrecisionInput = PrecisionName | "64" | "32" | "16" | "bf16" | 64 | 32 | 16;

/** What a precision does to a model and to what goes in and out of it; null leaves it alone. */
export interface PrecisionMode {
  readonly name: PrecisionName;
  /**
   * Dtype of parameters and buffers, and the default dtype in the forward pass, `initModule` and
   * `initTensor`.
   */
  readonly parameterDtype: FloatDType | null;
  /** Dtype of the autocast region that the forward pass runs in. */
  readonly autocastDtype: FloatDType | null;
  /** Dtype of floating-point tensors that the forward pass makes without naming one. */
  readonly defaultDtype: FloatDType | null;
  /** Whether the loss is scaled (gradients of float16 underflow without). */
  readonly scaler: boolean;
  /** Dtype of every floating-point tensor that goes into the forward pass. */
  readonly inputDtype: FloatDType | null;
  /**
   * Dtype of every floating-point tensor that comes out of it; where the default dtype of the thread
   * is another, that one.
   */
  readonly outputDtype: FloatDType | null;
}

type Row = readonly [
  name: PrecisionName,
  parameterDtype: FloatDType | null,
  autocastDtype: FloatDType | null,
  scaler: boolean,
  inputDtype: FloatDType | null,
  outputDtype: FloatDType | null,
];

// prettier-ignore
const ROWS: readonly Row[] = [
  // name         parameters  autocast    scaler input       output
  ["32-true",    null,       null,       false, null,       null     ],
  ["64-true",    "float64",  null,       false, "float64",  "float32"],
  ["16-mixed",   null,       "float16",  true,  "float16",  "float32"],
  ["bf16-mixed", null,       "bfloat16", false, "bfloat16", "float32"],
  ["16-true",    "float16",  null,       false, "float16",  "float32"],
  ["bf16-true",  "bfloat16", null,       false, "bfloat16", "float32"],
];

/** Every precision, by its full name. */
export const PRECISIONS = Object.freeze(
  Object.fromEntries(
    ROWS.map(([name, parameterDtype, autocastDtype, scaler, inputDtype, outputDtype]) => [
      name,
      Object.freeze({ name, parameterDtype, autocastDtype, scaler, inputDtype, outputDtype }),
    ]),
  ) as Record<PrecisionName, PrecisionMode>,
);

const ALIASES: Readonly<Record<string, PrecisionName>> = {
  "64": "64-true",
  "32": "32-true",
  "16": "16-mixed",
  bf16: "bf16-mixed",
};

const TRANSFORMER_ENGINE = ["transformer-engine", "transformer-engine-float16"];

/**
 * The full name of a precision given by name or alias: 64, 32, 16 (as numbers or strings) and
 * "bf16" stand for 64-true, 32-true, 16-mixed and bf16-mixed.
 * @throws ArgumentError for any other value, with what is allowed; DeviceError for the names of
 *   Transformer Engine, whose FP8 kernels are not here.
 */
export function parsePrecision(input: PrecisionInput | (string & {})): PrecisionName {
  const text = typeof input === "number" ? String(input) : (input as unknown);
  if (typeof text === "string") {
    if (Object.hasOwn(PRECISIONS, text)) return text as PrecisionName;
    if (Object.hasOwn(ALIASES, text)) return ALIASES[text]!;
    if (TRANSFORMER_ENGINE.includes(text)) {
      throw new DeviceError(
        `precision: ${text} computes in FP8 with kernels of Transformer Engine, which need a GPU ` +
          `of compute capability 8.9 or later and are not part of this build; use "bf16-mixed"`,
        { op: "precision" },
      );
    }
  }
  throw new ArgumentError(
    `precision: expected one of ${Object.keys(PRECISIONS).join(", ")} or an alias of these ` +
      `(${Object.keys(ALIASES).join(", ")}), got ${describe(input)}`,
    { op: "precision" },
  );
}

/** The row of a precision given by name or alias. */
export function precisionMode(input: PrecisionInput | (string & {})): PrecisionMode {
  return PRECISIONS[parsePrecision(input)];
}
