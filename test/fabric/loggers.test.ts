import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import * as mp from "../../lib/index.js";
import { TEST_ACCELERATOR } from "../helpers/devices.js";

let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), "mixprec-logs-"));
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

const read = (logger: mp.CSVLogger): string =>
  readFileSync(path.join(logger.logDir, "metrics.csv"), "utf8");

describe("CSVLogger", () => {
  it("writes a row for each call, with the step", () => {
    const logger = new mp.CSVLogger(root, { name: "rows" });
    logger.logMetrics({ loss: 0.5, accuracy: 1 }, 0);
    logger.logMetrics({ loss: 0.25 }, 10);
    expect(existsSync(logger.logDir)).toBe(false);
    logger.save();
    expect(read(logger)).toBe("accuracy,loss,step\n1,0.5,0\n,0.25,10\n");
    logger.logMetrics({ accuracy: NaN }, 11);
    logger.finalize();
    expect(read(logger)).toBe("accuracy,loss,step\n1,0.5,0\n,0.25,10\nNaN,,11\n");
    logger.save();
    expect(read(logger).split("\n")).toHaveLength(5);
  });

  it("adds a column for a metric that comes later", () => {
    const logger = new mp.CSVLogger(root, { name: "columns" });
    logger.logMetrics({ loss: 1 }, 0);
    logger.save();
    logger.logMetrics({ 'a "quoted", name': 2, loss: 3 }, 1);
    logger.save();
    expect(read(logger)).toBe('loss,step,"a ""quoted"", name"\n1,0,\n3,1,2\n');
    logger.logMetrics({ zeta: 4 }, 2);
    logger.save();
    expect(read(logger)).toBe('loss,step,"a ""quoted"", name",zeta\n1,0,,\n3,1,2,\n,2,,4\n');
  });

  it("numbers versions, or takes a name for one", () => {
    const make = (options: mp.CSVLoggerOptions): mp.CSVLogger =>
      new mp.CSVLogger(root, { name: "versions", ...options });
    const first = make({});
    expect(first.version).toBe(0);
    expect(first.logDir).toBe(path.join(root, "versions", "version_0"));
    mkdirSync(path.join(root, "versions", "version_7"), { recursive: true });
    mkdirSync(path.join(root, "versions", "version_x"));
    writeFileSync(path.join(root, "versions", "version_9"), "a file");
    expect(make({}).version).toBe(8);
    expect(first.version).toBe(0);
    expect(make({ version: 3 }).logDir).toMatch(/version_3$/);
    expect(make({ version: "mine" }).logDir).toBe(path.join(root, "versions", "mine"));
    expect(new mp.CSVLogger(root, { name: "" }).logDir).toBe(path.join(root, "version_0"));
    expect(new mp.CSVLogger(root).logDir).toBe(path.join(root, "lightning_logs", "version_0"));
  });

  it("replaces what an earlier run wrote under its version", () => {
    for (const loss of [1, 2]) {
      const logger = new mp.CSVLogger(root, { name: "again", version: "one" });
      logger.logMetrics({ loss }, 0);
      logger.save();
      expect(read(logger)).toBe(`loss,step\n${loss},0\n`);
    }
  });

  it("puts a prefix before the names, and writes at every so many steps", () => {
    const logger = new mp.CSVLogger(root, {
      name: "prefix",
      prefix: "train",
      flushLogsEveryNSteps: 2,
    });
    logger.logMetrics({ loss: 1 }, 0);
    expect(existsSync(logger.logDir)).toBe(false);
    logger.logMetrics({ loss: 2 }, 1);
    expect(read(logger)).toBe("step,train-loss\n0,1\n1,2\n");
  });

  it("counts the rows where no step is given", () => {
    const logger = new mp.CSVLogger(root, { name: "count" });
    logger.logMetrics({ a: 1 });
    logger.logMetrics({ a: 2 });
    logger.save();
    expect(read(logger)).toBe("a,step\n1,0\n2,1\n");
  });

  it("names what is wrong", () => {
    const make = (options: unknown, folder: unknown = root): unknown =>
      new mp.CSVLogger(folder as string, options as mp.CSVLoggerOptions);
    expect(() => make({}, 3)).toThrow(mp.ArgumentError);
    expect(() => make({ flushLogsEveryNSteps: 0 })).toThrow(/flushLogsEveryNSteps/);
    expect(() => make({ version: -1 })).toThrow(/version/);
    const logger = new mp.CSVLogger(root);
    expect(() => logger.logMetrics({ loss: "1" as unknown as number })).toThrow(/loss.*number/);
    expect(() => logger.logHyperparams()).toThrow(mp.MixprecError);
  });
});

describe("Fabric.log", () => {
  it("hands numbers, and tensors as numbers, to all loggers", () => {
    const rows: unknown[] = [];
    const loggers = [1, 2].map((id): mp.Logger => ({
      logMetrics: (metrics, step) => rows.push([id, metrics, step]),
    }));
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, loggers });
    fabric.log("loss", mp.tensor(0.5), 3);
    fabric.logDict({ a: 1, b: mp.tensor([2]) });
    expect(rows).toEqual([
      [1, { loss: 0.5 }, 3],
      [2, { loss: 0.5 }, 3],
      [1, { a: 1, b: 2 }, undefined],
      [2, { a: 1, b: 2 }, undefined],
    ]);
    expect(fabric.logger).toBe(loggers[0]);
    expect(fabric.loggers).toEqual(loggers);
  });

  it("does nothing without loggers, but there is none to ask for", () => {
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR });
    fabric.log("loss", 1);
    expect(() => fabric.logger).toThrow(mp.ArgumentError);
  });

  it("writes a CSV file", () => {
    const logger = new mp.CSVLogger(root, { name: "fabric" });
    const fabric = new mp.Fabric({ accelerator: TEST_ACCELERATOR, loggers: logger });
    fabric.log("loss", mp.tensor(0.25), 0);
    logger.save();
    expect(read(logger)).toBe("loss,step\n0.25,0\n");
  });
});
