// The library as JavaScript in a directory of its own, for tests that run it in another process.

import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

import ts from "typescript";

const ROOT = path.join(import.meta.dirname, "../..");

const COMPILER_OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
};

/** Writes the library under `directory`; returns the URL to import. */
export async function compileLibrary(directory: string): Promise<string> {
  await writeFile(path.join(directory, "package.json"), '{"type":"module"}');
  for (const folder of ["build", "node_modules"]) {
    await symlink(path.join(ROOT, folder), path.join(directory, folder));
  }
  const files = await readdir(path.join(ROOT, "lib"), { recursive: true });
  for (const file of files.filter((name) => name.endsWith(".ts"))) {
    const fileName = path.join(ROOT, "lib", file);
    const source = await readFile(fileName, "utf8");
    const target = path.join(directory, "lib", file.replace(/\.ts$/, ".js"));
    await mkdir(path.dirname(target), { recursive: true });
    const options = { compilerOptions: COMPILER_OPTIONS, fileName };
    await writeFile(target, ts.transpileModule(source, options).outputText);
  }
  return pathToFileURL(path.join(directory, "lib/index.js")).href;
}
