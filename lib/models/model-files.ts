// Where the files of a model are: in a directory, or in a repository on the hub, from where they
// come into the cache. Only files that hold data are read: never one that can run code.

import { readdir, stat } from "node:fs/promises";
import path from "node:path";

import { CheckpointError, HubError, type HubErrorCode } from "../errors.js";
import { isRepoName, openRepo, shardsOf, type HubOptions } from "../io/index.js";
import { TOKENIZER_FILES } from "./save-pretrained.js";

/** The directory of a model, and where it came from. */
export interface ModelFiles {
  readonly directory: string;
  /** The commit of a repository on the hub; null for a directory. */
  readonly commit: string | null;
  /** Why the hub could not be asked and the cache had to do; else null. */
  readonly notice: string | null;
}

const OP = "fromPretrained";
const CONFIG = "config.json";
const WEIGHTS = ["model.safetensors", "model.safetensors.index.json"] as const;

function fail(place: string, what: string): never {
  throw new CheckpointError(`${place}: ${what}`, { op: OP });
}

/** Whether a file is of a kind that can run code when it is read, or that nobody here reads. */
function isForeign(name: string): boolean {
  return /\.(bin|pt|pth|ckpt|pkl|pickle|h5|msgpack)$/.test(name);
}

/** Says that weights are missing, and how to convert those that are there. */
function failWeights(place: string, present: readonly string[]): never {
  const foreign = present.filter(
    (name) => isForeign(name) && !/^(training_args|optimizer|scheduler|rng_state)/.test(name),
  );
  const hint =
    foreign.length === 0
      ? ""
      : `; ${foreign[0]!} is not read, since such files can run code when they are. Convert it: ` +
        `python3 -c "from transformers import AutoModelForSequenceClassification as M; ` +
        `M.from_pretrained('${place}').save_pretrained('OUT')", and load OUT`;
  return fail(place, `has neither model.safetensors nor an index of such files${hint}`);
}

/**
 * The file of a model directory that holds the weights, or their index.
 * @throws CheckpointError that says how to convert, where there are only others.
 */
export async function findWeights(directory: string): Promise<string> {
  const present = await readdir(directory);
  const found = WEIGHTS.find((name) => present.includes(name));
  return found === undefined ? failWeights(directory, present) : path.join(directory, found);
}

async function download(source: string, options: HubOptions): Promise<ModelFiles> {
  const repo = await openRepo(source, options);
  await repo.get(CONFIG);
  const weights = WEIGHTS.find((name) => repo.has(name));
  if (weights === undefined) {
    // Where the cache alone was asked, that is what it lacks.
    if (repo.isPartial) await repo.get(WEIGHTS[0]);
    return failWeights(source, repo.files);
  }
  const file = await repo.get(weights);
  if (weights === WEIGHTS[1]) {
    for (const shard of await shardsOf(file)) await repo.get(shard);
  }
  for (const name of TOKENIZER_FILES) if (repo.has(name)) await repo.get(name);
  const { directory, commit, notice } = repo;
  return { directory, commit, notice };
}

/**
 * Finds a model: a directory, or `owner/name` (or `name`) on the hub, whose config.json, weights
 * and tokenizer files are downloaded where the cache lacks them.
 * @throws CheckpointError for what is neither, or has no weights that can be read; HubError where
 * the hub refuses.
 */
export async function resolvePretrained(
  source: string,
  options: HubOptions = {},
): Promise<ModelFiles> {
  if (typeof source !== "string" || source === "") {
    fail("fromPretrained", `expected a directory or a name on the hub, got ${String(source)}`);
  }
  const found = await stat(source).catch(() => null);
  if (found?.isDirectory() === true) return { directory: source, commit: null, notice: null };
  if (found !== null) {
    if (isForeign(source)) failWeights(source, [path.basename(source)]);
    fail(source, "not a directory; expected one with config.json and model.safetensors");
  }
  if (!isRepoName(source)) fail(source, "no such directory");
  try {
    return await download(source, options);
  } catch (cause) {
    if (!(cause instanceof HubError)) throw cause;
    const message = `${source}: no such directory, and from the hub: ${cause.message}`;
    throw new HubError(cause.code as HubErrorCode, message, { op: OP, cause });
  }
}
