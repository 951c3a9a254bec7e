// The summary and the chart of the benchmark of products, from made-up rows.

import { describe, expect, it } from "vitest";

import { geometricMean, readRows, summarize } from "../../../bench/gemm-report.mjs";
import { roofline } from "../../../bench/support/roofline.mjs";

const row = (kind: string, toFirst: number, toBest: number, failed = false): object => ({
  kind,
  group: "square",
  name: "512 x 512 x 512 NN",
  TFLOPs: 100,
  peakShare: 0.1,
  intensity: 170,
  failed,
  toFirst,
  toBest,
});
const head = { device: "card", rival: "cuBLASLt 1", copyGBs: 4000 };

describe("gemm-report", () => {
  it("reads lines among others, and what gpu-check leaves", () => {
    const rows = [row("a", 1, 1)];
    const lines = ["text", ...[head, ...rows].map((line) => JSON.stringify(line))].join("\n");
    expect(readRows(lines)).toEqual({ head, rows });
    const results = [{ name: "PyTorch" }, { name: "cuda_gemm_bench", measured: [head, ...rows] }];
    expect(readRows(JSON.stringify({ parts: { bench: { results } } }))).toEqual({ head, rows });
    expect(() => readRows("nothing")).toThrow("no rows");
  });

  it("compares with the better of the rival's two", () => {
    const rows = [row("a", 2, 0.5), row("a", 1, 2), row("a", 0, 0, true), row("b", 0, 0)];
    const [a, b] = summarize(rows);
    expect(a).toMatchObject({ name: "a, square", rows: 3, failed: 1, least: 0.5 });
    expect(a!.mean).toBeCloseTo(Math.sqrt(0.5));
    expect(b).toMatchObject({ mean: null, least: null });
    expect(geometricMean([1, 4])).toBeCloseTo(2);
  });

  it("draws every point under the roofs", () => {
    const points = [
      { intensity: 20, TFLOPs: 40, name: "a < b" },
      { intensity: 2000, TFLOPs: 700, name: "c" },
    ];
    const series = [{ name: "bfloat16", peakTFLOPs: 990, points }];
    const svg = roofline({ title: "t", bandwidthGBs: 4000, series });
    expect(svg.match(/<title>/g)).toHaveLength(2);
    expect(svg).toContain("a &lt; b: 40 TFLOP/s");
    expect(svg).not.toMatch(/NaN|undefined/);
    expect(() => roofline({ title: "t", bandwidthGBs: 1, series: [] })).toThrow("without points");
  });
});
