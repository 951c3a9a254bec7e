#!/usr/bin/env node
// Runs when npm installs the package: where no prebuilt addon fits this machine and none was built
// before, builds one. node-gyp is not needed.
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildNative } from "./build.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const loadAddon = createRequire(import.meta.url)("node-gyp-build");

function addonLoads() {
  try {
    loadAddon(root);
    return true;
  } catch {
    return false;
  }
}

const fromSource = process.env.npm_config_build_from_source === "true";
if (fromSource || !addonLoads()) {
  console.log("mixprec: building the native addon (needs CMake 3.20 and a C++20 compiler)");
  try {
    await buildNative();
  } catch (error) {
    console.error(`mixprec: the native addon could not be built: ${error.message}`);
    process.exitCode = 1;
  }
}
