import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { canCheckIsaSymbols, checkIsaSymbols } from "../../../scripts/check-isa-symbols.mjs";

// Functions that take an address keep the compiler from inlining what they point at.
const inlineFunction = "inline float plus(float x) { return x + 1; }\n";
const ownFunction = "namespace { float plus(float x) { return x + 1; } }\n";
const pointTo = (name: string) => `float (*${name}())(float) { return &plus; }\n`;

let build = "";
beforeEach(() => (build = mkdtempSync(path.join(tmpdir(), "isa-"))));
afterEach(() => rmSync(build, { recursive: true }));

/** Compiles `text` to the object that CMake would make of native/cpu/<name>. */
function compile(name: string, text: string, flags: string[] = []) {
  const directory = path.join(build, "CMakeFiles/mixprec_backend.dir/native/cpu");
  mkdirSync(directory, { recursive: true });
  const source = path.join(build, name);
  writeFileSync(source, text);
  const object = path.join(directory, `${name}.o`);
  execFileSync(process.env.CXX ?? "c++", ["-O2", ...flags, "-c", source, "-o", object]);
}

describe.skipIf(!canCheckIsaSymbols())("objects of different instruction sets", () => {
  test("may not define the same inline function", () => {
    compile("sum.cc", inlineFunction + pointTo("a"));
    compile("sum_avx2.cc", inlineFunction + pointTo("b"), ["-mavx2"]);
    const { passed, output } = checkIsaSymbols(build);
    expect(passed).toBe(false);
    expect(output).toContain("plus(float)");
    expect(output).toContain("sum_avx2.cc.o");
  });

  test("may share it within one instruction set, and have functions of their own", () => {
    compile("sum.cc", ownFunction + pointTo("a"));
    compile("sum_avx2.cc", inlineFunction + pointTo("b"), ["-mavx2"]);
    compile("dot_avx2.cc", inlineFunction + pointTo("c"), ["-mavx2"]);
    compile("dot_avx512.cc", ownFunction + pointTo("d"), ["-mavx512f"]);
    expect(checkIsaSymbols(build)).toEqual({ passed: true, output: "" });
  });
});
