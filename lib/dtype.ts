// Element types: one row each, type promotion as torch's, and the facts of the floating formats.

import { describe, DTypeError } from "./errors.js";

/** Element type of a tensor. */
export type DType =
  "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int8" | "uint8" | "bool";

/** A floating-point {@link DType}. */
export type FloatDType = "float64" | "float32" | "float16" | "bfloat16";

/** A place where tensors live: the CPU or a CUDA device (`cuda` is the current one, `cuda:0`). */
export type Device = "cpu" | "cuda" | `cuda:${number}`;

/** The JavaScript arrays that tensor data comes from and goes to. */
export type TypedArray =
  Float64Array | Float32Array | Uint16Array | BigInt64Array | Int32Array | Int8Array | Uint8Array;

/** Every dtype; the index is its code in the addon (native/core/dtype.h). */
export const DTYPES = [
  "float64",
  "float32",
  "float16",
  "bfloat16",
  "int64",
  "int32",
  "int8",
  "uint8",
  "bool",
] as const satisfies readonly DType[];

const CODES = Object.fromEntries(DTYPES.map((dtype, code) => [dtype, code])) as Record<
  DType,
  number
>;

/** The addon's code of a dtype. */
export function dtypeCode(dtype: DType): number {
  return CODES[dtype];
}

const ITEM_SIZES: Record<DType, number> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Bytes of one element. */
export function itemSize(dtype: DType): number {
  return ITEM_SIZES[dtype];
}

/** Whether `value` names a dtype. */
export function isDType(value: unknown): value is DType {
  return typeof value === "string" && Object.hasOwn(CODES, value);
}

/** Throws DTypeError unless `value` names a dtype. */
export function checkDType(value: unknown, op: string): DType {
  if (isDType(value)) return value;
  throw new DTypeError(
    `${op}: unknown dtype — expected one of ${DTYPES.join(", ")}, got ${describe(value)}`,
    { op },
  );
}

/** Whether a dtype is floating point. */
export function isFloating(dtype: DType): dtype is FloatDType {
  return CODES[dtype] <= 3;
}

/** Whether a dtype is float16 or bfloat16. */
export function isHalfWidth(dtype: DType): boolean {
  return dtype === "float16" || dtype === "bfloat16";
}

// torch's lattice: bool < uint8, int8 < int32 < int64 < float16, bfloat16 < float32 < float64;
// two that are not ordered meet above both.
const RANK: Record<DType, number> = {
  bool: 0,
  uint8: 1,
  int8: 1,
  int32: 3,
  int64: 4,
  float16: 5,
  bfloat16: 5,
  float32: 6,
  float64: 7,
};

/**
 * The dtype in which two operands meet, as torch's `promote_types`: the wider of the two, except that
 * uint8 with int8 gives int32's narrower torch answer int16 — which does not exist here, so int32 —
 * and float16 with bfloat16 gives float32.
 * @throws DTypeError for what is no dtype.
 */
export function promoteTypes(a: DType, b: DType): DType {
  checkDType(a, "promoteTypes");
  checkDType(b, "promoteTypes");
  if (a === b) return a;
  if (RANK[a] === RANK[b]) return isFloating(a) ? "float32" : "int32";
  return RANK[a] > RANK[b] ? a : b;
}

/** Category of a dtype in torch's promotion of tensors with scalars: bool, integer, floating. */
export function dtypeCategory(dtype: DType): 0 | 1 | 2 {
  if (dtype === "bool") return 0;
  return isFloating(dtype) ? 2 : 1;
}

/** Facts of a floating-point format, as torch's `finfo`. */
export interface FloatInfo {
  readonly dtype: FloatDType;
  /** Width in bits. */
  readonly bits: number;
  /** Distance from 1 to the next larger number. */
  readonly eps: number;
  /** Largest finite number. */
  readonly max: number;
  /** Smallest finite number, `-max`. */
  readonly min: number;
  /** Smallest positive normal number. */
  readonly smallestNormal: number;
  /** The same as `smallestNormal`. */
  readonly tiny: number;
  /** Smallest positive number. */
  readonly smallestSubnormal: number;
  /** Decimal resolution, 10 to the power of minus the decimal digits that are always exact. */
  readonly resolution: number;
}

function floatInfo(
  dtype: FloatDType,
  bits: number,
  significandBits: number,
  minExponent: number,
  max: number,
  resolution: number,
): FloatInfo {
  const smallestNormal = 2 ** minExponent;
  return Object.freeze({
    dtype,
    bits,
    eps: 2 ** -significandBits,
    max,
    min: -max,
    smallestNormal,
    tiny: smallestNormal,
    smallestSubnormal: 2 ** (minExponent - significandBits),
    resolution,
  });
}

const FINFO: Record<FloatDType, FloatInfo> = {
  float64: floatInfo("float64", 64, 52, -1022, Number.MAX_VALUE, 1e-15),
  float32: floatInfo("float32", 32, 23, -126, (2 - 2 ** -23) * 2 ** 127, 1e-6),
  float16: floatInfo("float16", 16, 10, -14, 65504, 1e-3),
  bfloat16: floatInfo("bfloat16", 16, 7, -126, (2 - 2 ** -7) * 2 ** 127, 1e-2),
};

/**
 * Facts of a floating-point dtype.
 * @throws DTypeError for an integer or bool dtype.
 */
export function finfo(dtype: DType): FloatInfo {
  checkDType(dtype, "finfo");
  if (!isFloating(dtype)) {
    throw new DTypeError(`finfo: expected a floating-point dtype, got ${dtype}`, { op: "finfo" });
  }
  return FINFO[dtype];
}
