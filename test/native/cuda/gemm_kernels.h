// Two small but whole matrix products, in the shape of the fast kernels: c = a * b^T with a [m][k]
// and b [n][k] of bfloat16. A template argument plants a fault, which the emulator has to report
// (test/native/emulator/fault_test.cc); tile_products_test.cu runs them as they should be.
#pragma once

#include "cuda/ptx/async_copy.h"
#include "cuda/ptx/barrier.h"
#include "cuda/ptx/bulk_copy.h"
#include "cuda/ptx/cluster.h"
#include "cuda/ptx/convert.h"
#include "cuda/ptx/matrix.h"
#include "cuda/ptx/mbarrier.h"
#include "cuda/ptx/memory.h"
#include "cuda/ptx/mma.h"
#include "cuda/ptx/warp.h"
#include "cuda/ptx/wgmma.h"

namespace mixprec::cuda::testing {

enum class Fault {
  kNone,
  // Of gemm_sm80.
  kNoCopyWait,      // reads a tile without waiting for its copies
  kOneGroupTooFew,  // waits for all but one group more than it may
  kNoBarrier,       // no barrier between the wait and reading other threads' copies
  kSlotReused,      // no barrier between reading a slot and copying into it
  kLoadPastEdge,    // one row too many at the ragged edge
  kStorePastEdge,   // one column too many
  kMisalignedRow,   // rows of a tile not aligned for ldmatrix
  // Of gemm_sm90.
  kNoFullWait,      // consumers do not wait for the slot to be full
  kNoEmptyWait,     // the producer does not wait for it to be empty
  kNoEmptyArrive,   // consumers do not give it back
  kFewerBytes,      // expects fewer bytes than are copied
  kMoreBytes,       // expects more
  kWrongSwizzle,    // descriptors that name another swizzle than the tensor maps
  kWrongStride,     // descriptors with the stride of another tile
  kMisalignedTile,  // a tile that begins within a pattern
  kNoWgmmaFence,
  kNoWgmmaWait,    // the sums are read while they are made
  kNoInitFence,    // mbarriers used by copies before they are visible to them
  kNoProxyFence,   // a bulk store of what was stored without the fence
  kNoStoreWait,    // ends while the bulk store reads shared memory
  kNoClusterSync,  // ends while other blocks still reach into its shared memory
};

// ---- cp.async, ldmatrix, mma.sync ----

struct GemmSm80 {
  static constexpr int kTile = 64;   // rows and columns of c to a block
  static constexpr int kDepth = 32;  // of k to a slot
  static constexpr int kSlots = 3;
  static constexpr int kThreads = 128;       // four warps of 32 x 32
  static constexpr int kPitch = kDepth + 8;  // so that ldmatrix meets every bank
  static constexpr int kTileElements = kTile * kPitch;
  static constexpr size_t kSharedBytes = size_t{2} * kSlots * kTileElements * 2;
};

// k is a multiple of 8. Beyond the edges of a and b, tiles are filled with zeros.
template <Fault kFault>
MIXPREC_DEVICE void copy_tile(uint32_t slot, const BFloat16* from, int first, int rows, int k0,
                              int k) {
  using G = GemmSm80;
  constexpr int kUnits = G::kDepth / 8;
  constexpr int kMisaligned = kFault == Fault::kMisalignedRow ? 4 : 0;
  if (kFault == Fault::kLoadPastEdge) ++rows;
  for (int i = static_cast<int>(threadIdx.x); i < G::kTile * kUnits; i += G::kThreads) {
    const int row = i / kUnits;
    const int column = i % kUnits * 8;
    const bool inside = first + row < rows && k0 + column < k;
    const BFloat16* source = inside ? from + int64_t{first + row} * k + k0 + column : from;
    ptx::cp_async_zero_fill<16>(
        slot + static_cast<uint32_t>(row * (G::kPitch + kMisaligned) + column) * 2, source,
        inside ? 16 : 0);
  }
}

template <Fault kFault>
__global__ void __launch_bounds__(GemmSm80::kThreads)
    gemm_sm80(const BFloat16* a, const BFloat16* b, float* c, int m, int n, int k) {
  using G = GemmSm80;
  MIXPREC_DYNAMIC_SHARED(memory);
  const uint32_t a_tiles = ptx::shared_address(memory);
  constexpr uint32_t kTileBytes = G::kTileElements * 2;
  const uint32_t b_tiles = a_tiles + G::kSlots * kTileBytes;
  const int m0 = static_cast<int>(blockIdx.x) * G::kTile;
  const int n0 = static_cast<int>(blockIdx.y) * G::kTile;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int steps = (k + G::kDepth - 1) / G::kDepth;
  const auto copy_step = [&](int step) {
    const auto slot = static_cast<uint32_t>(step % G::kSlots) * kTileBytes;
    if (step < steps) {
      copy_tile<kFault>(a_tiles + slot, a, m0, m, step * G::kDepth, k);
      copy_tile<kFault>(b_tiles + slot, b, n0, n, step * G::kDepth, k);
    }
    ptx::cp_async_commit_group();  // empty ones keep the count
  };
  float d[2][4][4] = {};
  copy_step(0);
  copy_step(1);
  for (int step = 0; step < steps; ++step) {
    if constexpr (kFault == Fault::kOneGroupTooFew) {
      ptx::cp_async_wait_group<G::kSlots - 1>();
    } else if constexpr (kFault != Fault::kNoCopyWait) {
      ptx::cp_async_wait_group<G::kSlots - 2>();
    }
    if constexpr (kFault != Fault::kNoBarrier && kFault != Fault::kSlotReused) ptx::sync_threads();
    if constexpr (kFault == Fault::kSlotReused) {
      // What was copied is visible, but a warp may run ahead into the slot that others still read.
      ptx::sync_warp();
      if (step == 0) ptx::sync_threads();
    }
    copy_step(step + 2);
    const auto slot = static_cast<uint32_t>(step % G::kSlots) * kTileBytes;
    MIXPREC_UNROLL
    for (int kk = 0; kk < G::kDepth; kk += 16) {
      uint32_t a_registers[2][4];
      uint32_t b_registers[2][4];
      const auto at = [&](int row, int column) {
        return slot + static_cast<uint32_t>(row * G::kPitch + column) * 2;
      };
      MIXPREC_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int a_row = warp / 2 * 32 + i * 16 + lane % 16;
        ptx::ldmatrix(a_registers[i], a_tiles + at(a_row, kk + lane / 16 * 8));
        const int b_row = warp % 2 * 32 + i * 16 + lane % 8 + lane / 16 * 8;
        ptx::ldmatrix(b_registers[i], b_tiles + at(b_row, kk + lane / 8 % 2 * 8));
      }
      MIXPREC_UNROLL
      for (int i = 0; i < 2; ++i) {
        MIXPREC_UNROLL
        for (int j = 0; j < 4; ++j) {
          const uint32_t b_pair[2] = {b_registers[j / 2][j % 2 * 2],
                                      b_registers[j / 2][j % 2 * 2 + 1]};
          ptx::mma_m16n8k16<BFloat16>(d[i][j], a_registers[i], b_pair);
        }
      }
    }
  }
  const int columns = kFault == Fault::kStorePastEdge ? n + 1 : n;
  MIXPREC_UNROLL
  for (int i = 0; i < 2; ++i) {
    MIXPREC_UNROLL
    for (int j = 0; j < 4; ++j) {
      MIXPREC_UNROLL
      for (int r = 0; r < 4; ++r) {
        const int row = m0 + warp / 2 * 32 + i * 16 + lane / 4 + r / 2 * 8;
        const int column = n0 + warp % 2 * 32 + j * 8 + lane % 4 * 2 + r % 2;
        if (row < m && column < columns) ptx::st(c + int64_t{row} * n + column, d[i][j][r]);
      }
    }
  }
}

// ---- TMA, mbarriers, wgmma ----

struct GemmSm90 {
  static constexpr int kTile = 64;
  static constexpr int kDepth = 64;  // 128 bytes, a row of the swizzle's pattern
  static constexpr int kSlots = 3;
  static constexpr int kThreads = 256;  // a producing and a consuming warpgroup
  static constexpr uint32_t kTileBytes = kTile * kDepth * 2;
  static constexpr uint32_t kBarriers = (2 * kSlots + 1) * kTileBytes;  // behind the tile of c
  static constexpr size_t kSharedBytes = kBarriers + 2 * kSlots * 8;
};

// Blocks of a cluster lie beside each other along m: each loads its part of b for all of them. c,
// of bfloat16, is a tensor, too, so that the edges take care of themselves.
template <Fault kFault, uint32_t kCluster>
__global__ void __launch_bounds__(GemmSm90::kThreads, 1)
    gemm_sm90(MIXPREC_GRID_CONSTANT(TensorMap) a, MIXPREC_GRID_CONSTANT(TensorMap) b,
              MIXPREC_GRID_CONSTANT(TensorMap) c, int k) {
#if MIXPREC_HAS_SM90A
  using G = GemmSm90;
  MIXPREC_DYNAMIC_SHARED(memory);
  const uint32_t a_tiles = ptx::shared_address(memory);
  const uint32_t b_tiles = a_tiles + G::kSlots * G::kTileBytes;
  const uint32_t c_tile = b_tiles + G::kSlots * G::kTileBytes;
  const uint32_t full = a_tiles + G::kBarriers;
  const uint32_t empty = full + G::kSlots * 8;
  const uint32_t rank = kCluster > 1 ? ptx::cluster_rank() : 0;
  const int m0 = static_cast<int>(blockIdx.x) * G::kTile;
  const int n0 = static_cast<int>(blockIdx.y) * G::kTile;
  const int steps = (k + G::kDepth - 1) / G::kDepth;
  const int thread = static_cast<int>(threadIdx.x) % 128;

  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < G::kSlots; ++i) {
      ptx::mbarrier_init(full + i * 8, 1);
      ptx::mbarrier_init(empty + i * 8, kCluster);
    }
    if constexpr (kFault != Fault::kNoInitFence) ptx::fence_mbarrier_init();
  }
  if constexpr (kCluster > 1) {
    ptx::cluster_sync();
  } else {
    ptx::sync_threads();
  }

  if (threadIdx.x < 128) {
    ptx::set_max_registers_dec<40>();
    if (threadIdx.x < 32 && ptx::elect_one()) {
      for (int step = 0; step < steps; ++step) {
        const auto slot = static_cast<uint32_t>(step % G::kSlots);
        if constexpr (kFault != Fault::kNoEmptyWait) {
          ptx::mbarrier_wait(empty + slot * 8, static_cast<uint32_t>(step / G::kSlots % 2 ^ 1));
        }
        constexpr uint32_t kBytes = kFault == Fault::kFewerBytes  ? G::kTileBytes
                                    : kFault == Fault::kMoreBytes ? 3 * G::kTileBytes
                                                                  : 2 * G::kTileBytes;
        ptx::mbarrier_arrive_expect_tx(full + slot * 8, kBytes);
        const int k0 = step * G::kDepth;
        constexpr uint32_t kShift = kFault == Fault::kMisalignedTile ? 128 : 0;
        ptx::tensor_load(a_tiles + slot * G::kTileBytes + kShift, a, full + slot * 8, k0, m0);
        const uint32_t b_slot = b_tiles + slot * G::kTileBytes;
        if constexpr (kCluster > 1) {
          constexpr int kRows = G::kTile / static_cast<int>(kCluster);
          const int row = static_cast<int>(rank) * kRows;
          ptx::tensor_load_multicast(b_slot + static_cast<uint32_t>(row) * 128, b, full + slot * 8,
                                     static_cast<uint16_t>((1u << kCluster) - 1), k0, n0 + row);
        } else {
          ptx::tensor_load(b_slot, b, full + slot * 8, k0, n0);
        }
      }
    }
  } else {
    ptx::set_max_registers_inc<232>();
    float d[G::kTile / 2];
    MIXPREC_UNROLL
    for (float& sum : d) sum = 0;
    constexpr Swizzle kSwizzle =
        kFault == Fault::kWrongSwizzle ? Swizzle::k64Bytes : Swizzle::k128Bytes;
    constexpr uint32_t kStride = kFault == Fault::kWrongStride ? 2048 : 1024;
    for (int step = 0; step < steps; ++step) {
      const auto slot = static_cast<uint32_t>(step % G::kSlots);
      if constexpr (kFault != Fault::kNoFullWait) {
        ptx::mbarrier_wait(full + slot * 8, static_cast<uint32_t>(step / G::kSlots % 2));
      }
      constexpr uint32_t kShift = kFault == Fault::kMisalignedTile ? 128 : 0;
      const uint64_t a_slot =
          ptx::wgmma_descriptor(a_tiles + slot * G::kTileBytes + kShift, 16, kStride, kSwizzle);
      const uint64_t b_slot =
          ptx::wgmma_descriptor(b_tiles + slot * G::kTileBytes, 16, kStride, kSwizzle);
      if constexpr (kFault != Fault::kNoWgmmaFence) ptx::wgmma_fence();
      MIXPREC_UNROLL
      for (uint32_t kk = 0; kk < G::kDepth * 2; kk += 32) {
        ptx::wgmma<G::kTile, BFloat16, Major::kK, Major::kK>(d, ptx::wgmma_advance(a_slot, kk),
                                                             ptx::wgmma_advance(b_slot, kk), true);
      }
      ptx::wgmma_commit_group();
      // One step behind, the slot before is free.
      if constexpr (kFault != Fault::kNoWgmmaWait) ptx::wgmma_wait_group<1>();
      if constexpr (kFault != Fault::kNoEmptyArrive) {
        const auto before = static_cast<uint32_t>((step + G::kSlots - 1) % G::kSlots);
        if (step > 0 && thread < static_cast<int>(kCluster)) {
          if constexpr (kCluster > 1) {
            ptx::mbarrier_arrive_cluster(
                ptx::map_shared(empty + before * 8, static_cast<uint32_t>(thread)));
          } else {
            ptx::mbarrier_arrive(empty + before * 8);
          }
        }
      }
    }
    if constexpr (kFault != Fault::kNoWgmmaWait) ptx::wgmma_wait_group<0>();

    // Sums to a swizzled tile of bfloat16, 16 columns at a time.
    const int lane = thread % 32;
    const int row = thread / 32 * 16 + lane / 8 % 2 * 8 + lane % 8;
    MIXPREC_UNROLL
    for (int j = 0; j < G::kTile / 8; j += 2) {
      uint32_t halves[4];
      MIXPREC_UNROLL
      for (int i = 0; i < 4; ++i) {
        halves[i] = static_cast<uint32_t>(ptx::narrow_bf16(d[j * 4 + i * 2]).bits) |
                    static_cast<uint32_t>(ptx::narrow_bf16(d[j * 4 + i * 2 + 1]).bits) << 16;
      }
      const uint32_t at = c_tile + static_cast<uint32_t>(row * 128 + (j + lane / 16) * 16);
      ptx::stmatrix(swizzled(at, Swizzle::k128Bytes), halves);
    }
    if constexpr (kFault != Fault::kNoProxyFence) ptx::fence_proxy_async();
    ptx::named_barrier_sync(1, 128);
    if (thread == 0) {
      ptx::tensor_store(c, c_tile, n0, m0);
      ptx::bulk_commit_group();
      if constexpr (kFault != Fault::kNoStoreWait) ptx::bulk_wait_group_read<0>();
    }
  }
  // Other blocks arrive at this one's mbarriers and load into its tiles to the end.
  if constexpr (kCluster > 1 && kFault != Fault::kNoClusterSync) ptx::cluster_sync();
#endif
}

}  // namespace mixprec::cuda::testing
