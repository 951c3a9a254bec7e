import { describe, expect, it } from "vitest";

import { ConfusionMatrix } from "../../lib/cli/finetune/metrics.js";
import { classificationTable } from "../../lib/cli/table.js";

describe("ConfusionMatrix", () => {
  it("counts accuracy, precision, recall and F1 by class", () => {
    const matrix = new ConfusionMatrix(["a", "b", "c"]);
    matrix.add([0, 0, 1, 1], Int32Array.of(0, 1, 1, 1));
    matrix.add([1, 2, 2, 0, 0, 2], [2, 2, 0, 0, 0, 2]);
    const { accuracy, macroF1, classes, confusion } = matrix.summary();
    expect(confusion).toEqual([
      [3, 1, 0],
      [0, 2, 1],
      [1, 0, 2],
    ]);
    expect(accuracy).toBe(0.7);
    expect(classes).toEqual([
      { name: "a", precision: 3 / 4, recall: 3 / 4, f1: 3 / 4, support: 4 },
      { name: "b", precision: 2 / 3, recall: 2 / 3, f1: 2 / 3, support: 3 },
      { name: "c", precision: 2 / 3, recall: 2 / 3, f1: 2 / 3, support: 3 },
    ]);
    expect(macroF1).toBeCloseTo((3 / 4 + 2 / 3 + 2 / 3) / 3, 15);
  });

  it("gives 0 for a class never answered, and leaves out of the mean one that does not occur", () => {
    const matrix = new ConfusionMatrix(["a", "b", "never", "only answered"]);
    matrix.add([0, 0, 0, 1], [0, 0, 3, 0]);
    const { accuracy, macroF1, classes } = matrix.summary();
    expect(accuracy).toBe(0.5);
    expect(classes.map(({ f1 }) => f1)).toEqual([4 / 6, 0, 0, 0]);
    expect(classes.map(({ precision }) => precision)).toEqual([2 / 3, 0, 0, 0]);
    expect(macroF1).toBeCloseTo(4 / 6 / 3, 15);
  });

  it("is of zeros without texts", () => {
    expect(new ConfusionMatrix(["a"]).summary()).toMatchObject({ accuracy: 0, macroF1: 0 });
  });
});

describe("classificationTable", () => {
  it("shows the classes and what was taken for what", () => {
    const matrix = new ConfusionMatrix(["bad", "go\u001bod\n"]);
    matrix.add([0, 0, 1, 1], [0, 1, 1, 1]);
    expect(classificationTable(matrix.summary())).toBe(
      [
        "class     precision (%)  recall (%)  F1 (%)  texts  → bad  → go\\x1bod",
        "────────  ─────────────  ──────────  ──────  ─────  ─────  ──────────",
        "bad               100.0        50.0    66.7      2      1           1",
        "go\\x1bod           66.7       100.0    80.0      2      0           2",
      ].join("\n"),
    );
  });

  it("leaves out the matrix of many classes, and rows of very many", () => {
    const names = Array.from({ length: 50 }, (_, i) => `a class with a long name ${i}`);
    const lines = classificationTable(new ConfusionMatrix(names).summary()).split("\n");
    expect(lines[0]).not.toContain("→");
    expect(lines).toHaveLength(2 + 40 + 1);
    expect(lines[2]).toMatch(/^a class with a …  +0\.0/);
    expect(lines.at(-1)).toBe("… and 10 more classes");
  });
});
