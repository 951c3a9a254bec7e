// A process that trains when it is told to: ours (training-worker.mjs) or a rival, one protocol for
// both. It prints a line of JSON with `ready` when its model stands; a line with a number of steps on
// its standard input makes it run them and print { seconds, cpuSeconds } with an entry for each.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export class Contestant {
  constructor(name, command, args, environment) {
    this.name = name;
    this.seconds = [];
    this.cpuSeconds = [];
    this.process = spawn(command, args, {
      env: environment,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.complaints = "";
    this.process.stderr.on("data", (text) => (this.complaints += text));
    this.process.stdin.on("error", () => {}); // it ended: its reply is missing, which says so
    this.failure = null;
    this.process.on("error", (error) => (this.failure = error));
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  async reply() {
    const { value, done } = await this.lines.next();
    if (!done) return JSON.parse(value);
    const why = this.failure?.message ?? this.complaints.trim();
    throw new Error(`${this.name} ended without an answer${why === "" ? "" : `: ${why}`}`);
  }

  /** What it says about itself once it can train. */
  async ready() {
    this.description = await this.reply();
    return this;
  }

  /** One step, whose times are kept; the others wait meanwhile. */
  async step() {
    this.process.stdin.write("1\n");
    const { seconds, cpuSeconds, ...rest } = await this.reply();
    this.seconds.push(...seconds);
    this.cpuSeconds.push(...cpuSeconds);
    this.last = rest;
  }

  /** Ends the process and waits for it, so that the next one has the cores for itself. */
  async end() {
    this.process.stdin.end();
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    await new Promise((resolve) => {
      this.process.once("close", resolve);
    });
  }
}
