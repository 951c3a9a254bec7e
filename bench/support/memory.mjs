// What the system says of this process's memory.
import { readFileSync } from "node:fs";

/** A field of /proc/self/status in bytes; without such a file the process's resident set. */
export function memory(field) {
  try {
    const text = readFileSync("/proc/self/status", "utf8");
    return 1024 * Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)[1]);
  } catch {
    return process.memoryUsage.rss();
  }
}
