// A terminal that remembers what was written to it.

import type { OutputStream, Terminal } from "../../lib/cli/terminal.js";

export interface RecordedStream extends OutputStream {
  text: string;
}

export function recordStream(options: { isTTY?: boolean; columns?: number } = {}): RecordedStream {
  return {
    ...options,
    text: "",
    write(text) {
      this.text += text;
      return true;
    },
  };
}

export function recordTerminal(): Terminal & { stdout: RecordedStream; stderr: RecordedStream } {
  return { stdout: recordStream(), stderr: recordStream() };
}
