// Asynchronous copies of 4, 8 or 16 bytes from global to shared memory (PTX ISA 9.7.9.25.3
// cp.async, cp.async.commit_group, cp.async.wait_group; sm_80). A thread waits for its own copies;
// a barrier after the wait makes them visible to the block.
#pragma once

#include "shared.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

template <int kBytes>
void cp_async(uint32_t to, const void* from) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  emulator::machine().copies().start_async(to, from, kBytes, kBytes);
}
// Reads only the first `source_bytes`, and writes zeros for the rest.
template <int kBytes>
void cp_async_zero_fill(uint32_t to, const void* from, int source_bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  emulator::machine().copies().start_async(to, from, kBytes, static_cast<uint32_t>(source_bytes));
}
inline void cp_async_commit_group() { emulator::machine().copies().commit_async(); }
// Until at most kPending of the thread's groups are under way.
template <int kPending>
void cp_async_wait_group() {
  emulator::machine().copies().wait_async(kPending);
}
// For all copies of the thread, committed or not.
inline void cp_async_wait_all() { emulator::machine().copies().wait_all_async(); }
// An arrival at the mbarrier once the thread's copies until here have landed: one of those that its
// count is made of (noinc).
inline void cp_async_mbarrier_arrive(uint32_t mbarrier) {
  emulator::machine().copies().arrive_after_async(mbarrier);
}

#else

template <int kBytes>
MIXPREC_DEVICE void cp_async(uint32_t to, const void* from) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    // Past the first-level cache, which only 16 bytes can do.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "n"(kBytes)
                 : "memory");
  }
}
template <int kBytes>
MIXPREC_DEVICE void cp_async_zero_fill(uint32_t to, const void* from, int source_bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "n"(kBytes), "r"(source_bytes)
                 : "memory");
  }
}
MIXPREC_DEVICE void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
MIXPREC_DEVICE void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
MIXPREC_DEVICE void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }
MIXPREC_DEVICE void cp_async_mbarrier_arrive(uint32_t mbarrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(mbarrier) : "memory");
}

#endif

}  // namespace mixprec::cuda::ptx
