#!/usr/bin/env node
// Checks that every file imports only from floors below its own (docs/architecture.md), that only
// native/binding speaks Node-API, that only lib/native.ts loads the addon, and the size of files.
// Usage: node scripts/check-floors.mjs [ROOT]
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// Top to bottom. Folders on one line may use each other in one direction; those of native/ in none.
const libFloors = [
  ["cli"],
  ["index.ts"],
  ["pipelines"],
  ["fabric"],
  ["models", "data", "io"],
  ["nn", "optim", "amp"],
  ["ops"],
  ["core"],
  ["native.ts"],
  ["native-errors.ts", "errors.ts", "dtype.ts", "shape.ts", "op-names.ts"],
];
const nativeFloors = [["binding"], ["cpu", "cuda"], ["core"]];

// Pure data, whatever floor they stand on: these may import from the lowest floor only.
const pureFiles = ["lib/core/policy.ts"];

const limits = { softLines: 300, hardLines: 500, columns: 100 };
const sourceFolders = ["lib", "native", "scripts", "bench", "cmake"];
const unlimited = /(^|\/)(generated|data)\/|-words\.mjs$|\.(csv|json)$/;

function listFiles(root, folder) {
  if (!existsSync(path.join(root, folder))) return [];
  return readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      path.relative(root, path.join(entry.parentPath, entry.name)).replaceAll("\\", "/"),
    )
    .sort();
}

const withoutComments = (text) => text.replace(/^\s*(\/\/|\/?\*).*$/gm, "");

/** Module specifiers of a TypeScript file, type imports included: they are dependencies, too. */
function importsOf(text) {
  const patterns = [
    /^\s*(?:import|export)\b[^"';]*?\bfrom\s*["']([^"']+)["']/gm,
    /^\s*import\s*["']([^"']+)["']/gm,
    /\b(?:import|require)\(\s*["']([^"']+)["']/g,
  ];
  return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[1]));
}

/** What `specifier` in `file` names, as a path from the root; undefined for a package. */
function resolveImport(file, specifier) {
  if (!specifier.startsWith(".")) return undefined;
  return path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, ".ts");
}

function resolveInclude(root, file, name) {
  const candidates = [path.posix.join(path.posix.dirname(file), name), `native/${name}`];
  return candidates.find((candidate) => existsSync(path.join(root, candidate)));
}

/** The folder, or the file at the top of `base`, that has a floor. */
const unitOf = (base, file) => file.slice(base.length + 1).split("/")[0];
const floorOf = (floors, unit) => floors.findIndex((units) => units.includes(unit));

/** Reports every import in `edges` ({from, to}, paths under `base`) that does not lead downwards. */
function checkEdges(base, floors, edges, sidewaysAllowed, report) {
  const sideways = new Map();
  for (const { from, to } of edges) {
    const [fromUnit, toUnit] = [unitOf(base, from), unitOf(base, to)];
    const [fromFloor, toFloor] = [floorOf(floors, fromUnit), floorOf(floors, toUnit)];
    if (fromFloor < 0) continue; // reportHomeless names the file
    if (!to.startsWith(`${base}/`)) report(`${from}: imports ${to}, which is outside ${base}/`);
    else if (toFloor >= 0 && toFloor < fromFloor) report(`${from}: imports ${to}, a floor above`);
    else if (toFloor === fromFloor && fromUnit !== toUnit) {
      const back = sideways.get(`${toUnit} ${fromUnit}`);
      if (!sidewaysAllowed) report(`${from}: includes ${to}, on the same floor`);
      else if (back) report(`${from}: imports ${to}, while ${back.from} imports ${back.to}`);
      else sideways.set(`${fromUnit} ${toUnit}`, { from, to });
    }
    if (pureFiles.includes(from) && toFloor !== floors.length - 1)
      report(`${from}: imports ${to}, but is pure data and may use the lowest floor only`);
  }
}

function reportHomeless(base, floors, files, report) {
  for (const file of files)
    if (floorOf(floors, unitOf(base, file)) < 0)
      report(`${file}: has no floor; add it to scripts/check-floors.mjs`);
}

function checkLib(root, report) {
  const edges = [];
  const files = listFiles(root, "lib").filter((file) => file.endsWith(".ts"));
  for (const file of files) {
    const text = withoutComments(readFileSync(path.join(root, file), "utf8"));
    for (const specifier of importsOf(text)) {
      const to = resolveImport(file, specifier);
      if (to) edges.push({ from: file, to });
    }
    if (file !== "lib/native.ts" && /["']node-gyp-build["']|process\.dlopen|\.node["']/.test(text))
      report(`${file}: loads the addon, which only lib/native.ts does`);
  }
  checkEdges("lib", libFloors, edges, true, report);
  reportHomeless("lib", libFloors, files, report);
}

function checkNative(root, report) {
  const edges = [];
  const files = listFiles(root, "native").filter((file) => /\.(h|cc|cu|cuh)$/.test(file));
  for (const file of files) {
    const text = withoutComments(readFileSync(path.join(root, file), "utf8"));
    for (const [, quote, name] of text.matchAll(/^\s*#\s*include\s*(["<])([^">]+)[">]/gm)) {
      const nodeApi = /^(napi(-inl)?|(js_native|node)_api(_types)?)\.h$/.test(name);
      if (nodeApi && !file.startsWith("native/binding/"))
        report(`${file}: includes ${name}, which only native/binding may`);
      const to = quote === '"' && !nodeApi ? resolveInclude(root, file, name) : undefined;
      if (to) edges.push({ from: file, to });
    }
  }
  checkEdges("native", nativeFloors, edges, false, report);
  reportHomeless("native", nativeFloors, files, report);
}

function checkSizes(root, report, warn) {
  for (const file of sourceFolders.flatMap((folder) => listFiles(root, folder))) {
    if (unlimited.test(file) || !/\.(ts|mjs|h|cc|cu|cuh|cmake)$/.test(file)) continue;
    const lines = readFileSync(path.join(root, file), "utf8").trimEnd().split("\n");
    if (lines.length > limits.hardLines)
      report(`${file}: ${lines.length} lines, more than ${limits.hardLines}`);
    else if (lines.length > limits.softLines)
      warn(`${file}: ${lines.length} lines, more than ${limits.softLines}`);
    const wide = lines.flatMap((line, index) =>
      [...line].length > limits.columns && !line.includes("://") ? [index + 1] : [],
    );
    if (wide.length > 0)
      warn(`${file}: wider than ${limits.columns} columns in line ${wide.join(", ")}`);
  }
}

/**
 * @param {string} root
 * @returns {{ errors: string[], warnings: string[] }}
 */
export function checkFloors(root) {
  const errors = [];
  const warnings = [];
  const report = (message) => errors.push(message);
  checkLib(root, report);
  checkNative(root, report);
  checkSizes(root, report, (message) => warnings.push(message));
  return { errors, warnings };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const root = process.argv[2] ?? path.dirname(path.dirname(fileURLToPath(import.meta.url)));
  const { errors, warnings } = checkFloors(root);
  for (const message of warnings) console.warn(`warning: ${message}`);
  for (const message of errors) console.error(`error: ${message}`);
  console.log(`floors: ${errors.length} errors, ${warnings.length} warnings`);
  process.exitCode = errors.length > 0 ? 1 : 0;
}
