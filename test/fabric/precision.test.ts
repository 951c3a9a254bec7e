import { describe, expect, it } from "vitest";

import { ArgumentError, DeviceError } from "../../lib/errors.js";
import {
  parsePrecision,
  PRECISIONS,
  precisionMode,
  type PrecisionName,
} from "../../lib/fabric/precision.js";

const NAMES: PrecisionName[] = [
  "32-true",
  "64-true",
  "16-mixed",
  "bf16-mixed",
  "16-true",
  "bf16-true",
];

describe("precision", () => {
  it("has one row for each name", () => {
    expect(Object.keys(PRECISIONS)).toEqual(NAMES);
    for (const name of NAMES) {
      expect(parsePrecision(name)).toBe(name);
      expect(precisionMode(name).name).toBe(name);
    }
  });

  it.each([
    [64, "64-true"],
    ["64", "64-true"],
    [32, "32-true"],
    ["32", "32-true"],
    [16, "16-mixed"],
    ["16", "16-mixed"],
    ["bf16", "bf16-mixed"],
  ])("takes %j for %s", (alias, name) => {
    expect(parsePrecision(alias as string)).toBe(name);
  });

  it.each([
    ["32-true", null, null, false, null, null],
    ["64-true", "float64", null, false, "float64", "float32"],
    ["16-mixed", null, "float16", true, "float16", "float32"],
    ["bf16-mixed", null, "bfloat16", false, "bfloat16", "float32"],
    ["16-true", "float16", null, false, "float16", "float32"],
    ["bf16-true", "bfloat16", null, false, "bfloat16", "float32"],
  ])("%s: parameters %s, autocast %s, scaler %s, input %s, output %s", (name, ...row) => {
    const [parameterDtype, autocastDtype, scaler, inputDtype, outputDtype] = row;
    const expected = { name, parameterDtype, autocastDtype, scaler, inputDtype, outputDtype };
    expect(precisionMode(name)).toEqual(expected);
  });

  it.each([
    "",
    "fp16",
    "8",
    "16-MIXED",
    " 16-mixed",
    "toString",
    "__proto__",
    8,
    NaN,
    null,
    {},
    [],
  ])("rejects %j, and says what it takes", (input) => {
    const parse = (): unknown => parsePrecision(input as string);
    expect(parse).toThrow(ArgumentError);
    for (const name of NAMES) expect(parse).toThrow(name);
  });

  it.each(["transformer-engine", "transformer-engine-float16"])(
    "knows %s, and has it not",
    (name) => {
      expect(() => parsePrecision(name)).toThrow(DeviceError);
      expect(() => parsePrecision(name)).toThrow(/FP8/);
    },
  );
});
