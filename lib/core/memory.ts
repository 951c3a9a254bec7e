// Memory statistics of a device and the `cuda` namespace.

import type { Device } from "../dtype.js";
import { DeviceError } from "../errors.js";
import { emptyCacheNative, memoryStatsNative, resetPeakMemoryStatsNative } from "../native.js";

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

/** Memory of the CPU backend, counted as a CUDA device's is; and how many tensors this thread holds. */
export const memory: MemoryStatistics & { tensorCount(): number } = {
  memoryAllocated: () => memoryStatsNative(-1).allocated,
  maxMemoryAllocated: () => memoryStatsNative(-1).maxAllocated,
  memoryReserved: () => memoryStatsNative(-1).reserved,
  maxMemoryReserved: () => memoryStatsNative(-1).maxReserved,
  resetPeakMemoryStats: () => {
    resetPeakMemoryStatsNative(-1);
  },
  emptyCache: () => {
    emptyCacheNative(-1);
  },
  memorySummary: () => {
    const { allocated, maxAllocated, reserved, maxReserved, tensors } = memoryStatsNative(-1);
    const row = (name: string, now: number, peak: number): string =>
      `${name.padEnd(10)} ${(now / MEBIBYTE).toFixed(1).padStart(10)} MiB   ` +
      `peak ${(peak / MEBIBYTE).toFixed(1).padStart(10)} MiB`;
    return [
      `cpu: ${tensors} tensors on this thread`,
      row("allocated", allocated, maxAllocated),
      row("reserved", reserved, maxReserved),
    ].join("\n");
  },
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

function noDevice(op: string): never {
  throw new DeviceError(`${op}: no CUDA device is available, this build has no CUDA backend`, {
    op,
  });
}

/** CUDA devices: what there is, and their memory. Without a device every query but the first three throws. */
export const cuda: MemoryStatistics & {
  isAvailable(): boolean;
  deviceCount(): number;
  isBf16Supported(): boolean;
  deviceProperties(device?: Device): DeviceProperties;
  synchronize(device?: Device): void;
} = {
  isAvailable: () => false,
  deviceCount: () => 0,
  isBf16Supported: () => false,
  deviceProperties: () => noDevice("deviceProperties"),
  synchronize: () => noDevice("synchronize"),
  memoryAllocated: () => noDevice("memoryAllocated"),
  maxMemoryAllocated: () => noDevice("maxMemoryAllocated"),
  memoryReserved: () => noDevice("memoryReserved"),
  maxMemoryReserved: () => noDevice("maxMemoryReserved"),
  resetPeakMemoryStats: () => noDevice("resetPeakMemoryStats"),
  emptyCache: () => noDevice("emptyCache"),
  memorySummary: () => noDevice("memorySummary"),
};
