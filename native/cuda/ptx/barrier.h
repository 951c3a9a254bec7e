// Barriers of a block (PTX ISA 9.7.13.1 barrier.cta) and fences (9.7.13.4 membar). Barrier 0 is
// that of sync_threads; the other fifteen are for parts of a block, whose size is a multiple of 32.
#pragma once

#include "kernel.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

inline void sync_threads() { emulator::machine().arrive(0, 0, 0, true); }
// How many threads of the block passed true; a barrier, too.
inline int sync_threads_count(bool predicate) {
  return static_cast<int>(emulator::machine().arrive(0, 0, predicate ? 1 : 0, true));
}
inline bool sync_threads_or(bool predicate) { return sync_threads_count(predicate) != 0; }

inline void named_barrier_sync(int barrier, int threads) {
  emulator::machine().arrive(static_cast<uint32_t>(barrier), static_cast<uint32_t>(threads), 0,
                             true);
}
inline void named_barrier_arrive(int barrier, int threads) {
  emulator::machine().arrive(static_cast<uint32_t>(barrier), static_cast<uint32_t>(threads), 0,
                             false);
}

inline void fence_block() {}
inline void fence_device() {}
inline void fence_system() {}
// Between two looks at memory that another thread writes: lets that thread run.
inline void poll_pause() { emulator::machine().poll(); }

#else

MIXPREC_DEVICE void sync_threads() { __syncthreads(); }
MIXPREC_DEVICE int sync_threads_count(bool predicate) { return __syncthreads_count(predicate); }
MIXPREC_DEVICE bool sync_threads_or(bool predicate) { return __syncthreads_or(predicate) != 0; }

MIXPREC_DEVICE void named_barrier_sync(int barrier, int threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
MIXPREC_DEVICE void named_barrier_arrive(int barrier, int threads) {
  asm volatile("barrier.cta.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

MIXPREC_DEVICE void fence_block() { __threadfence_block(); }
MIXPREC_DEVICE void fence_device() { __threadfence(); }
MIXPREC_DEVICE void fence_system() { __threadfence_system(); }
MIXPREC_DEVICE void poll_pause() { __nanosleep(20); }

#endif

}  // namespace mixprec::cuda::ptx
