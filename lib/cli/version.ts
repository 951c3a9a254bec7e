// The package's version, as package.json has it.

import { readFileSync } from "node:fs";

/** For example `0.1.0`. */
export function packageVersion(): string {
  // The same from lib/cli and from dist/cli.
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
