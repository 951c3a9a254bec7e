#!/usr/bin/env node
// Where test runs leave their counts, and the line that sums them up.
// Usage: node scripts/test-results.mjs [--clear]; without it, prints the sum of all runs that left
// their counts since the last --clear, and fails if anything failed or nothing was counted.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const directory = path.join(root, "build/test-results");

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

export const vitestReport = path.join(directory, "vitest.report.json");

export function clearResults() {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
}

/** @param {string} run @param {Counts} counts */
export function recordResults(run, counts) {
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, `${run}.counts.json`), JSON.stringify(counts));
}

/**
 * Counts of a report of vitest's JSON reporter. A file that fails before its first test (in an
 * import, say) has no tests to count, so it counts as one failure.
 * @returns {Counts}
 */
export function countVitest(report) {
  const brokenFiles = report.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((t) => t.status !== "failed"),
  );
  const { numTotalTests, numPassedTests, numFailedTests } = report;
  return {
    passed: numPassedTests,
    failed: numFailedTests + brokenFiles.length,
    // Tests of a group inside a skipped one are in no count of the report's but the total.
    skipped: numTotalTests - numPassedTests - numFailedTests,
  };
}

/** @param {Counts[]} list @returns {Counts} */
export function addUp(list) {
  const sum = (key) => list.reduce((total, counts) => total + counts[key], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}

/** @param {Counts} counts */
export function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  if (process.argv[2] === "--clear") {
    clearResults();
  } else {
    mkdirSync(directory, { recursive: true });
    const files = readdirSync(directory).filter((name) => name.endsWith(".counts.json"));
    const runs = files.map((name) => JSON.parse(readFileSync(path.join(directory, name), "utf8")));
    const total = addUp(runs);
    console.log(closingLine(total));
    process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
  }
}
