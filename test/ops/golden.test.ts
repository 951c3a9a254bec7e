// Every operation against torch: values, dtypes and gradients, case by case (test/golden/ops).

import { describe, expect, test } from "vitest";

import { checkCase, goldenCases, goldenFamilies } from "../helpers/golden.js";

const families = goldenFamilies();

test("the families of reference values are there", () => {
  expect(families).toEqual(expect.arrayContaining(["attention", "loss", "pointwise"]));
});

describe.each(families)("%s", (family) => {
  for (const entry of goldenCases(family)) {
    test(entry.name, () => {
      checkCase(entry);
    });
  }
});
