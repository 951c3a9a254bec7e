import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkFloors } from "../../../scripts/check-floors.mjs";

let root = "";
beforeEach(() => (root = mkdtempSync(path.join(tmpdir(), "floors-"))));
afterEach(() => rmSync(root, { recursive: true }));

/** Writes a tree of files and returns what the check says of it. */
function check(files: Record<string, string>) {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
  return checkFloors(root);
}

describe("imports of lib/", () => {
  test("downwards, inside a folder and of packages are fine", () => {
    const { errors, warnings } = check({
      "lib/ops/matmul.ts": [
        'import path from "node:path";',
        'import { dispatch } from "../core/dispatch.js";',
        'import { cast } from "./cast.js";',
      ].join("\n"),
      "lib/ops/cast.ts": 'export { dtypes } from "../dtype.js";',
      "lib/core/dispatch.ts": 'import { run } from "../native.js";',
      "lib/native.ts": 'const load = require("node-gyp-build");',
      "lib/dtype.ts": "export const dtypes = [];",
    });
    expect(errors).toEqual([]);
    expect(warnings).toEqual([]);
  });

  test.each([
    ["a static import", 'import { matmul } from "../ops/matmul.js";'],
    ["an import of types", 'import type { Op } from "../ops/matmul.js";'],
    ["an import over several lines", 'import {\n  matmul,\n} from "../ops/matmul.js";'],
    ["a bare import", 'import "../ops/matmul.js";'],
    ["a re-export", 'export * from "../ops/matmul.js";'],
    ["a dynamic import", 'const ops = await import("../ops/matmul.js");'],
  ])("upwards fails for %s", (_, line) => {
    const { errors } = check({ "lib/core/tape.ts": line, "lib/ops/matmul.ts": "" });
    expect(errors).toEqual(["lib/core/tape.ts: imports lib/ops/matmul.ts, a floor above"]);
  });

  test("an import in a comment does not count", () => {
    const { errors } = check({
      "lib/core/tape.ts": '/**\n * import { matmul } from "../ops/matmul.js";\n */\n',
    });
    expect(errors).toEqual([]);
  });

  test("folders of one floor may use each other in one direction only", () => {
    const files = {
      "lib/models/distilbert.ts": 'import { load } from "../io/safetensors.js";',
      "lib/io/safetensors.ts": "",
    };
    expect(check(files).errors).toEqual([]);
    const back = { "lib/io/hub.ts": 'import type { Config } from "../models/distilbert.js";' };
    const { errors } = check({ ...files, ...back });
    expect(errors).toHaveLength(1);
    expect(errors[0]).toContain("lib/io/hub.ts imports lib/models/distilbert.ts");
  });

  test.each(["lib/native.ts", "lib/core/context.ts"])("the cast policy may not use %s", (to) => {
    const { errors } = check({
      "lib/core/policy.ts": `import "../${to.slice(4, -3)}.js";\nimport "../dtype.js";`,
    });
    expect(errors).toEqual([
      `lib/core/policy.ts: imports ${to}, but is pure data and may use the lowest floor only`,
    ]);
  });

  test("only native.ts loads the addon", () => {
    const { errors } = check({ "lib/core/tensor.ts": 'import load from "node-gyp-build";' });
    expect(errors).toEqual(["lib/core/tensor.ts: loads the addon, which only lib/native.ts does"]);
  });

  test("files outside lib/ are out of reach", () => {
    const { errors } = check({ "lib/core/tensor.ts": 'import "../../test/helpers.js";' });
    expect(errors).toEqual(["lib/core/tensor.ts: imports test/helpers.ts, which is outside lib/"]);
  });

  test("a new folder needs a floor", () => {
    const { errors } = check({ "lib/misc/things.ts": "" });
    expect(errors).toEqual([
      "lib/misc/things.ts: has no floor; add it to scripts/check-floors.mjs",
    ]);
  });
});

describe("includes of native/", () => {
  const header = { "native/core/dtype.h": "#pragma once\n" };

  test("downwards is fine, by either way to write a path", () => {
    const { errors } = check({
      ...header,
      "native/core/dtype.cc": '#include "dtype.h"\n',
      "native/cpu/cast.cc": '#include "core/dtype.h"\n#include <vector>\n',
      "native/binding/addon.cc": '#include <napi.h>\n#include "cpu/cast.cc"\n',
    });
    expect(errors).toEqual([]);
  });

  test("upwards fails", () => {
    const { errors } = check({
      "native/core/dtype.cc": '#include "cpu/cast.h"\n',
      "native/cpu/cast.h": "",
    });
    expect(errors).toEqual(["native/core/dtype.cc: imports native/cpu/cast.h, a floor above"]);
  });

  test("the backends do not include each other", () => {
    const { errors } = check({
      "native/cpu/cast.cc": '#include "../cuda/check.h"\n',
      "native/cuda/check.h": "",
    });
    expect(errors).toEqual(["native/cpu/cast.cc: includes native/cuda/check.h, on the same floor"]);
  });

  test.each(["napi.h", "node_api.h", "js_native_api_types.h"])("%s is for the binding", (name) => {
    const { errors } = check({ "native/cpu/cast.cc": `#include <${name}>\n` });
    expect(errors).toEqual([`native/cpu/cast.cc: includes ${name}, which only native/binding may`]);
  });
});

describe("sizes", () => {
  const lines = (count: number) => "// line\n".repeat(count);

  test("300 lines pass, 301 warn, 500 warn, 501 fail", () => {
    const { errors, warnings } = check({
      "lib/ops/a.ts": lines(300),
      "lib/ops/b.ts": lines(301),
      "native/cpu/c.cc": lines(500),
      "native/cpu/d.cc": lines(501),
    });
    expect(errors).toEqual(["native/cpu/d.cc: 501 lines, more than 500"]);
    expect(warnings).toEqual([
      "lib/ops/b.ts: 301 lines, more than 300",
      "native/cpu/c.cc: 500 lines, more than 300",
    ]);
  });

  test("tests, data and generated files may be longer", () => {
    const { errors, warnings } = check({
      "test/ops/matmul.test.ts": lines(600),
      "lib/data/names.ts": lines(600),
      "native/cpu/generated/table.h": lines(600),
    });
    expect({ errors, warnings }).toEqual({ errors: [], warnings: [] });
  });

  test("wide lines are named, addresses are not counted", () => {
    const { warnings } = check({
      "lib/ops/a.ts": `// ${"x".repeat(97)}\n// ${"x".repeat(98)}\n// https://${"x".repeat(120)}\n`,
    });
    expect(warnings).toEqual(["lib/ops/a.ts: wider than 100 columns in line 2"]);
  });
});

test("the repository itself keeps to its floors", () => {
  const repository = path.resolve(import.meta.dirname, "../../..");
  expect(checkFloors(repository).errors).toEqual([]);
});
