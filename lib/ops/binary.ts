// Element-wise functions of two operands: arithmetic, comparison, selection. Either operand may be
// a number; tensors broadcast and meet in the promoted dtype.

import { defineOp, describe, run } from "../core/dispatch.js";
import { gradOps, record } from "../core/tape.js";
import type { Tensor } from "../core/tensor.js";
import { dtypeCode, isFloating, type DType } from "../dtype.js";
import { ArgumentError, DTypeError } from "../errors.js";
import { broadcastShapes, type Shape } from "../shape.js";
import { broadcastTo, sumTo } from "./broadcast.js";
import { to } from "./cast.js";
import { checkNumber, checkTensor } from "./checks.js";
import { BINARY, COMPARE } from "./kinds.js";
import { log } from "./pointwise.js";
import { floatResult, resultType, type Operand } from "./promotion.js";

export type { Operand } from "./promotion.js";

type BinaryKind = keyof typeof BINARY;

/** The tensors among two operands. Throws when neither is one. */
function tensorsOf(name: string, lhs: Operand, rhs: Operand): Tensor[] {
  if (typeof lhs === "number" && typeof rhs !== "number") {
    checkTensor(rhs, name, "rhs");
    return [rhs];
  }
  checkTensor(lhs, name, "lhs");
  if (typeof rhs === "number") return [lhs];
  checkTensor(rhs, name, "rhs");
  return [lhs, rhs];
}

function attrsOf(kind: number, common: DType, lhs: Operand, rhs: Operand): number[] {
  const code = dtypeCode(common);
  if (typeof rhs === "number") return [kind, code, 1, rhs];
  if (typeof lhs === "number") return [kind, code, 2, lhs];
  return [kind, code, 0, 0];
}

function shapeOf(name: string, inputs: readonly Tensor[]): Shape {
  return inputs.length === 1
    ? inputs[0]!.shape
    : broadcastShapes(inputs[0]!.shape, inputs[1]!.shape, name);
}

function evaluate({ name, dtypeOf = resultType }: BinaryRow, lhs: Operand, rhs: Operand): Tensor {
  const inputs = tensorsOf(name, lhs, rhs);
  const dtype = dtypeOf(lhs, rhs);
  const shape = shapeOf(name, inputs);
  return run(name, "binary", inputs, dtype, shape, attrsOf(BINARY[name], dtype, lhs, rhs));
}

const tensorOrNull = (operand: Operand): Tensor | null =>
  typeof operand === "number" ? null : operand;

/** A number among the operands; null for a tensor, which a node must hold only by saving it. */
const numberOrNull = (operand: Operand): number | null =>
  typeof operand === "number" ? operand : null;

interface BinaryRow {
  readonly name: BinaryKind;
  /** dtype of the result, of checked operands. Default: that in which they meet. */
  readonly dtypeOf?: (lhs: Operand, rhs: Operand) => DType;
  /** Whether backward needs the operands. */
  readonly savesOperands: boolean;
  /** Gradients before they are summed to the operands' shapes. */
  readonly lhsGrad: (g: Tensor, lhs: Operand, rhs: Operand) => Tensor;
  readonly rhsGrad: (g: Tensor, lhs: Operand, rhs: Operand) => Tensor;
}

function defineBinary(row: BinaryRow): (lhs: Operand, rhs: Operand) => Tensor {
  const { name, lhsGrad, rhsGrad } = row;
  return defineOp(name, (lhs: Operand, rhs: Operand): Tensor => {
    const out = evaluate(row, lhs, rhs);
    const inputs = [tensorOrNull(lhs), tensorOrNull(rhs)];
    const saved = row.savesOperands ? inputs.filter((input) => input !== null) : [];
    const lhsShape = inputs[0]?.shape;
    const rhsShape = inputs[1]?.shape;
    const lhsNumber = numberOrNull(lhs);
    const rhsNumber = numberOrNull(rhs);
    record(name, inputs, [out], saved, ([g], tensors, needs) => {
      const a = lhsNumber ?? tensors[0] ?? 0;
      const b = rhsNumber ?? tensors[lhsNumber === null ? 1 : 0] ?? 0;
      return [
        needs[0] ? sumTo(lhsGrad(g!, a, b), lhsShape!) : null,
        needs[1] ? sumTo(rhsGrad(g!, a, b), rhsShape!) : null,
      ];
    });
    return out;
  });
}

/** `lhs + rhs`. Broadcasts, promotes; bool operands give their logical or. */
export const add = defineBinary({
  name: "add",
  savesOperands: false,
  lhsGrad: (g) => g,
  rhsGrad: (g) => g,
});

function rejectBool(name: string, lhs: Operand, rhs: Operand): DType {
  for (const operand of [lhs, rhs]) {
    if (typeof operand === "number" || operand.dtype !== "bool") continue;
    const [left, right] = [lhs, rhs].map((x) => (typeof x === "number" ? String(x) : describe(x)));
    throw new DTypeError(
      `${name}: expected number dtypes, got lhs ${left!}, rhs ${right!}; cast the bool, or compare`,
      { op: name },
    );
  }
  return resultType(lhs, rhs);
}

/**
 * `lhs - rhs`. Broadcasts, promotes.
 * @throws DTypeError for an operand of bool.
 */
export const sub: (lhs: Operand, rhs: Operand) => Tensor = defineBinary({
  name: "sub",
  dtypeOf: (lhs, rhs) => rejectBool("sub", lhs, rhs),
  savesOperands: false,
  lhsGrad: (g) => g,
  rhsGrad: (g) => mul(g, -1),
});

/** `lhs * rhs`. Broadcasts, promotes; bool operands give their logical and. */
export const mul: (lhs: Operand, rhs: Operand) => Tensor = defineBinary({
  name: "mul",
  savesOperands: true,
  lhsGrad: (g, _lhs, rhs) => mul(g, rhs),
  rhsGrad: (g, lhs) => mul(g, lhs),
});

/** `lhs / rhs`, true division: integers give float32. Broadcasts, promotes. */
export const div: (lhs: Operand, rhs: Operand) => Tensor = defineBinary({
  name: "div",
  dtypeOf: (lhs, rhs) => floatResult(resultType(lhs, rhs)),
  savesOperands: true,
  lhsGrad: (g, _lhs, rhs) => div(g, rhs),
  rhsGrad: (g, lhs, rhs) => mul(div(mul(g, -1), rhs), div(lhs, rhs)),
});

// At equal operands each gets half of the gradient, as in torch.
function extremumGrad(g: Tensor, own: Operand, other: Operand, wins: typeof gt): Tensor {
  const share = add(to(wins(own, other), g.dtype), mul(to(eq(own, other), g.dtype), 0.5));
  return mul(g, share);
}

/** The larger of two elements; NaN where either is. Equal operands share the gradient. */
export const maximum = defineBinary({
  name: "maximum",
  savesOperands: true,
  lhsGrad: (g, lhs, rhs) => extremumGrad(g, lhs, rhs, gt),
  rhsGrad: (g, lhs, rhs) => extremumGrad(g, rhs, lhs, gt),
});

/** The smaller of two elements; NaN where either is. Equal operands share the gradient. */
export const minimum = defineBinary({
  name: "minimum",
  savesOperands: true,
  lhsGrad: (g, lhs, rhs) => extremumGrad(g, lhs, rhs, lt),
  rhsGrad: (g, lhs, rhs) => extremumGrad(g, rhs, lhs, lt),
});

/**
 * `lhs` to the power of `rhs`. Broadcasts, promotes; autocast runs it in float32. Gradients are 0
 * for an exponent of 0, and for the exponent where the base is 0 and the exponent is not negative.
 * @throws ArgumentError for an integer to a negative whole number.
 */
export const pow: (lhs: Operand, rhs: Operand) => Tensor = defineBinary({
  name: "pow",
  dtypeOf: (lhs, rhs) => {
    const dtype = resultType(lhs, rhs);
    if (!isFloating(dtype) && typeof rhs === "number" && rhs < 0) {
      throw new ArgumentError(
        `pow: integers to negative integer powers are not defined, got ${dtype} to ${rhs}; ` +
          `cast the base to a floating dtype`,
        { op: "pow" },
      );
    }
    return dtype;
  },
  savesOperands: true,
  lhsGrad: (g, lhs, rhs) => {
    if (typeof rhs === "number") {
      return rhs === 0 ? mul(g, 0) : mul(g, mul(pow(lhs, rhs - 1), rhs));
    }
    return where(eq(rhs, 0), 0, mul(g, mul(pow(lhs, sub(rhs, 1)), rhs)));
  },
  rhsGrad: (g, lhs, rhs) => {
    const value = pow(lhs, rhs);
    if (typeof lhs === "number") {
      return lhs === 0
        ? where(ge(rhs, 0), 0, mul(g, -Infinity))
        : mul(g, mul(value, Math.log(lhs)));
    }
    const undefinedLog = mul(eq(lhs, 0), ge(rhs, 0));
    return where(undefinedLog, 0, mul(g, mul(value, log(lhs))));
  },
});

function defineCompare(name: keyof typeof COMPARE): (lhs: Operand, rhs: Operand) => Tensor {
  return (lhs: Operand, rhs: Operand): Tensor => {
    const inputs = tensorsOf(name, lhs, rhs);
    const shape = shapeOf(name, inputs);
    const attrs = attrsOf(COMPARE[name], resultType(lhs, rhs), lhs, rhs);
    return run(name, "compare", inputs, "bool", shape, attrs);
  };
}

/** `lhs == rhs`, as bool. Broadcasts; NaN equals nothing. */
export const eq: (lhs: Operand, rhs: Operand) => Tensor = defineCompare("eq");
/** `lhs != rhs`, as bool. Broadcasts. */
export const ne = defineCompare("ne");
/** `lhs < rhs`, as bool. Broadcasts. */
export const lt: (lhs: Operand, rhs: Operand) => Tensor = defineCompare("lt");
/** `lhs <= rhs`, as bool. Broadcasts. */
export const le = defineCompare("le");
/** `lhs > rhs`, as bool. Broadcasts. */
export const gt: (lhs: Operand, rhs: Operand) => Tensor = defineCompare("gt");
/** `lhs >= rhs`, as bool. Broadcasts. */
export const ge: (lhs: Operand, rhs: Operand) => Tensor = defineCompare("ge");

/**
 * `a` where `condition` (bool) holds, else `b`. All three broadcast; a and b promote.
 * @throws DTypeError when `condition` is not bool.
 */
export const where: (condition: Tensor, a: Operand, b: Operand) => Tensor = defineOp(
  "where",
  (condition: Tensor, a: Operand, b: Operand): Tensor => {
    checkTensor(condition, "where", "condition");
    if (condition.dtype !== "bool") {
      throw new DTypeError(`where: expected a bool condition, got ${describe(condition)}`, {
        op: "where",
      });
    }
    if (typeof a !== "number") checkTensor(a, "where", "a");
    if (typeof b !== "number") checkTensor(b, "where", "b");
    const dtype = resultType(a, b);
    const tensors = [a, b].filter((operand) => typeof operand !== "number");
    let { shape } = condition;
    for (const tensor of tensors) shape = broadcastShapes(shape, tensor.shape, "where");
    const attrs = [a, b].flatMap((operand) =>
      typeof operand === "number" ? [1, operand] : [0, 0],
    );
    const out = run("where", "where", [condition, ...tensors], dtype, shape, attrs);
    const aShape = tensorOrNull(a)?.shape;
    const bShape = tensorOrNull(b)?.shape;
    const inputs = [tensorOrNull(a), tensorOrNull(b)];
    record("where", inputs, [out], [condition], ([g], [mask], needs) => [
      needs[0] ? sumTo(where(mask!, g!, 0), aShape!) : null,
      needs[1] ? sumTo(where(mask!, 0, g!), bShape!) : null,
    ]);
    return out;
  },
);

/**
 * `x` with `value` where `mask` (bool, broadcast to x) holds. Keeps the dtype of x.
 * @throws DTypeError when `mask` is not bool.
 */
export function maskedFill(x: Tensor, mask: Tensor, value: number): Tensor {
  checkTensor(x, "maskedFill");
  checkTensor(mask, "maskedFill", "mask");
  checkNumber(value, "maskedFill", "value");
  if (mask.dtype !== "bool") {
    throw new DTypeError(`maskedFill: expected a bool mask, got ${describe(mask)}`, {
      op: "maskedFill",
    });
  }
  const shape = broadcastShapes(x.shape, mask.shape, "maskedFill");
  const out = run("maskedFill", "where", [mask, x], x.dtype, shape, [1, value, 0, 0]);
  const from = x.shape;
  record("maskedFill", [x], [out], [mask], ([g], [saved]) => [sumTo(where(saved!, 0, g!), from)]);
  return out;
}

gradOps.add = add;

/** Repeats both operands to their common shape. */
export function broadcastBoth(lhs: Tensor, rhs: Tensor, op: string): [Tensor, Tensor] {
  const shape = broadcastShapes(lhs.shape, rhs.shape, op);
  return [broadcastTo(lhs, shape), broadcastTo(rhs, shape)];
}
