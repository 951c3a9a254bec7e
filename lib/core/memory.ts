// Memory statistics of a device and the `cuda` namespace.

import type { Device } from "../dtype.js";
import {
  cudaInfo,
  emptyCacheNative,
  memoryStatsNative,
  resetPeakMemoryStatsNative,
  synchronizeNative,
} from "../native.js";
import { cudaOrdinal } from "./device.js";
import { captureGraph, type CudaGraph, type GraphOptions } from "./graph.js";

/** Memory of a device, in bytes, with PyTorch's four statistics. */
export interface MemoryStatistics {
  /** Bytes in live tensors, rounded up to the allocator's blocks. */
  memoryAllocated(device?: Device): number;
  /** Peak of `memoryAllocated` since the start or {@link resetPeakMemoryStats}. */
  maxMemoryAllocated(device?: Device): number;
  /** Bytes held from the system, the cache included. */
  memoryReserved(device?: Device): number;
  /** Peak of `memoryReserved`. */
  maxMemoryReserved(device?: Device): number;
  /** Sets both peaks to the present use. */
  resetPeakMemoryStats(device?: Device): void;
  /** Gives cached memory back to the system; what tensors hold stays. */
  emptyCache(device?: Device): void;
  /** The statistics as text. */
  memorySummary(device?: Device): string;
}

const MEBIBYTE = 2 ** 20;

function summary(name: string, device: number): string {
  const { allocated, maxAllocated, reserved, maxReserved, tensors } = memoryStatsNative(device);
  const row = (title: string, now: number, peak: number): string =>
    `${title.padEnd(10)} ${(now / MEBIBYTE).toFixed(1).padStart(10)} MiB   ` +
    `peak ${(peak / MEBIBYTE).toFixed(1).padStart(10)} MiB`;
  return [
    `${name}: ${tensors} tensors on this thread`,
    row("allocated", allocated, maxAllocated),
    row("reserved", reserved, maxReserved),
  ].join("\n");
}

/** Statistics of the device that `codeOf` finds for the argument. */
function statistics(codeOf: (device: Device | undefined, op: string) => number): MemoryStatistics {
  return {
    memoryAllocated: (device) => memoryStatsNative(codeOf(device, "memoryAllocated")).allocated,
    maxMemoryAllocated: (device) =>
      memoryStatsNative(codeOf(device, "maxMemoryAllocated")).maxAllocated,
    memoryReserved: (device) => memoryStatsNative(codeOf(device, "memoryReserved")).reserved,
    maxMemoryReserved: (device) =>
      memoryStatsNative(codeOf(device, "maxMemoryReserved")).maxReserved,
    resetPeakMemoryStats: (device) => {
      resetPeakMemoryStatsNative(codeOf(device, "resetPeakMemoryStats"));
    },
    emptyCache: (device) => {
      emptyCacheNative(codeOf(device, "emptyCache"));
    },
    memorySummary: (device) => {
      const code = codeOf(device, "memorySummary");
      return summary(code < 0 ? "cpu" : `cuda:${code}`, code);
    },
  };
}

/** Memory of the CPU backend, counted as a CUDA device's is; and how many tensors this thread holds. */
export const memory: MemoryStatistics & { tensorCount(): number } = {
  ...statistics(() => -1),
  tensorCount: () => memoryStatsNative(-1).tensors,
};

/** Facts of a CUDA device. */
export interface DeviceProperties {
  readonly name: string;
  /** Compute capability, e.g. [9, 0]. */
  readonly capability: readonly [number, number];
  /** Bytes. */
  readonly totalMemory: number;
  readonly multiProcessorCount: number;
}

/** CUDA devices: what there is, and their memory. Without a device every query but the first three throws. */
export const cuda: MemoryStatistics & {
  isAvailable(): boolean;
  deviceCount(): number;
  isBf16Supported(device?: Device): boolean;
  deviceProperties(device?: Device): DeviceProperties;
  synchronize(device?: Device): void;
  /**
   * Captures the CUDA work of `fn` as a graph, which `replay()` does again with one launch, reading
   * and writing the same memory. See {@link CudaGraph}.
   */
  graph<T>(fn: () => T, options?: GraphOptions): CudaGraph<T>;
} = {
  ...statistics(cudaOrdinal),
  isAvailable: () => cudaInfo().devices.length > 0,
  deviceCount: () => cudaInfo().devices.length,
  isBf16Supported: (device) => {
    if (cudaInfo().devices.length === 0) return false;
    return cudaInfo().devices[cudaOrdinal(device, "isBf16Supported")]!.major >= 8;
  },
  deviceProperties: (device) => {
    const { name, major, minor, totalMemory, multiProcessorCount } =
      cudaInfo().devices[cudaOrdinal(device, "deviceProperties")]!;
    return { name, capability: [major, minor], totalMemory, multiProcessorCount };
  },
  synchronize: (device) => {
    synchronizeNative(cudaOrdinal(device, "synchronize"));
  },
  graph: captureGraph,
};
