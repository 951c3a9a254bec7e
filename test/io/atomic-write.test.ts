import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

import ts from "typescript";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { CheckpointError } from "../../lib/errors.js";
import { writeFileAtomic } from "../../lib/io/atomic-write.js";

let directory: string;
let file: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-atomic-"));
  file = path.join(directory, "model.bin");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** The two sources as JavaScript, so that a process of its own can run them. */
async function compile(): Promise<string> {
  const root = path.join(directory, "compiled");
  const { mkdir } = await import("node:fs/promises");
  await mkdir(path.join(root, "io"), { recursive: true });
  await writeFile(path.join(root, "package.json"), '{"type":"module"}');
  for (const name of ["errors", "io/atomic-write"]) {
    const source = await readFile(
      path.join(import.meta.dirname, "../../lib", `${name}.ts`),
      "utf8",
    );
    const options = {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    };
    await writeFile(path.join(root, `${name}.js`), ts.transpileModule(source, options).outputText);
  }
  return pathToFileURL(path.join(root, "io/atomic-write.js")).href;
}

describe("writeFileAtomic", () => {
  it("writes text, bytes and blocks, and replaces what was there", async () => {
    await writeFileAtomic(file, "text");
    expect(await readFile(file, "utf8")).toBe("text");
    await writeFileAtomic(file, new Uint8Array([1, 2]));
    expect([...(await readFile(file))]).toEqual([1, 2]);
    const blocks = [new Uint8Array([1]), new Uint8Array(0), new Uint8Array([2, 3])];
    await writeFileAtomic(file, blocks);
    expect([...(await readFile(file))]).toEqual([1, 2, 3]);
    expect(await readdir(directory)).toEqual(["model.bin"]);
  });

  it("leaves the old file and nothing else where the content fails half-way", async () => {
    await writeFile(file, "old");
    function* content(): Generator<Uint8Array> {
      yield new Uint8Array(1000);
      throw new RangeError("half-way");
    }
    await expect(writeFileAtomic(file, content())).rejects.toThrow(RangeError);
    expect(await readFile(file, "utf8")).toBe("old");
    expect(await readdir(directory)).toEqual(["model.bin"]);
  });

  it("keeps links and permissions", async () => {
    await writeFile(file, "old");
    await chmod(file, 0o640);
    const link = path.join(directory, "link");
    await symlink(file, link);
    await writeFileAtomic(link, "new");
    expect(await readFile(file, "utf8")).toBe("new");
    expect((await stat(file)).mode & 0o777).toBe(0o640);
    expect(await readdir(directory)).toEqual(["link", "model.bin"]);
  });

  it("names a file that cannot be written", async () => {
    const nowhere = path.join(directory, "none", "model.bin");
    const error: unknown = await writeFileAtomic(nowhere, "x").catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toContain(`${nowhere}: cannot be written: ENOENT`);
    await expect(writeFileAtomic(directory, "x")).rejects.toThrow(CheckpointError);
  });

  it("leaves the old file whole when the process is killed in the middle of a save", async () => {
    const old = "old".repeat(1000);
    await writeFile(file, old);
    const script = `
      import { writeFileAtomic } from ${JSON.stringify(await compile())};
      import { setTimeout } from "node:timers/promises";
      async function* content() {
        for (let i = 0; ; i++) {
          yield new Uint8Array(65536).fill(120);
          if (i === 20) process.stdout.write("writing\\n");
          if (i > 20) await setTimeout(5);
        }
      }
      await writeFileAtomic(${JSON.stringify(file)}, content());`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [chunk] = (await once(child.stdout, "data")) as [Buffer];
    expect(chunk.toString()).toBe("writing\n");
    child.kill("SIGKILL");
    const [, signal] = (await once(child, "exit")) as [number | null, string];
    expect(signal).toBe("SIGKILL");
    expect(await readFile(file, "utf8")).toBe(old);
    // The save was under way: its temporary file is there, and has content.
    const left = (await readdir(directory)).filter((name) => name.endsWith(".tmp"));
    expect(left).toHaveLength(1);
    expect((await stat(path.join(directory, left[0]!))).size).toBeGreaterThan(65536);
    await writeFileAtomic(file, "new");
    expect(await readFile(file, "utf8")).toBe("new");
  });
});
