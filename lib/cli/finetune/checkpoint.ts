// The checkpoint of a run: all that decides what its next step gives, and the options that it was
// started with, in one file of its --out directory, which is replaced as a whole.

import { createHash } from "node:crypto";
import { rm, stat } from "node:fs/promises";
import path from "node:path";

import type { GradScalerState } from "../../amp/index.js";
import { Tensor } from "../../core/tensor.js";
import { SPLIT_NAMES, type DataLoaderState } from "../../data/index.js";
import { CheckpointError, describe } from "../../errors.js";
import { loadCheckpoint, saveCheckpoint, type CheckpointValue } from "../../io/index.js";
import type { StateDict } from "../../nn/index.js";
import type { AdamW, LRSchedulerState } from "../../optim/index.js";
import { UsageError } from "../usage.js";
import type { BestState } from "./best.js";
import type { EncodedData } from "./dataset.js";
import type { FinetuneOptions } from "./options.js";
import type { EpochResult } from "./result.js";

/** The name of the file in --out. */
export const CHECKPOINT_FILE = "checkpoint.safetensors";

const FORMAT = "mixprec-finetune-run-1";

/** What an epoch has shown so far. */
export interface EpochTally {
  readonly steps: number;
  readonly samples: number;
  /** Right answers, of the logits that training computed. */
  readonly right: number;
  /** Sum over the steps. */
  readonly loss: number;
  /** Training alone. */
  readonly seconds: number;
}

/** What a run has shown so far; plain data. */
export interface RunRecord {
  readonly losses: readonly number[];
  readonly scales: readonly number[];
  readonly epochs: readonly EpochResult[];
  /** Of the epoch that is under way. */
  readonly tally: EpochTally;
  readonly seconds: number;
  readonly samples: number;
  readonly skippedSteps: number;
  readonly peakMemoryBytes: number;
}

/** A run between two steps. */
export interface TrainingState {
  readonly record: RunRecord;
  /** The place in the data. */
  readonly place: DataLoaderState;
  readonly random: { readonly seed: number; readonly offset: number };
  readonly model: StateDict;
  /** The evaluations, and the best weights. */
  readonly best: BestState;
  readonly optimizer: ReturnType<AdamW["stateDict"]>;
  readonly scheduler: LRSchedulerState;
  /** Null for a precision without a loss scaler. */
  readonly scaler: GradScalerState | Record<string, never> | null;
}

/** A run that can be gone on with. */
export interface SavedRun {
  readonly file: string;
  readonly options: FinetuneOptions;
  /** See {@link fingerprintOf}. */
  readonly data: string;
  readonly state: TrainingState;
}

/**
 * A digest of the classes and of the length of every text, in order: data of another digest is other
 * data.
 */
export function fingerprintOf(data: EncodedData, classes: readonly string[]): string {
  const hash = createHash("sha256").update(JSON.stringify(classes));
  for (const name of SPLIT_NAMES) {
    const { lengths } = data[name];
    hash.update(`${name} ${lengths.length}`).update(Int32Array.from(lengths));
  }
  return hash.digest("hex");
}

/** Frees the tensors of a state that was loaded. */
export function releaseState(value: unknown): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map || Array.isArray(value)) value.forEach(releaseState);
  else if (typeof value === "object" && value !== null) Object.values(value).forEach(releaseState);
}

/**
 * Writes the checkpoint of a run to its directory, whole or not at all.
 * @throws CheckpointError where it cannot be written.
 */
export async function saveRun(directory: string, run: Omit<SavedRun, "file">): Promise<void> {
  const { options, data, state } = run;
  const content = { format: FORMAT, options, data, state };
  const file = path.join(directory, CHECKPOINT_FILE);
  await saveCheckpoint(file, content as unknown as CheckpointValue);
}

/** Removes the checkpoint of a run that is complete. */
export async function removeRun(directory: string): Promise<void> {
  await rm(path.join(directory, CHECKPOINT_FILE), { force: true });
}

/**
 * Reads the checkpoint of a run; its tensors are on the CPU.
 * @throws UsageError where there is none, CheckpointError where it is damaged or something else.
 */
export async function openRun(directory: string): Promise<SavedRun> {
  const file = path.join(directory, CHECKPOINT_FILE);
  if ((await stat(file).catch(() => null)) === null) {
    throw new UsageError(
      `--resume ${directory}: expected the --out directory of a run that was stopped, it has no ` +
        CHECKPOINT_FILE,
    );
  }
  const content: unknown = await loadCheckpoint(file);
  const { format, options, data, state } = (content ?? {}) as Partial<SavedRun> & {
    format?: unknown;
  };
  if (format !== FORMAT || options === undefined || data === undefined || state === undefined) {
    throw new CheckpointError(
      `finetune: ${file}: holds no run of this command — expected ${FORMAT}, got ` +
        describe(format),
      { op: "finetune" },
    );
  }
  return { file, options, data, state };
}
