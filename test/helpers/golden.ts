// Reference values computed by torch: reads the files of test/golden (format: test/golden/case.py),
// builds tensors from them, runs operations by name and compares with the tolerance of the dtype.

import { readdirSync, readFileSync } from "node:fs";

import * as mp from "../../lib/index.js";

/** An element as the files write it: NaN, infinities and large int64 are strings. */
export type GoldenValue = number | string;

/** A tensor as the files write it. */
export interface GoldenTensor {
  readonly dtype: mp.DType;
  readonly shape: readonly number[];
  readonly values: readonly GoldenValue[];
  /** The values lie in memory with all dimensions reversed. */
  readonly strided?: boolean;
  /** A gradient is wanted. */
  readonly grad?: boolean;
}

/** A case of a single operation. */
export interface OpCase {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly GoldenTensor[];
  readonly args: readonly unknown[];
  readonly outputs: readonly GoldenTensor[];
  readonly gradOutputs?: readonly (GoldenTensor | null)[];
  readonly grads?: readonly (GoldenTensor | null)[];
  readonly exact?: boolean;
  readonly ulps?: number;
}

/** How far an element may be off: `relative * |expected| + absolute + ofLargest * largest`. */
export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
  /** Share of the largest finite magnitude among the expected elements. */
  readonly ofLargest?: number;
}

/** Nothing but the same element. */
export const EXACT: Tolerance = { relative: 0, absolute: 0 };

const WIDE: Partial<Record<mp.DType, Tolerance>> = {
  float64: { relative: 1e-12, absolute: 1e-13 },
  float32: { relative: 1e-5, absolute: 1e-6 },
};

const GOLDEN = new URL("../golden/", import.meta.url);

/** Reads a JSON file under test/golden. */
export function readGolden(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, GOLDEN), "utf8"));
}

/** Names of the families of operations. */
export function goldenFamilies(): string[] {
  return readdirSync(new URL("ops/", GOLDEN))
    .filter((file) => file.endsWith(".json"))
    .map((file) => file.slice(0, -".json".length))
    .sort();
}

/** The cases of a family. */
export function goldenCases(family: string): OpCase[] {
  const { cases } = readGolden(`ops/${family}.json`) as { cases: OpCase[] };
  if (cases.length === 0) throw new Error(`golden ${family}: expected cases, got none`);
  return cases;
}

/** The number that the files wrote. */
export function decodeValue(value: GoldenValue): number {
  return typeof value === "number" ? value : Number(value);
}

/** The tensor that the files wrote; `requiresGrad` as its `grad` says. */
export function goldenTensor(golden: GoldenTensor): mp.Tensor {
  const { dtype, shape, values } = golden;
  if (golden.strided !== true) return build(dtype, shape, values, golden.grad);
  const reversed = shape.map((_, dim) => shape.length - 1 - dim);
  const memory = transposeAll(values, shape);
  const base = build(dtype, [...shape].reverse(), memory, false);
  const x = mp.permute(base, reversed);
  if (golden.grad === true) x.requiresGrad = true;
  return x;
}

function build(
  dtype: mp.DType,
  shape: readonly number[],
  values: readonly GoldenValue[],
  requiresGrad = false,
): mp.Tensor {
  if (dtype === "int64") {
    return mp.fromTypedArray(BigInt64Array.from(values, BigInt), [...shape], { dtype });
  }
  const data = Float64Array.from(values, decodeValue);
  return mp.fromTypedArray(data, [...shape], { dtype, requiresGrad });
}

/** Row-major elements of the tensor with all dimensions reversed. */
function transposeAll(values: readonly GoldenValue[], shape: readonly number[]): GoldenValue[] {
  const rank = shape.length;
  const index = new Array<number>(rank).fill(0);
  return values.map(() => {
    // `index` counts over the reversed shape; its last place is the first dimension.
    let from = 0;
    for (let dim = 0; dim < rank; dim++) from = from * shape[dim]! + index[rank - 1 - dim]!;
    for (let place = rank - 1; place >= 0; place--) {
      if (++index[place]! < shape[rank - 1 - place]!) break;
      index[place] = 0;
    }
    return values[from]!;
  });
}

/** The elements of a tensor, row-major, as numbers. */
export function elements(x: mp.Tensor): number[] {
  return Array.from(x.dataSync() as ArrayLike<number | bigint>, Number);
}

/** One unit in the last place of a 16-bit float around `value`. */
function ulp16(value: number, dtype: "float16" | "bfloat16"): number {
  const { eps, smallestNormal } = mp.finfo(dtype);
  const magnitude = Math.max(Math.abs(value), smallestNormal);
  return eps * 2 ** Math.floor(Math.log2(magnitude));
}

function allowed(expected: number, dtype: mp.DType, ulps: number, tolerance?: Tolerance): number {
  if (tolerance === undefined) {
    if (dtype === "float16" || dtype === "bfloat16") return ulps * ulp16(expected, dtype);
    tolerance = WIDE[dtype] ?? EXACT;
  }
  return tolerance.relative * Math.abs(expected) + tolerance.absolute;
}

/** How {@link compareWith} compares. */
export interface CompareOptions {
  /** Instead of the tolerance of the dtype. */
  readonly tolerance?: Tolerance;
  /** Units in the last place allowed in 16 bits; 1 by default. */
  readonly ulps?: number;
}

/** What differs between a tensor and the expected one, in one line; null where nothing does. */
export function compareWith(
  actual: mp.Tensor,
  expected: GoldenTensor,
  options: CompareOptions = {},
): string | null {
  const { dtype, shape, values } = expected;
  if (actual.dtype !== dtype) return `expected dtype ${dtype}, got ${actual.dtype}`;
  if (actual.shape.length !== shape.length || actual.shape.some((n, i) => n !== shape[i])) {
    return `expected shape [${shape.join(", ")}], got [${actual.shape.join(", ")}]`;
  }
  const { tolerance, ulps = 1 } = options;
  const wanted = values.map(decodeValue);
  if (dtype !== "float64" && dtype.includes("float")) wanted.forEach(roundInPlace);
  const finite = wanted.filter(Number.isFinite).map(Math.abs);
  const largest = (tolerance?.ofLargest ?? 0) * finite.reduce((a, b) => Math.max(a, b), 0);
  const found = elements(actual);
  const faults: { excess: number; text: string }[] = [];
  wanted.forEach((value, i) => {
    const got = found[i]!;
    if (Object.is(got, value) || got === value) return;
    const limit = allowed(value, dtype, ulps, tolerance) + largest;
    const error = Math.abs(got - value);
    if (Number.isFinite(value) && error <= limit) return;
    const text = `element ${i}: expected ${value}, got ${got} (off by ${error}, allowed ${limit})`;
    faults.push({ excess: Number.isNaN(error) ? Infinity : error - limit, text });
  });
  if (faults.length === 0) return null;
  const worst = faults.reduce((a, b) => (b.excess > a.excess ? b : a));
  return `${faults.length} of ${wanted.length} differ, ${worst.text}`;
}

function roundInPlace(value: number, i: number, values: number[]): void {
  values[i] = Math.fround(value);
}

// A gradient is made of several rounded steps where no fused kernel does it in one, and 16-bit sums
// cancel: errors count against the largest element too.
function gradTolerance(dtype: mp.DType): Tolerance {
  if (dtype === "float16" || dtype === "bfloat16") {
    const { eps, smallestSubnormal } = mp.finfo(dtype);
    return { relative: 3 * eps, absolute: smallestSubnormal, ofLargest: eps };
  }
  const wide = WIDE[dtype] ?? EXACT;
  return { ...wide, ofLargest: wide.relative };
}

function fillIn(value: unknown, inputs: readonly mp.Tensor[]): unknown {
  if (value === "Infinity" || value === "-Infinity" || value === "NaN") return Number(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => fillIn(item, inputs));
  if ("$" in value) return inputs[value.$ as number]!;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, fillIn(v, inputs)]));
}

function outputsOf(result: unknown): mp.Tensor[] {
  if (result instanceof mp.Tensor) return [result];
  if (typeof result !== "object" || result === null) return [];
  return Object.values(result).filter((value) => value instanceof mp.Tensor);
}

type AnyOp = (...args: unknown[]) => unknown;

/** Runs the case's operation on its inputs. */
export function runCase(entry: OpCase): { inputs: mp.Tensor[]; outputs: mp.Tensor[] } {
  const fn = (mp as unknown as Record<string, AnyOp | undefined>)[entry.op];
  if (fn === undefined) throw new Error(`${entry.name}: the library has no operation ${entry.op}`);
  const inputs = entry.inputs.map(goldenTensor);
  const args = entry.args.map((arg) => fillIn(arg, inputs));
  return { inputs, outputs: outputsOf(fn(...args)) };
}

/** Runs a case and compares outputs and gradients. Throws an Error that lists all that differs. */
export function checkCase(entry: OpCase): void {
  const { inputs, outputs } = runCase(entry);
  const problems: string[] = [];
  const { ulps } = entry;
  if (outputs.length !== entry.outputs.length) {
    problems.push(`expected ${entry.outputs.length} outputs, got ${outputs.length}`);
  } else {
    const exact = entry.exact === true ? { tolerance: EXACT } : { ulps };
    outputs.forEach((output, i) => {
      const difference = compareWith(output, entry.outputs[i]!, exact);
      if (difference !== null) problems.push(`output ${i}: ${difference}`);
    });
    if (entry.grads !== undefined) problems.push(...checkGrads(entry, inputs, outputs));
  }
  if (problems.length > 0) {
    throw new Error(`${entry.name}: ${problems.join("; ")}; arguments ${describeArgs(entry)}`);
  }
}

function checkGrads(
  entry: OpCase,
  inputs: readonly mp.Tensor[],
  outputs: readonly mp.Tensor[],
): string[] {
  const given = entry.gradOutputs!;
  const roots = outputs.filter((_, i) => given[i] !== null);
  const gradOutputs = given.filter((grad) => grad !== null).map((grad) => goldenTensor(grad));
  const wanted = entry.grads!.flatMap((grad, i) => (grad === null ? [] : [{ grad, i }]));
  const leaves = wanted.map(({ i }) => inputs[i]!);
  const options: mp.GradOptions = { gradOutputs, allowUnused: true };
  const found = mp.grad(roots, leaves, options) as (mp.Tensor | null)[];
  return wanted.flatMap(({ grad, i }, at) => {
    const actual = found[at] ?? null;
    if (actual === null) return [`gradient of input ${i}: got none`];
    const difference = compareWith(actual, grad, { tolerance: gradTolerance(grad.dtype) });
    return difference === null ? [] : [`gradient of input ${i}: ${difference}`];
  });
}

function describeArgs(entry: OpCase): string {
  const inputs = entry.inputs.map(
    (x) => `${x.dtype} [${x.shape.join(", ")}]${x.strided === true ? " strided" : ""}`,
  );
  return `${JSON.stringify(entry.args)} of ${inputs.join(", ")}`;
}
