// Bulk copies by one thread (PTX ISA 9.7.9.25.4 cp.async.bulk, 9.7.9.25.5 cp.async.bulk.tensor;
// sm_90): between shared memory and a box of a tensor (TMA), or neighbouring bytes. A load
// completes on an mbarrier, which has to expect its bytes, those outside of the tensor included.
// Stores are waited for in groups, as cp.async is.
#pragma once

#include "cuda/runtime/tensor_map.h"
#include "mbarrier.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

// Coordinates are of the box's first element, innermost dimension first. `to` is aligned to 128
// bytes (for a swizzle to the bytes of its pattern, so that it begins with the box).
template <class... Coordinates>
void tensor_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, Coordinates... at) {
  const int32_t corner[5] = {static_cast<int32_t>(at)...};
  emulator::tensor_load(to, map, mbarrier, sizeof...(at), corner, 0);
}
// To the same place of each block of the cluster whose bit is set, and on its own mbarrier.
template <class... Coordinates>
void tensor_load_multicast(uint32_t to, const TensorMap& map, uint32_t mbarrier,
                           uint16_t block_mask, Coordinates... at) {
  const int32_t corner[5] = {static_cast<int32_t>(at)...};
  emulator::tensor_load(to, map, mbarrier, sizeof...(at), corner, block_mask);
}
template <class... Coordinates>
void tensor_store(const TensorMap& map, uint32_t from, Coordinates... at) {
  const int32_t corner[5] = {static_cast<int32_t>(at)...};
  emulator::tensor_store(map, from, sizeof...(at), corner);
}
inline void prefetch_tensor_map(const TensorMap&) {}

// A multiple of 16 bytes.
inline void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t mbarrier) {
  emulator::bulk_load(to, from, bytes, mbarrier);
}
inline void bulk_store(void* to, uint32_t from, uint32_t bytes) {
  emulator::bulk_store(to, from, bytes);
}

inline void bulk_commit_group() { emulator::machine().copies().commit_bulk(); }
// Until all but kPending of the thread's groups of stores have read shared memory, which may then
// be written again.
template <int kPending>
void bulk_wait_group_read() {
  emulator::machine().copies().wait_bulk(kPending, true);
}
// The same, and what they wrote is visible to this thread.
template <int kPending>
void bulk_wait_group() {
  emulator::machine().copies().wait_bulk(kPending, false);
}

#else

// One overload for each rank; asm has to spell the coordinates' numbers out.
#define MIXPREC_LOAD ".shared::cluster.global.mbarrier::complete_tx::bytes"

MIXPREC_DEVICE void tensor_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, int x) {
  asm volatile("cp.async.bulk.tensor.1d" MIXPREC_LOAD " [%0], [%1, {%3}], [%2];" ::"r"(to),
               "l"(&map), "r"(mbarrier), "r"(x)
               : "memory");
}
MIXPREC_DEVICE void tensor_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, int x,
                                int y) {
  asm volatile("cp.async.bulk.tensor.2d" MIXPREC_LOAD " [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
               "l"(&map), "r"(mbarrier), "r"(x), "r"(y)
               : "memory");
}
MIXPREC_DEVICE void tensor_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, int x, int y,
                                int z) {
  asm volatile("cp.async.bulk.tensor.3d" MIXPREC_LOAD " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
               "l"(&map), "r"(mbarrier), "r"(x), "r"(y), "r"(z)
               : "memory");
}
MIXPREC_DEVICE void tensor_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, int x, int y,
                                int z, int u) {
  asm volatile("cp.async.bulk.tensor.4d" MIXPREC_LOAD
               " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
               "l"(&map), "r"(mbarrier), "r"(x), "r"(y), "r"(z), "r"(u)
               : "memory");
}
MIXPREC_DEVICE void tensor_load(uint32_t to, const TensorMap& map, uint32_t mbarrier, int x, int y,
                                int z, int u, int v) {
  asm volatile("cp.async.bulk.tensor.5d" MIXPREC_LOAD
               " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
               "l"(&map), "r"(mbarrier), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v)
               : "memory");
}

MIXPREC_DEVICE void tensor_load_multicast(uint32_t to, const TensorMap& map, uint32_t mbarrier,
                                          uint16_t block_mask, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d" MIXPREC_LOAD
               ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
               "l"(&map), "r"(mbarrier), "h"(block_mask), "r"(x), "r"(y)
               : "memory");
}
MIXPREC_DEVICE void tensor_load_multicast(uint32_t to, const TensorMap& map, uint32_t mbarrier,
                                          uint16_t block_mask, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d" MIXPREC_LOAD
               ".multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(to),
               "l"(&map), "r"(mbarrier), "h"(block_mask), "r"(x), "r"(y), "r"(z)
               : "memory");
}
MIXPREC_DEVICE void tensor_load_multicast(uint32_t to, const TensorMap& map, uint32_t mbarrier,
                                          uint16_t block_mask, int x, int y, int z, int u) {
  asm volatile("cp.async.bulk.tensor.4d" MIXPREC_LOAD
               ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(to),
               "l"(&map), "r"(mbarrier), "h"(block_mask), "r"(x), "r"(y), "r"(z), "r"(u)
               : "memory");
}
#undef MIXPREC_LOAD

MIXPREC_DEVICE void tensor_store(const TensorMap& map, uint32_t from, int x) {
  asm volatile(
      "cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%0, {%2}], [%1];" ::"l"(&map),
      "r"(from), "r"(x)
      : "memory");
}
MIXPREC_DEVICE void tensor_store(const TensorMap& map, uint32_t from, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
      "r"(from), "r"(x), "r"(y)
      : "memory");
}
MIXPREC_DEVICE void tensor_store(const TensorMap& map, uint32_t from, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
      "r"(from), "r"(x), "r"(y), "r"(z)
      : "memory");
}
MIXPREC_DEVICE void tensor_store(const TensorMap& map, uint32_t from, int x, int y, int z, int u) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
          &map),
      "r"(from), "r"(x), "r"(y), "r"(z), "r"(u)
      : "memory");
}
MIXPREC_DEVICE void tensor_store(const TensorMap& map, uint32_t from, int x, int y, int z, int u,
                                 int v) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5, %6}], "
      "[%1];" ::"l"(&map),
      "r"(from), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v)
      : "memory");
}
MIXPREC_DEVICE void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

MIXPREC_DEVICE void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t mbarrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(mbarrier)
      : "memory");
}
MIXPREC_DEVICE void bulk_store(void* to, uint32_t from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(from), "r"(bytes)
               : "memory");
}

MIXPREC_DEVICE void bulk_commit_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <int kPending>
MIXPREC_DEVICE void bulk_wait_group_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
template <int kPending>
MIXPREC_DEVICE void bulk_wait_group() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

#endif

}  // namespace mixprec::cuda::ptx
