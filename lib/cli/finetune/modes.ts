// The precisions that a comparison runs, in the order of its table.

import type { MatmulPrecision } from "../../core/context.js";
import { ArgumentError } from "../../errors.js";
import { parsePrecision, type PrecisionName } from "../../fabric/precision.js";

/** One way to compute: a Fabric precision, and what float32 products do inside it. */
export interface Mode {
  /** As the table calls it. */
  readonly name: string;
  readonly precision: PrecisionName;
  readonly matmulPrecision: MatmulPrecision;
}

/** What `--compare` runs. The first is what the others are compared with. */
export const COMPARED_MODES: readonly Mode[] = [
  { name: "float32 highest", precision: "32-true", matmulPrecision: "highest" },
  { name: "float32 high", precision: "32-true", matmulPrecision: "high" },
  { name: "float32 medium", precision: "32-true", matmulPrecision: "medium" },
  { name: "float16 mixed", precision: "16-mixed", matmulPrecision: "highest" },
  { name: "bfloat16 mixed", precision: "bf16-mixed", matmulPrecision: "highest" },
  { name: "bfloat16 pure", precision: "bf16-true", matmulPrecision: "highest" },
  { name: "float16 pure", precision: "16-true", matmulPrecision: "highest" },
  { name: "float64", precision: "64-true", matmulPrecision: "highest" },
];

const MATMUL_PRECISIONS: readonly string[] = ["highest", "high", "medium"];

/**
 * The mode of one run.
 * @throws ArgumentError for a precision or matmul precision that does not exist.
 */
export function modeOf(precision: string, matmulPrecision: string): Mode {
  if (!MATMUL_PRECISIONS.includes(matmulPrecision)) {
    throw new ArgumentError(
      `matmul-precision: expected highest, high or medium, got ${JSON.stringify(matmulPrecision)}`,
      { op: "finetune" },
    );
  }
  const parsed = parsePrecision(precision);
  const known = COMPARED_MODES.find(
    (mode) => mode.precision === parsed && mode.matmulPrecision === matmulPrecision,
  );
  return (
    known ?? {
      name: matmulPrecision === "highest" ? parsed : `${parsed} ${matmulPrecision}`,
      precision: parsed,
      matmulPrecision: matmulPrecision as MatmulPrecision,
    }
  );
}
