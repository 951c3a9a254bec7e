#!/usr/bin/env node
// Makes a clone ready to run: installs the dependencies where they are missing or not those of
// package-lock.json, then builds what changed. Needs nothing but Node, since it comes first.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildNative, buildTypeScript } from "./build.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const readJson = (file) => JSON.parse(readFileSync(path.join(root, file), "utf8"));

/** True where node_modules holds just the versions that package-lock.json names. */
function dependenciesAreCurrent() {
  // npm's own record of what it put there.
  if (!existsSync(path.join(root, "node_modules/.package-lock.json"))) return false;
  const wanted = readJson("package-lock.json").packages;
  const present = readJson("node_modules/.package-lock.json").packages;
  return Object.entries(wanted).every(([name, entry]) => {
    if (name === "") return true;
    if (present[name] === undefined) return entry.optional === true;
    return present[name].version === entry.version && existsSync(path.join(root, name));
  });
}

function installDependencies() {
  console.log("set-up: installing the dependencies of package-lock.json");
  // The addon is built below, where its progress can be seen.
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  const npm = process.env.npm_execpath;
  const { status } = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: "inherit" })
    : spawnSync("npm", args, { cwd: root, stdio: "inherit", shell: process.platform === "win32" });
  if (status !== 0) throw new Error("npm could not install the dependencies");
}

try {
  const start = performance.now();
  if (!dependenciesAreCurrent()) installDependencies();
  await buildNative();
  buildTypeScript();
  console.log(`set-up: done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
} catch (error) {
  console.error(`set-up: ${error.message}`);
  process.exitCode = 1;
}
