// Where a command talks to: two streams, and whether somebody watches.

/** What the command needs of a stream; tests hand in one that remembers. */
export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Standard output and standard error. */
export interface Terminal {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}

/** The process's own. */
export const processTerminal: Terminal = { stdout: process.stdout, stderr: process.stderr };

/** Text that a terminal cannot take for a command: control characters become visible. */
export function printable(text: string): string {
  return text.replace(
    /[^\P{Cc}\t\n]/gu,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** Writes one line. */
export function writeLine(stream: OutputStream, line = ""): void {
  stream.write(`${printable(line)}\n`);
}
