import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";

import { run } from "../../lib/cli/program.js";
import * as mp from "../../lib/index.js";
import { commitOf, HubServer, type ServedRepo } from "../helpers/hub-server.js";
import { elements } from "../helpers/golden.js";
import { liveTensors } from "../helpers/memory.js";
import { recordTerminal } from "../cli/terminal.js";

const { AutoModelForSequenceClassification } = mp;
const GOLDEN = fileURLToPath(new URL("../golden/bert/", import.meta.url));

let server: HubServer;
let directory: string;
beforeAll(async () => {
  server = await HubServer.start();
});
afterAll(() => server.stop());
beforeEach(async () => {
  server.reset();
  directory = await mkdtemp(path.join(tmpdir(), "mixprec-pretrained-"));
  for (const name of Object.keys(process.env)) {
    if (/^(HF_|HUGGING_?FACE|TRANSFORMERS_|XDG_CACHE)/.test(name)) vi.stubEnv(name, undefined);
  }
  vi.stubEnv("HF_ENDPOINT", server.endpoint);
  vi.stubEnv("HF_HOME", path.join(directory, "home"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(directory, { recursive: true, force: true });
});

async function failure<E extends Error>(
  promise: Promise<unknown>,
  type: new (...args: never[]) => E,
): Promise<E> {
  const error: unknown = await promise.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(type);
  return error as E;
}

/** The files of a directory as a repository. */
async function serve(from: string, besides: Record<string, string> = {}): Promise<ServedRepo> {
  const files: Record<string, Buffer | string> = { ...besides };
  for (const name of await readdir(from)) files[name] = await readFile(path.join(from, name));
  const large = Object.keys(files).filter((name) => name.endsWith(".safetensors"));
  const repo = { files, large };
  server.repos.set("org/tiny", repo);
  return repo;
}

const load = (source = "org/tiny", options: mp.PretrainedOptions = {}) =>
  AutoModelForSequenceClassification.fromPretrained(source, options);

const ids = mp.tensor([[3, 7, 5]], { dtype: "int64" });
const logits = (model: mp.AnySequenceClassifier): number[] => elements(model.forward(ids).logits);

describe("fromPretrained with a name on the hub", () => {
  it("loads as from a directory, and later without the hub", async () => {
    const repo = await serve(GOLDEN, {
      "vocab.txt": "[PAD]",
      "pytorch_model.bin": "PK",
      "x.md": "",
    });
    const model = await load();
    expect(logits(model)).toEqual(logits(await load(GOLDEN)));
    const { source, directory: place, commit, notice } = model.loadReport!;
    expect([source, commit, notice]).toEqual(["org/tiny", commitOf(repo), null]);
    expect((await readdir(place)).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "vocab.txt",
    ]);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    const asked = server.requests.length;
    expect(logits(await load())).toEqual(logits(model));
    expect(server.requests).toHaveLength(asked);
    vi.stubEnv("HF_HUB_OFFLINE", undefined);
    const away = await load("org/tiny", { endpoint: "http://127.0.0.1:9" });
    expect(away.loadReport!.notice).toMatch(/the cached org\/tiny is used: .*no connection/);
    const files = await mp.resolvePretrained("org/tiny");
    expect(files).toEqual({ directory: place, commit, notice: null });
  });

  it("loads several files with an index, and passes tokenizer files on", async () => {
    const parts = path.join(directory, "parts");
    const whole = await load(GOLDEN);
    await whole.savePretrained(parts, { maxShardSize: 3000 });
    await serve(parts, { "tokenizer.json": "{}" });
    const model = await load();
    expect(logits(model)).toEqual(logits(whole));
    const out = path.join(directory, "out");
    const names = await model.saveAs(out, { tokenizer: model.loadReport!.directory });
    expect(names).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  });

  it("refuses an index that names files outside", async () => {
    const files = {
      "config.json": await readFile(path.join(GOLDEN, "config.json")),
      "model.safetensors.index.json": '{"weight_map":{"a":"../../refs/main"}}',
    };
    server.repos.set("org/tiny", { files });
    const error = await failure(load(), mp.CheckpointError);
    expect(error.message).toMatch(/expected a file name, got "\.\.\/\.\.\/refs\/main"/);
    const outside = { ...files, "model.safetensors.index.json": '{"weight_map":{"a":"/etc/x"}}' };
    for (const [name, content] of Object.entries(outside)) {
      await writeFile(path.join(directory, name), content);
    }
    expect((await failure(load(directory), mp.CheckpointError)).message).toMatch(/got "\/etc\/x"/);
  });

  it("says what is wrong: the name, the token, the network", async () => {
    const missing = await failure(load("org/none"), mp.HubError);
    expect(missing.code).toBe("ERR_HUB_REPO_NOT_FOUND");
    expect(missing.message).toMatch(/^org\/none: no such directory, and from the hub: .*HF_TOKEN/);
    server.repos.set("org/tiny", { files: { "x.md": "" } });
    expect((await failure(load(), mp.HubError)).message).toMatch(/no file config.json/);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect((await failure(load(), mp.HubError)).code).toBe("ERR_HUB_OFFLINE");
  });

  it("offline names the weights that the cache lacks", async () => {
    await serve(GOLDEN);
    const repo = await mp.hub.openRepo("org/tiny");
    await repo.get("config.json");
    const error = await failure(load("org/tiny", { offline: true }), mp.HubError);
    expect(error.message).toMatch(/model.safetensors is not in the cache/);
  });

  it("takes the revision, the token and the cache directory", async () => {
    const repo = await serve(GOLDEN);
    server.repos.set("org/tiny", { ...repo, token: "good", revisions: ["v2"] });
    const cacheDir = path.join(directory, "cache");
    const model = await load("org/tiny", { token: "good", revision: "v2", cacheDir });
    expect(await readdir(path.join(cacheDir, "models--org--tiny", "refs"))).toEqual(["v2"]);
    expect(model.loadReport!.directory.startsWith(cacheDir)).toBe(true);
    await expect(load("org/tiny", { repoType: "dataset" } as object)).rejects.toThrow(/no option/);
  });

  it("leaves no tensor behind where it fails", async () => {
    const repo = await serve(GOLDEN);
    const weights = Buffer.from(repo.files["model.safetensors"]!).subarray(0, -4);
    server.repos.set("org/tiny", {
      ...repo,
      files: { ...repo.files, "model.safetensors": weights },
    });
    const before = await liveTensors();
    await failure(load(), mp.CheckpointError);
    expect(mp.memory.tensorCount()).toBe(before);
  });
});

describe("memory while loading", () => {
  it.each<[string, mp.SaveOptions]>([
    ["one file", {}],
    ["several", { maxShardSize: "4MB" }],
  ])("is the model and a little, from %s", async (_, options) => {
    const sizes = { vocabSize: 20_000, dim: 256, nLayers: 1, nHeads: 4, hiddenDim: 512 };
    const made = new mp.DistilBertForSequenceClassification(sizes, {
      dtype: "float32",
      device: "cpu",
    });
    await made.savePretrained(directory, options);
    const bytes = made.parameters().reduce((sum, { numel }) => sum + 4 * numel, 0);
    made.dispose();
    for (const dtype of ["float32", "bfloat16"] as const) {
      await liveTensors();
      mp.memory.emptyCache();
      const before = mp.memory.memoryAllocated();
      mp.memory.resetPeakMemoryStats();
      const model = await load(directory, { dtype, device: "cpu" });
      const peak = mp.memory.maxMemoryAllocated() - before;
      // The largest tensor alone is four fifths of the model, and two pieces of 2 MiB a sixth.
      const own = dtype === "float32" ? bytes : bytes / 2;
      expect(peak).toBeGreaterThanOrEqual(own);
      expect(peak).toBeLessThan(own + 3 * 2 ** 21);
      model.dispose();
    }
  });
});

describe("PyTorch's files", () => {
  const zip = Buffer.concat([
    Buffer.from("PK\u0003\u0004\u0000\u0000\u0008\u0008"),
    Buffer.alloc(64),
  ]);
  const pickle = Buffer.concat([
    Buffer.from([0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46]),
    Buffer.alloc(64),
  ]);

  it.each(["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])(
    "are refused in a directory, and the error says how to convert: %s",
    async (name) => {
      await cp(path.join(GOLDEN, "config.json"), path.join(directory, "config.json"));
      await writeFile(path.join(directory, name), zip);
      const { message } = await failure(load(directory), mp.CheckpointError);
      expect(message).toContain(`${name} is not read, since such files can run code`);
      expect(message).toContain(`M.from_pretrained('${directory}').save_pretrained('OUT')`);
    },
  );

  it("are refused on the hub, and not downloaded", async () => {
    const config = await readFile(path.join(GOLDEN, "config.json"));
    const files = { "config.json": config, "pytorch_model.bin": zip, "training_args.bin": zip };
    server.repos.set("org/tiny", { files });
    const { message } = await failure(load(), mp.CheckpointError);
    expect(message).toMatch(/org\/tiny: has neither model.safetensors .*pytorch_model.bin is not/);
    expect(server.count(/\.bin/)).toBe(0);
  });

  it("are refused by themselves, whatever they are called", async () => {
    const file = path.join(directory, "model.bin");
    await writeFile(file, zip);
    expect((await failure(load(file), mp.CheckpointError)).message).toMatch(
      /model.bin is not read/,
    );
    for (const bytes of [zip, pickle]) {
      const named = path.join(directory, "model.safetensors");
      await writeFile(named, bytes);
      const { message } = await failure(mp.loadSafetensors(named), mp.CheckpointError);
      expect(message).toMatch(/is a PyTorch file, which can run code.*safetensors.torch/);
    }
  });
});

describe("a source that is nothing", () => {
  it.each(["/nowhere/at/all", "./nowhere", "a/b/c", ""])("%j: an error at once", async (name) => {
    const { message } = await failure(load(name), mp.CheckpointError);
    expect(message).toMatch(/no such directory|expected a directory/);
    expect(server.requests).toEqual([]);
  });
});

describe("mixprec finetune --model", () => {
  it("starts from a model on the hub, says so, and saves what loads again", async () => {
    const rows = Array.from(
      { length: 24 },
      (_, i) => `${i % 2 ? "good" : "bad"} film ${i},${i % 2}`,
    );
    const data = path.join(directory, "data.csv");
    await writeFile(data, `text,label\n${rows.join("\n")}\n`);
    const common = ["--data", data, "--epochs", "1", "--batch-size", "8", "--max-length", "8"];
    const first = path.join(directory, "first");
    const built = recordTerminal();
    expect(await run(["finetune", ...common, "--out", first], built)).toBe(0);
    // A RoBERTa of the same tokens, as a model before fine-tuning.
    const { vocabSize } = (await load(first)).config;
    const sizes = { hiddenSize: 8, numHiddenLayers: 1, numAttentionHeads: 2, intermediateSize: 8 };
    const body = new mp.RobertaForSequenceClassification({ ...sizes, vocabSize, padTokenId: 0 });
    const base = path.join(directory, "base");
    await body.savePretrained(base, { tokenizer: first });
    const repo = await serve(base);
    server.repos.set("org/tiny", { ...repo, revisions: ["v1"] });
    const out = path.join(directory, "second");
    const terminal = recordTerminal();
    const args = ["--model", "org/tiny", "--revision", "v1", "--out", out];
    const code = await run(["finetune", ...common, ...args], terminal);
    expect(terminal.stderr.text).toBe("");
    expect(code).toBe(0);
    expect(terminal.stdout.text).toMatch(/^fetch {3}model.safetensors, \d+\.\d kB$/m);
    expect(terminal.stdout.text).toMatch(/^model {3}org\/tiny: RoBERTa, /m);
    expect(terminal.stdout.text).toContain(`from the hub, commit ${commitOf(repo)}`);
    const saved = await load(out);
    expect(saved).toBeInstanceOf(mp.RobertaForSequenceClassification);
    expect(saved.config.labelNames).toEqual(["0", "1"]);
    const none = recordTerminal();
    expect(await run(["finetune", ...common, "--model", "org/none"], none)).toBe(1);
    expect(none.stderr.text).toMatch(
      /^mixprec: org\/none: no such directory, and from the hub: [^\n]*\n$/,
    );
  });
});
