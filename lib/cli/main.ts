#!/usr/bin/env node
// The `mixprec` command.

import { run } from "./program.js";
import { processTerminal } from "./terminal.js";
import { EXIT } from "./usage.js";

// Whoever read the output has gone (`mixprec … | head`): there is nobody to tell.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.failure);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), processTerminal);
