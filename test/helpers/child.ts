// Scripts that run with the library in a process of their own.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { compileLibrary } from "./compiled-lib.js";

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** The library as another process imports it, in a temporary directory. */
export class ChildLibrary {
  private constructor(
    private readonly directory: string,
    /** What to import. */
    readonly url: string,
  ) {}

  static async compile(): Promise<ChildLibrary> {
    const directory = await mkdtemp(path.join(tmpdir(), "mixprec-child-"));
    return new ChildLibrary(directory, await compileLibrary(directory));
  }

  remove(): Promise<void> {
    return rm(this.directory, { recursive: true, force: true });
  }

  /** Runs a module that finds the library in `mp`, with more in its environment. */
  async run(script: string, env: Record<string, string> = {}): Promise<Ended> {
    const source = `const mp = await import(${JSON.stringify(this.url)});\n${script}`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    const ended: Ended = { code: null, signal: null, stdout: "", stderr: "" };
    child.stdout.on("data", (data: Buffer) => (ended.stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (ended.stderr += data.toString()));
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve({ ...ended, code, signal }));
    });
  }

  /** The JSON that a script prints; an error with what it said if it did not end well. */
  async result(script: string, env: Record<string, string> = {}): Promise<unknown> {
    const ended = await this.run(script, env);
    if (ended.code !== 0) {
      throw new Error(
        `the script ended with ${ended.signal ?? `code ${ended.code}`}: ${ended.stderr}`,
      );
    }
    return JSON.parse(ended.stdout);
  }
}
