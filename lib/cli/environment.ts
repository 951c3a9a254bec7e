// On what a command runs, for `mixprec info` and for reports.

import { arch, availableParallelism, cpus, freemem, platform, release, totalmem } from "node:os";

import { cuda, memory } from "../core/memory.js";
import { getFloat32MatmulPrecision } from "../core/context.js";
import { getNumThreads, vocabulary } from "../native.js";
import { packageVersion } from "./version.js";

/** Versions, processor and devices; memory in bytes. */
export interface Environment {
  readonly mixprec: string;
  readonly node: string;
  readonly platform: string;
  readonly processor: string;
  readonly cores: number;
  /** Instruction set that the CPU kernels were chosen for. */
  readonly isa: string;
  readonly threads: number;
  readonly float32MatmulPrecision: string;
  readonly systemMemory: { readonly total: number; readonly free: number };
  /** What the CPU backend holds. */
  readonly allocated: number;
  readonly reserved: number;
  readonly cudaDevices: readonly CudaDevice[];
}

/** One CUDA device. */
export interface CudaDevice {
  readonly name: string;
  readonly computeCapability: string;
  readonly totalMemory: number;
}

function cudaDevices(): CudaDevice[] {
  if (!cuda.isAvailable()) return [];
  return Array.from({ length: cuda.deviceCount() }, (_, index) => {
    const { name, capability, totalMemory } = cuda.deviceProperties(`cuda:${index}`);
    return { name, computeCapability: capability.join("."), totalMemory };
  });
}

/** Reads the environment. */
export function readEnvironment(): Environment {
  return {
    mixprec: packageVersion(),
    node: process.versions.node,
    platform: `${platform()} ${release()} ${arch()}`,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    isa: vocabulary.isa,
    threads: getNumThreads(),
    float32MatmulPrecision: getFloat32MatmulPrecision(),
    systemMemory: { total: totalmem(), free: freemem() },
    allocated: memory.memoryAllocated(),
    reserved: memory.memoryReserved(),
    cudaDevices: cudaDevices(),
  };
}
