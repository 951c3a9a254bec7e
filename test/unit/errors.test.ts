// lib/errors.ts: codes, names and the text that messages are made of.
import fc from "fast-check";
import { describe as group, expect, test } from "vitest";
import * as errors from "../../lib/errors.js";

const codes = {
  ShapeError: "ERR_SHAPE",
  DTypeError: "ERR_DTYPE",
  DeviceError: "ERR_DEVICE",
  OutOfMemoryError: "ERR_OUT_OF_MEMORY",
  NativeError: "ERR_NATIVE",
  CheckpointError: "ERR_CHECKPOINT",
  DataError: "ERR_DATA",
  ArgumentError: "ERR_ARGUMENT",
  GradError: "ERR_GRAD",
  DisposedError: "ERR_DISPOSED",
  ScalerError: "ERR_SCALER",
} as const;

/** Classes that are given their code, one of several. */
const several = ["HubError"];

group("classes", () => {
  test.each(Object.entries(codes))("%s carries %s, its name and its facts", (name, code) => {
    const ErrorClass = errors[name as keyof typeof codes];
    const cause = new Error("below");
    const error = new ErrorClass("matmul: no", { op: "matmul", cause });
    expect(error).toBeInstanceOf(errors.MixprecError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name, code, op: "matmul", cause, message: "matmul: no" });
  });

  test("every exported class is in the table above, and no two share a code", () => {
    const classes = Object.entries(errors).filter(
      ([name, value]) =>
        typeof value === "function" &&
        value.prototype instanceof errors.MixprecError &&
        name !== "MixprecError" &&
        !several.includes(name),
    );
    expect(classes.map(([name]) => name).sort()).toEqual(Object.keys(codes).sort());
    expect(new Set(Object.values(codes)).size).toBe(classes.length);
  });

  test("what was not said is not there", () => {
    const error = new errors.DataError("no");
    expect("op" in error && error.op !== undefined).toBe(false);
    expect("cause" in error).toBe(false);
  });

  test("HubError carries the code that it is given", () => {
    const error = new errors.HubError("ERR_HUB_OFFLINE", "hub: no", { op: "hub" });
    expect(error).toBeInstanceOf(errors.MixprecError);
    expect(error).toMatchObject({ name: "HubError", code: "ERR_HUB_OFFLINE", op: "hub" });
  });
});

group("messages", () => {
  test("mismatch names operation, expectation and what came", () => {
    expect(errors.mismatch("matmul", "wrong K", "3", "4")).toBe(
      "matmul: wrong K — expected 3, got 4",
    );
  });

  test("formatShape", () => {
    expect(errors.formatShape([])).toBe("[]");
    expect(errors.formatShape([2, 3])).toBe("[2, 3]");
  });

  test.each([
    ["a", '"a"'],
    [12n, "12n"],
    [null, "null"],
    [undefined, "undefined"],
    [Number.NaN, "NaN"],
    [Symbol("s"), "Symbol(s)"],
    [function named() {}, "function named"],
    [() => 1, "function (anonymous)"],
    [[1, 2], "array of 2"],
    [new Float32Array(3), "Float32Array(3)"],
    [{}, "object"],
    [Object.create(null), "object"],
    [new Map(), "Map"],
  ])("describe(%o)", (value, text) => {
    expect(errors.describe(value)).toBe(text);
  });

  test("describe never throws and keeps to its length", () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withNullPrototype: true }), (value) => {
        expect(errors.describe(value, 20).length).toBeLessThanOrEqual(20);
      }),
    );
  });

  test("describe says object where asking for the class throws", () => {
    const hostile = Object.create({
      get constructor(): never {
        throw new Error("no");
      },
    }) as object;
    expect(errors.describe(hostile)).toBe("object");
  });
});
