// What the system says of this process's memory, and how loading a model makes it grow.
import { readFileSync } from "node:fs";

/** A field of /proc/self/status in bytes; without such a file the process's resident set. */
function memory(field) {
  try {
    const text = readFileSync("/proc/self/status", "utf8");
    return 1024 * Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)[1]);
  } catch {
    return process.memoryUsage.rss();
  }
}

/** Seconds that `load` takes, and bytes by which the process has grown at most; in JSON, printed. */
export async function printLoading(load) {
  const before = memory("VmRSS");
  const start = performance.now();
  await load();
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ seconds, grown: memory("VmHWM") - before }));
}
