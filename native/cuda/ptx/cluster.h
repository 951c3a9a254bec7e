// Clusters: blocks that run together and reach each other's shared memory (PTX ISA 9.7.13.3
// barrier.cluster, 9.7.9.23 mapa, 10 special registers; sm_90). LaunchConfig::cluster asks for one.
#pragma once

#include "shared.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

// This block's number in its cluster, and how many there are.
inline uint32_t cluster_rank() { return emulator::current_block().rank; }
inline uint32_t cluster_size() {
  return static_cast<uint32_t>(emulator::machine().launch().cluster.count());
}
// A barrier of all threads of the cluster, in two halves: what was written before the first is
// visible after the second.
inline void cluster_arrive() { emulator::machine().cluster_arrive(); }
inline void cluster_wait() { emulator::machine().cluster_wait(); }
// Where block `rank` has what this block has at `address`.
inline uint32_t map_shared(uint32_t address, uint32_t rank) {
  constexpr uint32_t kInWindow = (1u << emulator::kRankShift) - 1;
  return (address & kInWindow) | rank << emulator::kRankShift;
}
// Shared memory of any block of the cluster, at an address of map_shared.
template <class T>
T ld_shared_cluster(uint32_t address) {
  return ld_shared<T>(address);
}
template <class T>
void st_shared_cluster(uint32_t address, const std::type_identity_t<T>& value) {
  st_shared<T>(address, value);
}

#else

MIXPREC_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
MIXPREC_DEVICE uint32_t cluster_size() {
  uint32_t size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
MIXPREC_DEVICE void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
MIXPREC_DEVICE void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
MIXPREC_DEVICE uint32_t map_shared(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
// T has 4 bytes.
template <class T>
MIXPREC_DEVICE T ld_shared_cluster(uint32_t address) {
  static_assert(sizeof(T) == 4);
  union Bits {
    MIXPREC_DEVICE Bits() {}
    T value;
    uint32_t word;
  } bits;
  asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(bits.word) : "r"(address) : "memory");
  return bits.value;
}
template <class T>
MIXPREC_DEVICE void st_shared_cluster(uint32_t address, const std::type_identity_t<T>& value) {
  static_assert(sizeof(T) == 4);
  union Bits {
    MIXPREC_DEVICE explicit Bits(const T& v) : value(v) {}
    T value;
    uint32_t word;
  } bits(value);
  asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(address), "r"(bits.word) : "memory");
}

#endif

MIXPREC_DEVICE void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

}  // namespace mixprec::cuda::ptx
