// lib/dtype.ts: the table of dtypes, promotion, and the facts of the floating formats.
import fc from "fast-check";
import { expect, test } from "vitest";
import * as dtypes from "../../lib/dtype.js";
import { DTypeError } from "../../lib/errors.js";

const { DTYPES, finfo, promoteTypes } = dtypes;
const anyDType = fc.constantFrom(...DTYPES);

test("a code is the position in the table", () => {
  expect(DTYPES.map(dtypes.dtypeCode)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

test("sizes in bytes", () => {
  expect(DTYPES.map(dtypes.itemSize)).toEqual([8, 4, 2, 2, 8, 4, 1, 1, 1]);
});

test("kinds", () => {
  expect(DTYPES.filter(dtypes.isFloating)).toEqual(["float64", "float32", "float16", "bfloat16"]);
  expect(DTYPES.filter(dtypes.isHalfWidth)).toEqual(["float16", "bfloat16"]);
  expect(DTYPES.map(dtypes.dtypeCategory)).toEqual([2, 2, 2, 2, 1, 1, 1, 1, 0]);
});

test("only the names of dtypes are dtypes", () => {
  for (const dtype of DTYPES) expect(dtypes.checkDType(dtype, "zeros")).toBe(dtype);
  for (const value of ["float17", "", 1, null, undefined, {}, ["float32"]]) {
    expect(dtypes.isDType(value)).toBe(false);
    expect(() => dtypes.checkDType(value, "zeros")).toThrow(DTypeError);
  }
  expect(() => dtypes.checkDType("float17", "zeros")).toThrow(/zeros: .*float64.*got "float17"/);
});

test.each(["toString", "constructor", "__proto__", "hasOwnProperty"])(
  "%s, which every object has, is no dtype",
  (name) => {
    expect(dtypes.isDType(name)).toBe(false);
  },
);

// One row per dtype, in the order of the table, as torch.promote_types prints them; int16, which
// torch gives for uint8 with int8, does not exist here.
const [d, f, h, b, l, i] = DTYPES;
const promotions = [
  [d, d, d, d, d, d, d, d, d],
  [d, f, f, f, f, f, f, f, f],
  [d, f, h, f, h, h, h, h, h],
  [d, f, f, b, b, b, b, b, b],
  [d, f, h, b, l, l, l, l, l],
  [d, f, h, b, l, i, i, i, i],
  [d, f, h, b, l, i, "int8", "int32", "int8"],
  [d, f, h, b, l, i, "int32", "uint8", "uint8"],
  [d, f, h, b, l, i, "int8", "uint8", "bool"],
];

test.each(DTYPES.map((dtype, row) => [dtype, promotions[row]!] as const))(
  "promotion of %s",
  (dtype, row) => {
    expect(DTYPES.map((other) => promoteTypes(dtype, other))).toEqual(row);
  },
);

test("promotion is symmetric, keeps equals, and absorbs its result", () => {
  fc.assert(
    fc.property(anyDType, anyDType, (x, y) => {
      const both = promoteTypes(x, y);
      expect(promoteTypes(y, x)).toBe(both);
      expect(promoteTypes(x, x)).toBe(x);
      expect(promoteTypes(both, x)).toBe(both);
    }),
  );
});

test("finfo has torch's numbers", () => {
  expect(finfo("float16")).toMatchObject({
    bits: 16,
    eps: 0.0009765625,
    max: 65504,
    min: -65504,
    tiny: 6.103515625e-5,
    smallestSubnormal: 5.960464477539063e-8,
    resolution: 0.001,
  });
  expect(finfo("bfloat16")).toMatchObject({
    eps: 0.0078125,
    max: 3.3895313892515355e38,
    tiny: 1.1754943508222875e-38,
    resolution: 0.01,
  });
  expect(finfo("float32")).toMatchObject({ eps: 2 ** -23, max: 3.4028234663852886e38 });
  expect(finfo("float64")).toMatchObject({ eps: Number.EPSILON, max: Number.MAX_VALUE });
  expect(finfo("float64").smallestSubnormal).toBe(Number.MIN_VALUE);
});

test("finfo takes floating dtypes only", () => {
  expect(() => finfo("int32")).toThrow(/finfo: .*got int32/);
  expect(() => finfo("float17" as "float32")).toThrow(DTypeError);
});
