import { expect, test } from "vitest";
import { addUp, closingLine, countVitest } from "../../../scripts/test-results.mjs";

const passing = { status: "passed", assertionResults: [{ status: "passed" }] };
const failing = { status: "failed", assertionResults: [{ status: "failed" }] };
const broken = { status: "failed", assertionResults: [] };

function report(...testResults: object[]) {
  return {
    numPassedTests: testResults.filter((file) => file === passing).length,
    numFailedTests: testResults.filter((file) => file === failing).length,
    numPendingTests: 2,
    numTodoTests: 0,
    // One more: vitest counts it as pending in its file only.
    numTotalTests: testResults.filter((file) => file !== broken).length + 3,
    testResults,
  };
}

test("a file that breaks before its first test counts as a failure", () => {
  expect(countVitest(report(passing, passing))).toEqual({ passed: 2, failed: 0, skipped: 3 });
  expect(countVitest(report(passing, failing))).toEqual({ passed: 1, failed: 1, skipped: 3 });
  expect(countVitest(report(passing, broken))).toEqual({ passed: 1, failed: 1, skipped: 3 });
});

test("the closing line sums up all runs and names skipped tests only where there are some", () => {
  const total = addUp([
    { passed: 3, failed: 0, skipped: 1 },
    { passed: 4, failed: 2, skipped: 0 },
  ]);
  expect(closingLine(total)).toBe("7 passed, 2 failed, 1 skipped");
  expect(closingLine({ passed: 7, failed: 0, skipped: 0 })).toBe("7 passed, 0 failed");
});
