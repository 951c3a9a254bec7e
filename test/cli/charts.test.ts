import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { barChart, comparisonCharts, lineChart, trailingMean } from "../../lib/cli/charts.js";
import { run } from "./runs.js";

const format = (value: number) => value.toFixed(1);
const count = (svg: string, pattern: RegExp) => svg.match(pattern)?.length ?? 0;

/** Tags closed in order, no bare `<` or `&`, and no number that is not one. */
function expectWellFormed(svg: string): void {
  const open: string[] = [];
  const rest = svg.replace(
    /<(\/?)([a-z]+)((?: [\w:-]+="[^"<]*")*)(\/?)>/g,
    (_, close, name: string, __, self) => {
      if (close === "/") expect(open.pop()).toBe(name);
      else if (self !== "/") open.push(name);
      return "";
    },
  );
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]|&(?!(amp|lt|gt|quot);)/);
  for (const [, value] of svg.matchAll(
    / (?:x|y|x1|x2|y1|y2|d|width|height|transform)="([^"]*)"/g,
  )) {
    expect(value).not.toMatch(/NaN|Infinity|undefined/);
  }
}

describe("barChart", () => {
  it("draws bars in proportion, and a note in place of a missing value", () => {
    const bars = [
      { label: "a", value: 10 },
      { label: "b", value: 5 },
      { label: "c", value: null, note: "diverged" },
      { label: "d", value: NaN },
    ];
    const svg = barChart("title", [{ title: "time (s)", bars, format }]);
    expectWellFormed(svg);
    const widths = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map((match) =>
      Number(match[1]),
    );
    expect(widths).toHaveLength(2);
    expect(widths[1]! / widths[0]!).toBeCloseTo(0.5, 2);
    expect(svg).toContain(">diverged</text>");
    expect(svg).toContain(">10.0</text>");
  });

  it("takes panels of nothing, of zeros, and values beyond the axis", () => {
    expectWellFormed(barChart("t", []));
    expectWellFormed(barChart("t", [{ title: "p", bars: [], format }]));
    expectWellFormed(barChart("t", [{ title: "p", bars: [{ label: "a", value: 0 }], format }]));
    const svg = barChart("t", [{ title: "p", bars: [{ label: "a", value: 9 }], format, max: 1 }]);
    expectWellFormed(svg);
  });

  it("escapes text", () => {
    const svg = barChart(`<&>"\u0000`, [
      { title: "p", bars: [{ label: "<b>", value: 1 }], format },
    ]);
    expectWellFormed(svg);
    expect(svg).toContain("&lt;&amp;&gt;&quot;\ufffd");
    expect(svg).toContain("&lt;b&gt;");
  });
});

describe("lineChart", () => {
  it("draws one line a run, with a gap where the loss is not finite", () => {
    const svg = lineChart("loss", [
      { name: "a", values: [1, 0.5, 0.25] },
      { name: "b", values: [1, NaN, 0.5, 0.4] },
    ]);
    expectWellFormed(svg);
    const paths = [...svg.matchAll(/<path d="([^"]*)" fill="none"/g)].map((match) => match[1]!);
    expect(paths.map((path) => count(path, /M/g))).toEqual([1, 2]);
    expect(svg).toContain(">a</text>");
    expect(svg).toContain(">b</text>");
  });

  it("marks where a run diverged", () => {
    const values = [1, 0.5, 0.25, 0.2, NaN];
    const svg = lineChart("loss", [
      { name: "a", values: [5, 4, 3, 2, 1, 1, 1, 1, 1] },
      { name: "b", values, divergedAt: 5 },
    ]);
    expectWellFormed(svg);
    // The fifth of nine steps is the middle of the plot, 64 + 660 / 2.
    expect(svg).toMatch(/transform="translate\(394 [\d.]+\)"/);
    expect(svg).toContain("diverged at step 5");
  });

  it("takes a logarithmic axis where a loss explodes", () => {
    expect(lineChart("l", [{ name: "a", values: [0.7, 0.6, 0.5, 1e30] }])).toContain("logarithmic");
    expect(lineChart("l", [{ name: "a", values: [0.7, 0.6, 0.5] }])).not.toContain("logarithmic");
  });

  it.each([[[-9e15]], [[5e-324]], [[-1e308, 1e308]], [[0]], [[1e-320, 1e308]]])(
    "takes the extreme values %j",
    (values) => expectWellFormed(lineChart("loss", [{ name: "a", values }])),
  );

  it("keeps the axis of the runs that did not diverge", () => {
    const calm = { name: "a", values: [0.7, 0.6, 0.5, 0.4] };
    const wild = { name: "b", values: [0.7, 1e9, 1e30, NaN], divergedAt: 4 };
    const svg = lineChart("loss", [calm, wild]);
    expectWellFormed(svg);
    expect(svg).not.toContain("logarithmic");
    // Along the top, 48.
    expect(svg).toMatch(/<path d="[^"]*L284 48L504 48"/);
    expect(lineChart("loss", [wild])).toContain("logarithmic");
  });

  it("is well-formed whatever the values", () => {
    const series = fc.record({
      name: fc.string({ unit: "binary" }),
      values: fc.array(fc.double(), { maxLength: 12 }),
      divergedAt: fc.option(fc.integer({ min: 1, max: 12 })),
    });
    fc.assert(
      fc.property(fc.array(series, { maxLength: 4 }), (list) => {
        const svg = lineChart("loss", list);
        expectWellFormed(svg);
        expect(svg.length).toBeLessThan(50_000);
      }),
      { numRuns: 500 },
    );
  });
});

describe("trailingMean", () => {
  it("is of the last values, at the start of those there are", () => {
    expect(trailingMean([1, 3, 5, 7], 2)).toEqual([1, 2, 4, 6]);
    expect(trailingMean([1, 3, 5], 1)).toEqual([1, 3, 5]);
    expect(trailingMean([], 3)).toEqual([]);
  });
  it("leaves out what is not finite, where it stands too", () => {
    expect(trailingMean([1, NaN, 3, Infinity], 3)).toEqual([1, NaN, 2, Infinity]);
    expect(trailingMean([1e308, 1e308, 1e308], 3).every((v) => Number.isFinite(v))).toBe(true);
  });
});

describe("comparisonCharts", () => {
  it("smooths the losses of long runs, and says so", () => {
    const losses = Array.from({ length: 100 }, (_, i) => i % 2);
    const long = comparisonCharts([run("a", { losses })])["loss.svg"]!;
    expect(long).toContain("Training loss, mean of 4 steps");
    expect(long).toMatch(/<path d="[^"]*L724 48" fill/);
    expect(comparisonCharts([run("a")])["loss.svg"]).not.toContain("mean of");
  });

  it("has time, memory and accuracy of each run, and the losses", () => {
    const charts = comparisonCharts([
      run("float32"),
      run("half", {
        testAccuracy: null,
        diverged: { step: 3, epoch: 1, findings: [] },
        losses: [1, 2, NaN],
      }),
    ]);
    expect(Object.keys(charts)).toEqual(["comparison.svg", "loss.svg"]);
    const bars = charts["comparison.svg"]!;
    for (const title of ["time (s)", "memory (MB)", "accuracy (%)"]) expect(bars).toContain(title);
    expect(count(bars, /<rect /g)).toBe(5);
    Object.values(charts).forEach(expectWellFormed);
  });
});
