// The command line of `mixprec`: reads it and hands over. The commands are loaded when they run, so
// that help is there without the native addon.

import { Command, CommanderError } from "commander";

import {
  checkClassifyOptions,
  declareClassifyOptions,
  type RawClassifyOptions,
} from "./classify/options.js";
import { checkOptions, declareOptions } from "./finetune/options.js";
import { writeLine, type Terminal } from "./terminal.js";
import { errorLine, EXIT, exitCodeOf } from "./usage.js";
import { packageVersion } from "./version.js";

/** The keys of the options that stood on the command line. */
function namedOptions(command: Command): string[] {
  return Object.keys(command.opts()).filter((key) => command.getOptionValueSource(key) === "cli");
}

/** The command line; `finish` is told the exit code of what was run. */
function createProgram(terminal: Terminal, finish: (code: number) => void): Command {
  const program = new Command("mixprec")
    .description("Mixed-precision training for Node.js")
    .version(packageVersion(), "-v, --version")
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      getOutHelpWidth: () => Math.min(100, terminal.stdout.columns ?? 100),
      // Errors are written in one place, below.
      outputError: () => undefined,
    })
    .exitOverride();
  declareOptions(program.command("finetune"))
    .description("fine-tune a text classifier at one precision, or compare all of them")
    .action(async (_, command: Command) => {
      const options = checkOptions(command.opts(), namedOptions(command));
      const { finetune } = await import("./finetune/command.js");
      finish(await finetune(options, terminal));
    });
  declareClassifyOptions(program.command("classify"))
    .description("sort texts into the classes of a fine-tuned model, in 16 bits by default")
    .action(async (model: string, file: string | undefined, raw: RawClassifyOptions) => {
      const options = checkClassifyOptions(model, file, raw);
      const { classify } = await import("./classify/command.js");
      await classify(options, terminal);
    });
  program
    .command("info")
    .description("show what there is to compute with: device, instruction set, threads, memory")
    .option("--json", "as JSON")
    .action(async (_, command: Command) => {
      const { info } = await import("./info.js");
      info(command.opts(), terminal);
    });
  return program;
}

/**
 * Runs the command with these arguments and writes errors as one line each.
 * @returns the exit code; never throws.
 */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  let code: number = EXIT.ok;
  const program = createProgram(terminal, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...args], { from: "user" });
    return code;
  } catch (error) {
    const failed = exitCodeOf(error);
    // Without a command, help was written already.
    const silent = error instanceof CommanderError && /^commander\.(help|version)/.test(error.code);
    if (!silent && failed !== EXIT.ok) {
      writeLine(terminal.stderr, `mixprec: ${errorLine(error).replace(/^error: /, "")}`);
    }
    return failed;
  }
}
