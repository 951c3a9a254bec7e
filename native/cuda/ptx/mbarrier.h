// Mbarriers in shared memory (PTX ISA 9.7.13.15 mbarrier; sm_90 for what expects bytes) and the
// fences around them (9.7.13.4 fence.mbarrier_init, fence.proxy.async). An mbarrier is 8 bytes,
// aligned. Its phases are counted from 0; a wait names the parity of the phase whose end it waits
// for, so waiting for parity 1 passes at once before the first has ended.
#pragma once

#include "shared.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

// A phase ends after `arrivals` arrivals, and when all expected bytes were copied.
inline void mbarrier_init(uint32_t mbarrier, uint32_t arrivals) {
  emulator::mbarrier_init(mbarrier, arrivals);
}
// Before the memory is used for anything else.
inline void mbarrier_inval(uint32_t mbarrier) { emulator::mbarrier_invalidate(mbarrier); }
// By the thread that initialized mbarriers, before a barrier: makes them visible to copies and to
// other blocks of the cluster.
inline void fence_mbarrier_init() { emulator::fence_mbarriers(); }

inline void mbarrier_arrive(uint32_t mbarrier) { emulator::mbarrier_arrive(mbarrier, 1, 0); }
// Expects `bytes` more in this phase, then arrives.
inline void mbarrier_arrive_expect_tx(uint32_t mbarrier, uint32_t bytes) {
  emulator::mbarrier_arrive(mbarrier, 1, bytes);
}
inline void mbarrier_expect_tx(uint32_t mbarrier, uint32_t bytes) {
  emulator::mbarrier_expect(mbarrier, bytes);
}
// At an mbarrier of another block of the cluster, whose address map_shared gave.
inline void mbarrier_arrive_cluster(uint32_t mbarrier) {
  emulator::mbarrier_arrive(mbarrier, 1, 0);
}
// Whether the phase of this parity has ended; may wait for a while before it says no.
inline bool mbarrier_try_wait(uint32_t mbarrier, uint32_t parity) {
  if (emulator::mbarrier_test(mbarrier, parity)) return true;
  emulator::machine().poll();
  return emulator::mbarrier_test(mbarrier, parity);
}
inline void mbarrier_wait(uint32_t mbarrier, uint32_t parity) {
  emulator::mbarrier_wait(mbarrier, parity);
}
// Of each thread that stored into shared memory, before a barrier after which bulk copies or wgmma
// read it.
inline void fence_proxy_async() {
  ++emulator::machine().thread().proxy_fences;
  emulator::fence_mbarriers();
}

#else

MIXPREC_DEVICE void mbarrier_init(uint32_t mbarrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mbarrier), "r"(arrivals) : "memory");
}
MIXPREC_DEVICE void mbarrier_inval(uint32_t mbarrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(mbarrier) : "memory");
}
MIXPREC_DEVICE void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
MIXPREC_DEVICE void mbarrier_arrive(uint32_t mbarrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mbarrier) : "memory");
}
MIXPREC_DEVICE void mbarrier_arrive_expect_tx(uint32_t mbarrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(mbarrier), "r"(bytes)
               : "memory");
}
MIXPREC_DEVICE void mbarrier_expect_tx(uint32_t mbarrier, uint32_t bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(mbarrier),
               "r"(bytes)
               : "memory");
}
MIXPREC_DEVICE void mbarrier_arrive_cluster(uint32_t mbarrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(mbarrier)
               : "memory");
}
MIXPREC_DEVICE bool mbarrier_try_wait(uint32_t mbarrier, uint32_t parity) {
  uint32_t ended;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(ended)
      : "r"(mbarrier), "r"(parity)
      : "memory");
  return ended != 0;
}
MIXPREC_DEVICE void mbarrier_wait(uint32_t mbarrier, uint32_t parity) {
  while (!mbarrier_try_wait(mbarrier, parity)) {
  }
}
MIXPREC_DEVICE void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#endif

}  // namespace mixprec::cuda::ptx
