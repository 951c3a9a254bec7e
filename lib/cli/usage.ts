// What a user typed wrong, and what a command ends with: exit codes and one clean line per error.

import { CommanderError, InvalidArgumentError } from "commander";

import { ArgumentError, describe, MixprecError } from "../errors.js";

/** Exit codes of the command. */
export const EXIT = {
  ok: 0,
  /** The run failed, or training diverged. */
  failure: 1,
  /** The command line is wrong; nothing was done. */
  usage: 2,
  /** Ended by Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
} as const;

/** An option whose value, or combination with another, is wrong. */
export class UsageError extends ArgumentError {
  constructor(message: string, cause?: unknown) {
    super(message, { op: "cli", cause });
  }
}

/** The user asked to stop. */
export class InterruptedError extends MixprecError {
  /** @param detail what became of the work, and how to go on with it. */
  constructor(detail?: string) {
    super("ERR_INTERRUPTED", detail === undefined ? "interrupted" : `interrupted: ${detail}`);
  }
}

/** The code with which a command ends that failed with `error`. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof InterruptedError) return EXIT.interrupted;
  return EXIT.failure;
}

/** An error as one line; what is not of this library comes with its stack, since it is a defect. */
export function errorLine(error: unknown): string {
  if (error instanceof MixprecError || error instanceof CommanderError) {
    return error.message.trim().replace(/\s*\n\s*/g, " ");
  }
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  if (error instanceof Error && typeof code === "string") return error.message;
  if (error instanceof Error) return error.stack ?? error.message;
  return describe(error);
}

interface NumberRange {
  readonly least: number;
  readonly most?: number;
}

/** Parses an option that is a whole number within a range. */
export function wholeNumber({ least, most = Number.MAX_SAFE_INTEGER }: NumberRange) {
  return (text: string): number => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : NaN;
    if (value >= least && value <= most) return value;
    const range =
      most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new InvalidArgumentError(`Expected a whole number ${range}.`);
  };
}

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Parses an option that is a finite number above 0. */
export function positiveNumber(text: string): number {
  const value = DECIMAL.test(text.trim()) ? Number(text) : NaN;
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("Expected a finite number above 0.");
}

/** Parses an option that is a share of a whole: more than 0 and less than 1. */
export function share(text: string): number {
  const value = DECIMAL.test(text.trim()) ? Number(text) : NaN;
  if (value > 0 && value < 1) return value;
  throw new InvalidArgumentError("Expected a number above 0 and less than 1.");
}
