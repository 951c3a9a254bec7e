// The package as a user gets it: packed, installed into an empty project, built there, imported.
// Needs the npm registry and a C++ compiler; `npm run test:package` runs it.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const repository = path.resolve(import.meta.dirname, "../..");
let project = "";

/** Runs a command in the user's project, free of what npm tells its own scripts. */
function run(command: string, args: string[], cwd = project): string {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_|INIT_CWD|NODE_PATH|VITEST)/.test(name)),
  );
  return execFileSync(command, args, { cwd, env, encoding: "utf8", maxBuffer: 1 << 26 });
}

beforeAll(() => {
  project = mkdtempSync(path.join(tmpdir(), "mixprec-user-"));
  run("npm", ["pack", "--pack-destination", project], repository);
  const tarball = readdirSync(project).find((name) => name.endsWith(".tgz"))!;
  const manifest = { name: "user", version: "1.0.0", private: true, type: "module" };
  writeFileSync(path.join(project, "package.json"), JSON.stringify(manifest));
  run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", `./${tarball}`]);
}, 600_000);

afterAll(() => rmSync(project, { recursive: true, force: true }));

test("the package holds what a build needs, and no sources of the JavaScript or the tests", () => {
  const installed = path.join(project, "node_modules/mixprec");
  for (const name of [
    "CMakeLists.txt",
    "binding.gyp",
    "cmake",
    "native/core",
    "dist/index.d.ts",
    "LICENSE",
  ])
    expect(existsSync(path.join(installed, name)), name).toBe(true);
  for (const name of ["test", "bench", ".ci", "dist/.tsbuildinfo", "tsconfig.json"])
    expect(existsSync(path.join(installed, name)), name).toBe(false);
  // Of lib/ only the data that the command reads.
  const lib = readdirSync(path.join(installed, "lib"), { recursive: true });
  expect(lib.sort()).toEqual(["data", path.join("data", "reviews.csv")]);
});

test("installing built an addon that loads and computes", () => {
  const program = `
    import * as mp from "mixprec";
    const a = mp.tensor([[1, 2], [3, 4]], { requiresGrad: true });
    const product = mp.matmul(a, mp.eye(2));
    product.sum().backward();
    console.log(JSON.stringify([product.toArray(), a.grad.toArray()]));`;
  const output = run(process.execPath, ["--input-type=module", "--eval", program]);
  expect(JSON.parse(output)).toEqual([
    [
      [1, 2],
      [3, 4],
    ],
    [
      [1, 1],
      [1, 1],
    ],
  ]);
});

test("the command is there and shows its help", () => {
  expect(run("npx", ["--no-install", "mixprec", "--help"])).toContain("finetune");
});

test.each(["NodeNext", "Preserve"])("its types hold for a strict user with module %s", (module) => {
  const source = `
    import * as mp from "mixprec";
    export const x: mp.Tensor = mp.ones([2, 3], { dtype: "bfloat16" });
    export const y: number = x.matmul(mp.zeros([3, 1], { dtype: "bfloat16" })).numel;
    // @ts-expect-error: a dtype that does not exist
    export const z = mp.ones([2], { dtype: "float17" });`;
  writeFileSync(path.join(project, "user.ts"), source);
  const options = { module, target: "ES2022", strict: true, skipLibCheck: false, types: [] };
  const config = { compilerOptions: { ...options, noEmit: true }, files: ["user.ts"] };
  writeFileSync(path.join(project, "tsconfig.json"), JSON.stringify(config));
  const tsc = path.join(repository, "node_modules/typescript/bin/tsc");
  expect(run(process.execPath, [tsc, "-p", project])).toBe("");
});
