// Objects compiled for AVX2 or AVX-512 must not share inline functions with any other object: the
// linker keeps one copy of each, and if that is the AVX-512 one, a processor without it dies of an
// illegal instruction in a place that has nothing to do with kernels.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";

const isaOf = (file) => /_(avx2|avx512)\.cc\.o$/.exec(file)?.[1] ?? "baseline";

function objectFiles(buildDirectory) {
  return ["mixprec_backend.dir", "mixprec.dir"]
    .map((target) => path.join(buildDirectory, "CMakeFiles", target))
    .filter((directory) => existsSync(directory))
    .flatMap((directory) =>
      readdirSync(directory, { recursive: true })
        .filter((name) => name.endsWith(".cc.o"))
        .map((name) => path.join(directory, name)),
    );
}

/** Weak functions that `object` defines: the ones of which the linker keeps only one copy. */
function weakFunctions(object) {
  const { status, stdout, error } = spawnSync("nm", ["-C", "--defined-only", object], {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
  if (error || status !== 0) throw new Error(`nm failed on ${object}`);
  return [...stdout.matchAll(/^\w+ W (.+)$/gm)].map((match) => match[1]);
}

/** Whether this machine has objects and tools of the kind that the check reads. */
export function canCheckIsaSymbols() {
  return process.platform === "linux" && process.arch === "x64" && !spawnSync("nm", ["-V"]).error;
}

/**
 * @param {string} buildDirectory
 * @returns {{ passed: boolean, output: string }}
 */
export function checkIsaSymbols(buildDirectory) {
  const definedIn = new Map();
  for (const object of objectFiles(buildDirectory)) {
    for (const symbol of weakFunctions(object)) {
      const objects = definedIn.get(symbol) ?? [];
      definedIn.set(symbol, [...objects, path.relative(buildDirectory, object)]);
    }
  }
  const shared = [...definedIn].filter(([, objects]) => new Set(objects.map(isaOf)).size > 1);
  const output = shared.map(([symbol, objects]) => `${symbol}\n  in ${objects.join("\n  and ")}`);
  return { passed: shared.length === 0, output: output.join("\n") };
}
