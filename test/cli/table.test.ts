import { describe, expect, it } from "vitest";

import { comparisonTable, formatTable } from "../../lib/cli/table.js";
import { run } from "./runs.js";

describe("formatTable", () => {
  it("aligns columns, by characters and not by code units", () => {
    const columns = [{ title: "name" }, { title: "n", align: "right" as const }];
    expect(
      formatTable(columns, [
        ["😀é", "1"],
        ["b", "200"],
      ]),
    ).toBe(["name    n", "────  ───", "😀é      1", "b     200"].join("\n"));
    expect(formatTable(columns, [])).toBe("name  n\n────  ─");
  });
});

describe("comparisonTable", () => {
  const lines = comparisonTable([
    run("float32"),
    run("half", { seconds: 5, samplesPerSecond: 200, peakMemoryBytes: 5e6 }),
    run("broken", { testAccuracy: null, diverged: { step: 7, epoch: 1, findings: [] } }),
  ]).split("\n");

  it("names the unit of each column", () => {
    for (const title of ["time (s)", "samples/s", "peak memory (MB)", "test accuracy (%)"]) {
      expect(lines[0]).toContain(title);
    }
  });

  it("compares with the first run", () => {
    expect(lines[2]!.split(/ {2,}/)).toEqual([
      "float32",
      "10.0",
      "100",
      "1.00×",
      "10.0",
      "1.00×",
      "90.0",
    ]);
    expect(lines[3]!.split(/ {2,}/)).toEqual([
      "half",
      "5.0",
      "200",
      "2.00×",
      "5.0",
      "0.50×",
      "90.0",
    ]);
  });

  it("says where a run diverged, and gives it no speed-up", () => {
    const cells = lines[4]!.split(/ {2,}/);
    expect(cells[3]).toBe("–");
    expect(cells.slice(-2)).toEqual(["–", "diverged at step 7"]);
  });
});
