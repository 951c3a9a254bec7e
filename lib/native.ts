// The only place that loads the addon, and the only place that writes the command buffer through
// which calls cross into it (native/binding/addon.cc describes its layout).

import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import type { DType } from "./dtype.js";
import { dtypeCode } from "./dtype.js";
import {
  ArgumentError,
  describe,
  DeviceError,
  DTypeError,
  MixprecError,
  NativeError,
  OutOfMemoryError,
  ShapeError,
} from "./errors.js";
import { NATIVE_OPS } from "./op-names.js";
import type { Shape } from "./shape.js";

interface Vocabulary {
  readonly ops: readonly string[];
  readonly unary: readonly string[];
  readonly unaryGrad: readonly string[];
  readonly binary: readonly string[];
  readonly compare: readonly string[];
  readonly isa: string;
}

interface Addon {
  run(): void;
  view(): void;
  fromBytes(bytes: Uint8Array): void;
  toBytes(handle: number): ArrayBuffer;
  item(handle: number): number;
  release(handle: number): void;
  attach(owner: object, handle: number): void;
  commandBuffer(doubles: number): ArrayBuffer;
  memoryStats(): void;
  resetPeakMemoryStats(): void;
  emptyCache(): void;
  vocabulary(): Vocabulary;
  toBytesAsync(handle: number): Promise<ArrayBuffer>;
  toDevice(): void;
  synchronize(): void;
  cudaDevices(): CudaInfo;
  beginCapture(): void;
  endCapture(): NativeGraph;
  abandonCapture(): void;
  replayGraph(graph: NativeGraph): void;
  destroyGraph(graph: NativeGraph): void;
  setNumThreads(count: number): void;
  numThreads(): number;
}

declare const nativeGraph: unique symbol;
/** The addon's side of a captured graph, which the collector destroys where nobody else did. */
export interface NativeGraph {
  readonly [nativeGraph]: true;
}

/** What the addon knows of a CUDA device. */
export interface NativeDeviceProperties {
  readonly name: string;
  /** Compute capability. */
  readonly major: number;
  readonly minor: number;
  readonly totalMemory: number;
  readonly multiProcessorCount: number;
}

/** How the build and the machine stand to CUDA. */
export interface CudaInfo {
  /** What the addon was built with; `emulated` is for tests, no figure of it is a GPU's. */
  readonly build: "none" | "cuda" | "emulated";
  /** Why there are no devices, where there are none. */
  readonly reason: string;
  readonly devices: readonly NativeDeviceProperties[];
}

function loadAddon(): Addon {
  const require = createRequire(import.meta.url);
  const root = fileURLToPath(new URL("..", import.meta.url));
  // Another build of the addon: how tests choose the emulated one.
  const chosen = process.env.MIXPREC_ADDON;
  try {
    if (chosen) return require(resolve(chosen)) as Addon;
    const load = require("node-gyp-build") as (directory: string) => Addon;
    return load(root);
  } catch (cause) {
    throw new NativeError(
      `mixprec: the native addon could not be loaded on ${process.platform}-${process.arch}, ` +
        `Node ${process.versions.node}. Looked for ` +
        (chosen ? `MIXPREC_ADDON=${chosen}. ` : `prebuilds/ and build/Release/ in ${root}. `) +
        `Build it with "npm run build:native" there; that needs CMake and a C++20 compiler.\n` +
        String(cause instanceof Error ? cause.message : cause),
      { cause },
    );
  }
}

const addon = loadAddon();

/** The names the addon was built with, by list; a position is a code. */
export const vocabulary = addon.vocabulary();

if (vocabulary.ops.join() !== NATIVE_OPS.join()) {
  throw new NativeError(
    `mixprec: the native addon is of another version than the JavaScript around it. ` +
      `Rebuild it with "npm run build:native".`,
  );
}

let foundCuda: CudaInfo | undefined;

/** CUDA devices, looked for at the first call. */
export function cudaInfo(): CudaInfo {
  return (foundCuda ??= addon.cudaDevices());
}

let command = new Float64Array(addon.commandBuffer(0));

function reserveCommand(doubles: number): void {
  if (doubles > command.length) command = new Float64Array(addon.commandBuffer(doubles * 2));
}

const ERROR_CLASSES: Record<string, new (message: string, options?: object) => MixprecError> = {
  ERR_SHAPE: ShapeError,
  ERR_DTYPE: DTypeError,
  ERR_DEVICE: DeviceError,
  ERR_OUT_OF_MEMORY: OutOfMemoryError,
  ERR_ARGUMENT: ArgumentError,
};

function typedError(cause: unknown, op: string | undefined): unknown {
  if (!(cause instanceof Error)) return cause;
  const code = (cause as { code?: unknown }).code;
  const ErrorClass = (typeof code === "string" ? ERROR_CLASSES[code] : null) ?? NativeError;
  const message = op === undefined ? cause.message : `${op}: ${cause.message}`;
  return new ErrorClass(message, { op, cause });
}

/** What the versions of all tensors over one storage have in common. */
export interface StorageState {
  /** Counts the writes in place, so that backward can tell a changed saved tensor. */
  version: number;
  /** How many handles are over the storage: itself and its views. */
  handles: number;
}

function newStorage(): StorageState {
  return { version: 0, handles: 0 };
}

/**
 * Ownership of one native tensor, shared by the JavaScript tensors and saved tensors that refer to
 * it. Released when the last reference goes, or by the garbage collector.
 */
export class Handle {
  id: number;
  readonly storage: StorageState;
  private references = 1;

  constructor(id: number, storage: StorageState) {
    this.id = id;
    this.storage = storage;
    storage.handles++;
    addon.attach(this, id);
  }

  retain(): this {
    this.references++;
    return this;
  }

  /** Whether nothing else refers to the memory. */
  get isSoleOwner(): boolean {
    return this.references === 1 && this.storage.handles === 1;
  }

  release(): void {
    if (--this.references > 0 || this.id < 0) return;
    this.storage.handles--;
    addon.release(this.id);
    this.id = -1;
  }
}

/** Anything that owns a handle. */
export interface HandleOwner {
  readonly handle: Handle;
}

function writeHeader(
  op: number,
  device: number,
  inputs: readonly HandleOwner[],
  outputs: number,
  attrs: number,
): number {
  command[0] = op;
  command[1] = inputs.length;
  command[2] = outputs;
  command[3] = attrs;
  command[4] = device;
  let at = 5;
  for (let i = 0; i < inputs.length; i++) command[at++] = inputs[i]!.handle.id;
  return at;
}

function writeShape(at: number, dtype: DType, shape: Shape): number {
  command[at++] = dtypeCode(dtype);
  command[at++] = shape.length;
  for (let dim = 0; dim < shape.length; dim++) command[at++] = shape[dim]!;
  return at;
}

function isOutOfMemory(cause: unknown): boolean {
  return (cause as { code?: unknown } | null)?.code === "ERR_OUT_OF_MEMORY";
}

let collectGarbage: (() => void) | undefined;

/** Frees the tensors that nobody refers to any more. */
function collect(): void {
  if (collectGarbage === undefined) {
    setFlagsFromString("--expose-gc");
    collectGarbage = runInNewContext("gc") as () => void;
  }
  collectGarbage();
}

/**
 * Calls the addon, and where there is no memory once more after garbage was collected. Ops that write
 * to their inputs allocate before they do, so that they can be called again, too. The backend has
 * given its cache back by then.
 */
function invoke<T>(name: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    if (!isOutOfMemory(cause)) throw typedError(cause, name);
    collect();
    try {
      return call();
    } catch (again) {
      throw typedError(again, name);
    }
  }
}

const runCommand = (): void => {
  addon.run();
};

/** Runs an op with one output. `device` is -1 for the CPU, else the CUDA ordinal. */
export function runNative(
  name: string,
  op: number,
  device: number,
  inputs: readonly HandleOwner[],
  dtype: DType,
  shape: Shape,
  attrs: readonly number[],
): Handle {
  if (inputs.length + attrs.length + 32 > command.length) {
    reserveCommand(inputs.length + attrs.length + 32);
  }
  let at = writeHeader(op, device, inputs, 1, attrs.length);
  at = writeShape(at, dtype, shape);
  for (let i = 0; i < attrs.length; i++) command[at++] = attrs[i]!;
  invoke(name, runCommand);
  return new Handle(command[0]!, newStorage());
}

/** Runs an op with any number of outputs (none: it writes to its inputs). */
export function runNativeMany(
  name: string,
  op: number,
  device: number,
  inputs: readonly HandleOwner[],
  outputs: readonly { readonly dtype: DType; readonly shape: Shape }[],
  attrs: readonly number[],
): Handle[] {
  const doubles = inputs.length + outputs.length * 16 + attrs.length + 32;
  if (doubles > command.length) reserveCommand(doubles);
  let at = writeHeader(op, device, inputs, outputs.length, attrs.length);
  for (let i = 0; i < outputs.length; i++) {
    at = writeShape(at, outputs[i]!.dtype, outputs[i]!.shape);
  }
  for (let i = 0; i < attrs.length; i++) command[at++] = attrs[i]!;
  invoke(name, runCommand);
  const handles: Handle[] = [];
  for (let i = 0; i < outputs.length; i++) handles.push(new Handle(command[i]!, newStorage()));
  return handles;
}

/** A view of the same storage; `offset` counts elements from the first one of `base`. */
export function viewNative(
  base: Handle,
  offset: number,
  shape: Shape,
  strides: readonly number[],
): Handle {
  command[0] = base.id;
  command[1] = offset;
  command[2] = shape.length;
  let at = 3;
  for (let dim = 0; dim < shape.length; dim++) command[at++] = shape[dim]!;
  for (let dim = 0; dim < shape.length; dim++) command[at++] = strides[dim]!;
  try {
    addon.view();
  } catch (cause) {
    throw typedError(cause, "view");
  }
  return new Handle(command[0], base.storage);
}

/** A tensor filled with `bytes` (little-endian elements, row-major). */
export function fromBytesNative(
  bytes: Uint8Array,
  device: number,
  dtype: DType,
  shape: Shape,
): Handle {
  command[0] = device;
  writeShape(1, dtype, shape);
  invoke("tensor", () => {
    addon.fromBytes(bytes);
  });
  return new Handle(command[0], newStorage());
}

/** A copy of the elements of a contiguous tensor. */
export function toBytesNative(handle: Handle): ArrayBuffer {
  return invoke("data", () => addon.toBytes(handle.id));
}

/** As {@link toBytesNative}, without waiting for the device: the elements as they are now. */
export async function toBytesAsyncNative(handle: Handle): Promise<ArrayBuffer> {
  try {
    return await invoke("data", () => addon.toBytesAsync(handle.id));
  } catch (cause) {
    if (cause instanceof MixprecError) throw cause;
    throw typedError(cause, "data");
  }
}

/** A copy of a contiguous tensor on another device. */
export function toDeviceNative(handle: Handle, device: number): Handle {
  command[0] = handle.id;
  command[1] = device;
  invoke("to", () => {
    addon.toDevice();
  });
  return new Handle(command[0], newStorage());
}

/** The first element as a number. */
export function itemNative(handle: Handle): number {
  try {
    return addon.item(handle.id);
  } catch (cause) {
    throw typedError(cause, "item");
  }
}

/** Memory of a device in bytes, and how many native tensors this thread holds. */
export interface NativeMemoryStats {
  readonly allocated: number;
  readonly maxAllocated: number;
  readonly reserved: number;
  readonly maxReserved: number;
  readonly tensors: number;
  /** How often this process has waited for a device. */
  readonly waits: number;
}

function onDevice<T>(name: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw typedError(cause, name);
  }
}

/** Reads a device's memory statistics. */
export function memoryStatsNative(device: number): NativeMemoryStats {
  command[0] = device;
  onDevice("memoryStats", () => {
    addon.memoryStats();
  });
  const [allocated, maxAllocated, reserved, maxReserved, tensors, waits] = command;
  return {
    allocated: allocated!,
    maxAllocated: maxAllocated!,
    reserved: reserved!,
    maxReserved: maxReserved!,
    tensors: tensors!,
    waits: waits!,
  };
}

/** Sets a device's peaks to its present use. */
export function resetPeakMemoryStatsNative(device: number): void {
  command[0] = device;
  onDevice("resetPeakMemoryStats", () => {
    addon.resetPeakMemoryStats();
  });
}

/** Gives a device's cached memory back to the system. */
export function emptyCacheNative(device: number): void {
  command[0] = device;
  onDevice("emptyCache", () => {
    addon.emptyCache();
  });
}

/** Waits for all work of a device. */
export function synchronizeNative(device: number): void {
  command[0] = device;
  onDevice("synchronize", () => {
    addon.synchronize();
  });
}

/** Captures what `fn` queues on a device, instead of doing it. */
export function captureNative<T>(device: number, fn: () => T): { result: T; graph: NativeGraph } {
  command[0] = device;
  onDevice("graph", () => {
    addon.beginCapture();
  });
  let result: T;
  try {
    result = fn();
  } catch (error) {
    command[0] = device;
    addon.abandonCapture();
    throw error;
  }
  command[0] = device;
  return { result, graph: onDevice("graph", () => addon.endCapture()) };
}

/** Queues the work of a graph once more. */
export function replayNative(graph: NativeGraph): void {
  onDevice("replay", () => {
    addon.replayGraph(graph);
  });
}

/** Destroys a graph and gives its memory back. */
export function destroyGraphNative(graph: NativeGraph): void {
  addon.destroyGraph(graph);
}

/**
 * Sets how many threads the CPU backend computes with, the calling thread included. Results do not
 * depend on it.
 * @throws ArgumentError unless `count` is a whole number from 1 to 1024.
 */
export function setNumThreads(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > 1024) {
    throw new ArgumentError(
      `setNumThreads: expected a whole number from 1 to 1024, got ${describe(count)}`,
      { op: "setNumThreads" },
    );
  }
  addon.setNumThreads(count);
}

/** How many threads the CPU backend computes with. */
export function getNumThreads(): number {
  return addon.numThreads();
}
