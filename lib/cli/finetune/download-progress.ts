// Says what is being downloaded: a line for each file, which counts up where somebody watches.

import type { HubProgress } from "../../io/hub/index.js";
import { printable, writeLine, type OutputStream } from "../terminal.js";

function formatBytes(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** How often a line that counts up is written anew, in milliseconds. */
const INTERVAL = 100;

/** A listener for downloads that writes to the stream. */
export function createDownloadProgress(stream: OutputStream): (progress: HubProgress) => void {
  let last = -Infinity;
  return ({ file, loaded, total }) => {
    const whole = loaded === total;
    if (stream.isTTY !== true) {
      const size = total === null ? "" : `, ${formatBytes(total)}`;
      if (whole) writeLine(stream, `fetch   ${file}${size}`);
      return;
    }
    const now = performance.now();
    if (!whole && now - last < INTERVAL) return;
    last = now;
    const of = total === null ? "" : ` of ${formatBytes(total)}`;
    stream.write(`\r\x1b[Kfetch   ${printable(file)}  ${formatBytes(loaded)}${of}`);
    if (whole) writeLine(stream);
  };
}
