// Where `Fabric.log` puts metrics.

import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";

import { parse } from "csv-parse/sync";

import { ArgumentError, describe, MixprecError } from "../errors.js";

/** Receives what `Fabric.log` and `Fabric.logDict` are given. */
export interface Logger {
  /** `step` is left out where the caller did not count. */
  logMetrics(metrics: Readonly<Record<string, number>>, step?: number): void;
  /** Writes what is buffered. */
  save?(): void;
  /** Called at the end. */
  finalize?(status?: string): void;
}

/** Options of {@link CSVLogger}. */
export interface CSVLoggerOptions {
  /** Folder below `rootDir`; default "lightning_logs". May be "". */
  name?: string;
  /** Folder below that: a number N stands for version_N. Default: the next free number. */
  version?: number | string;
  /** Put before the names of metrics, with "-". */
  prefix?: string;
  /** Writes the file at every so many steps; default 100. */
  flushLogsEveryNSteps?: number;
}

const OP = "CSVLogger";
const FILE_NAME = "metrics.csv";

type Row = Record<string, string>;

function field(value: string): string {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

function line(values: readonly string[]): string {
  return `${values.map(field).join(",")}\n`;
}

function readRows(file: string): Row[] {
  return parse<Row>(readFileSync(file, "utf8"), { columns: true });
}

/**
 * Writes metrics to `rootDir/name/version/metrics.csv`: one row for each call, a column for each
 * metric and one for the step. A metric that turns up later adds a column, and the file is written
 * anew. Rows are buffered, see `flushLogsEveryNSteps`, `save` and `finalize`.
 */
export class CSVLogger implements Logger {
  readonly name: string;
  private readonly prefix: string;
  private readonly flushEvery: number;
  private readonly givenVersion: number | string | null;
  private chosenVersion: number | string | null = null;
  private readonly keys: string[] = [];
  private rows: Row[] = [];
  private isOpen = false;

  /** @throws ArgumentError for an option outside its range. */
  constructor(
    readonly rootDir: string,
    options: CSVLoggerOptions = {},
  ) {
    const { name = "lightning_logs", version = null, prefix = "" } = options;
    const { flushLogsEveryNSteps = 100 } = options;
    if (typeof rootDir !== "string") {
      throw new ArgumentError(`${OP}: rootDir — expected a folder, got ${describe(rootDir)}`, {
        op: OP,
      });
    }
    if (!Number.isInteger(flushLogsEveryNSteps) || flushLogsEveryNSteps < 1) {
      throw new ArgumentError(
        `${OP}: flushLogsEveryNSteps — expected a whole number of at least 1, got ` +
          describe(flushLogsEveryNSteps),
        { op: OP },
      );
    }
    if (typeof version === "number" && (!Number.isSafeInteger(version) || version < 0)) {
      throw new ArgumentError(
        `${OP}: version — expected a name or a whole number of at least 0, got ${version}`,
        { op: OP },
      );
    }
    this.name = name;
    this.givenVersion = version;
    this.prefix = prefix;
    this.flushEvery = flushLogsEveryNSteps;
  }

  /** The number or name of this run, fixed when it is first asked for. */
  get version(): number | string {
    return (this.chosenVersion ??= this.givenVersion ?? this.nextVersion());
  }

  /** The folder of this run. */
  get logDir(): string {
    const { version } = this;
    const folder = typeof version === "number" ? `version_${version}` : version;
    return path.join(this.rootDir, this.name, folder);
  }

  private nextVersion(): number {
    const folder = path.join(this.rootDir, this.name);
    if (!existsSync(folder)) return 0;
    const numbers = readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => /^version_(\d+)$/.exec(entry.name)?.[1])
      .filter((number) => number !== undefined);
    return numbers.reduce((next, number) => Math.max(next, Number(number) + 1), 0);
  }

  /**
   * Buffers a row.
   * @param step default: how many rows are buffered.
   * @throws ArgumentError for a metric that is no number.
   */
  logMetrics(metrics: Readonly<Record<string, number>>, step = this.rows.length): void {
    const row: Row = {};
    for (const [name, value] of Object.entries(metrics)) {
      if (typeof value !== "number") {
        throw new ArgumentError(`${OP}: ${name} — expected a number, got ${describe(value)}`, {
          op: OP,
        });
      }
      row[this.prefix === "" ? name : `${this.prefix}-${name}`] = String(value);
    }
    row.step = String(step);
    this.rows.push(row);
    if ((step + 1) % this.flushEvery === 0) this.save();
  }

  /** Not there: the file has rows of numbers only. */
  logHyperparams(): never {
    throw new MixprecError(
      "ERR_NOT_IMPLEMENTED",
      `${OP}: logHyperparams is not implemented; write hyperparameters to a file of your own`,
      { op: OP },
    );
  }

  /** Writes the buffered rows. */
  save(): void {
    if (this.rows.length === 0) return;
    const file = path.join(this.logDir, FILE_NAME);
    mkdirSync(this.logDir, { recursive: true });
    const known = new Set(this.keys);
    const found = new Set(this.rows.flatMap((row) => Object.keys(row)));
    const added = [...found].filter((key) => !known.has(key)).sort();
    if (added.length > 0 || !this.isOpen) {
      const written = this.isOpen ? readRows(file) : [];
      this.keys.push(...added);
      writeFileSync(file, line(this.keys) + this.format(written));
      this.isOpen = true;
    }
    appendFileSync(file, this.format(this.rows));
    this.rows = [];
  }

  private format(rows: readonly Row[]): string {
    return rows.map((row) => line(this.keys.map((key) => row[key] ?? ""))).join("");
  }

  /** Writes the buffered rows. */
  finalize(): void {
    this.save();
  }
}
