// The GPU check where there is no GPU, and what it reads of other programs' output.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

import { describe, expect, it } from "vitest";

import { jsonLines, parseSmi } from "../../../scripts/gpu-check.mjs";

const ROOT = path.join(import.meta.dirname, "../../..");

function check(args: string[], searchPath: string): { status: number | null; stderr: string } {
  const script = path.join(ROOT, "scripts/gpu-check.mjs");
  const { status, stderr } = spawnSync(process.execPath, [script, ...args], {
    encoding: "utf8",
    env: { ...process.env, PATH: searchPath },
  });
  return { status, stderr };
}

describe("gpu-check", () => {
  it("says so and fails where there is no GPU, whatever part is asked for", () => {
    for (const args of [[], ["--only", "bench"], ["--only", "tests", "--prebuilt"]]) {
      // A path without nvidia-smi is a machine without a GPU.
      const { status, stderr } = check(args, "/nonexistent");
      expect(status).toBe(1);
      expect(stderr).toMatch(/^gpu-check: there is no NVIDIA GPU here/);
    }
  });

  it("knows its parts", () => {
    const { status, stderr } = check(["--only", "everything"], "/nonexistent");
    expect(status).toBe(1);
    expect(stderr).toMatch(/--only: expected tests, sanitize, bench, got "everything"/);
    expect(check(["--minutes", "no"], "/nonexistent").stderr).toMatch(/--minutes/);
  });

  it("reads a device from nvidia-smi", () => {
    const line = "NVIDIA H200, 570.86.15, 143771, 700.00, 345, 1980, 3201, 31\n";
    expect(parseSmi(line)).toEqual({
      name: "NVIDIA H200",
      driver: "570.86.15",
      memoryMiB: 143771,
      powerLimitW: 700,
      smClockMHz: 345,
      smClockMaxMHz: 1980,
      memoryClockMHz: 3201,
      temperatureC: 31,
    });
    expect(parseSmi(line + line)?.name).toBe("NVIDIA H200");
    expect(parseSmi("NVIDIA X, 1, 2, [N/A], 4, 5, 6, 7")?.powerLimitW).toBe("[N/A]");
    expect(parseSmi("")).toBeNull();
    expect(parseSmi("No devices were found")).toBeNull();
  });

  it("takes the lines of a benchmark that are JSON", () => {
    expect(jsonLines('text\n{"name":"a"}\n{broken\n{"b":1}')).toEqual([{ name: "a" }, { b: 1 }]);
  });

  it("is a command of the package", () => {
    const manifest = JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    expect(manifest.scripts["gpu-check"]).toBe("node scripts/gpu-check.mjs");
  });
});

describe("the rows of the GPU benchmark", () => {
  it("have the same names as the rival's", () => {
    const names = (file: string): string[] =>
      [...readFileSync(path.join(ROOT, file), "utf8").matchAll(/report\(\s*f?["`]([^"`${]+)/g)]
        .map((match) => match[1]!.trim())
        .sort();
    const own = names("bench/cuda.bench.mjs");
    expect(own.length).toBeGreaterThan(5);
    expect(names("bench/rivals/pytorch_cuda.py")).toEqual(own);
  });
});
