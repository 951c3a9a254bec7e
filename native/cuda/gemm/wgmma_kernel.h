// The Hopper kernel of products. One warp of a producing warpgroup loads tiles of both operands by
// TMA into a ring of slots, of which mbarriers tell whether they are full or empty; two warpgroups
// consume them by wgmma. Blocks stay for many tiles, so that the loads of the next one pass under
// the epilogue of the last. The blocks of a cluster lie one below the other: each loads its part of
// rhs for all of them.
#pragma once

#include "cuda/ptx/cluster.h"
#include "wgmma_epilogue.h"

namespace mixprec::cuda {

// What an instance is made for. A consumer has `kBlocks` times 64 rows of `kN` columns: half of the
// block's tile, or a tile to itself where the two take turns (kPingPong).
template <class T_, Major kLhs_, Major kRhs_, int kBlocks_, int kN_, bool kPingPong_,
          int kPlanes_ = 1>
struct WgmmaInstance {
  using T = T_;
  using Sum = ptx::WgmmaSum<T>;
  using Acc = WgmmaAcc<T>;
  static constexpr Major kLhs = kLhs_;
  static constexpr Major kRhs = kRhs_;
  static constexpr int kBlocks = kBlocks_;
  static constexpr int kN = kN_;
  static constexpr bool kPingPong = kPingPong_;
  static constexpr int kPlanes = kPlanes_;
  static_assert(kPlanes == 1 || !kPingPong);
  static constexpr int kTileM = kBlocks * 64 * (kPingPong ? 1 : 2);
  static constexpr int kDepth = std::is_same_v<T, Tf32> ? 32 : 128 / static_cast<int>(sizeof(T));
  using Layout = WgmmaLayout<kTileM, kN, kPlanes>;
};

namespace wgmma_detail {

struct Ring {
  uint32_t slots, full, empty;
};

MIXPREC_DEVICE void load_box(const WgmmaOperand& operand, uint32_t to, uint32_t full, int shares,
                             int x, int y, int z, int w) {
  if (shares == 1) {
    ptx::tensor_load(to, operand.map, full, x, y, z, w);
  } else {
    const auto mask = static_cast<uint16_t>((1u << shares) - 1);
    ptx::tensor_load_multicast(to, operand.map, full, mask, x, y, z, w);
  }
}

// Loads this block's share of an operand's tile, whose rows begin at `first`, for all that share
// it.
template <class I, Major kMajor, int kRows>
MIXPREC_DEVICE void load_tile(const WgmmaOperand& operand, const WgmmaPlace& place, int plane,
                              int first, int k, uint32_t to, uint32_t full, int share, int shares) {
  const int z = place.batch * operand.z_batch + place.outer * operand.z_outer;
  const int w = place.outer * operand.w_outer + plane;
  if constexpr (kMajor == Major::kK) {
    const int row = share * (kRows / shares);
    load_box(operand, to + static_cast<uint32_t>(row) * 128, full, shares, k, first + row, z, w);
  } else {
    constexpr int kItem = static_cast<int>(sizeof(typename I::T));
    constexpr int kColumns = kRows * kItem / 128;
    const bool by_k = wgmma_shares_k(kRows, kItem, shares);
    const int own_k = by_k ? share * (I::kDepth / shares) : 0;
    const int columns = by_k ? kColumns : kColumns / shares;
    const int begin = by_k ? 0 : share * columns;
    for (int column = begin; column < begin + columns; ++column) {
      const auto at = static_cast<uint32_t>(column * I::kDepth + own_k) * 128;
      load_box(operand, to + at, full, shares, first + column * (128 / kItem), k + own_k, z, w);
    }
  }
}

template <class I>
MIXPREC_DEVICE void produce(const WgmmaArgs<typename I::Acc>& args, const Ring& ring, int rank) {
  using L = typename I::Layout;
  ptx::prefetch_tensor_map(args.lhs.map);
  ptx::prefetch_tensor_map(args.rhs.map);
  uint32_t turn = 0;
  const int clusters = static_cast<int>(gridDim.x) / args.cluster;
  for (int unit = static_cast<int>(blockIdx.x) / args.cluster; unit < args.units;
       unit += clusters) {
    const WgmmaPlace place = wgmma_place(args, unit, rank, I::kTileM, I::kN);
    for (int step = 0; step < place.steps; ++step, ++turn) {
      const uint32_t slot = turn % L::kSlots;
      const uint32_t full = ring.full + slot * 8;
      ptx::mbarrier_wait(ring.empty + slot * 8, (turn / L::kSlots & 1) ^ 1);
      ptx::mbarrier_arrive_expect_tx(full, L::kSlotBytes);
      const int k = (place.first_step + step) * I::kDepth;
      uint32_t to = ring.slots + slot * L::kSlotBytes;
      MIXPREC_UNROLL
      for (int plane = 0; plane < I::kPlanes; ++plane, to += L::kLhsBytes) {
        load_tile<I, I::kLhs, I::kTileM>(args.lhs, place, plane, place.m, k, to, full, 0, 1);
      }
      MIXPREC_UNROLL
      for (int plane = 0; plane < I::kPlanes; ++plane, to += L::kRhsBytes) {
        load_tile<I, I::kRhs, I::kN>(args.rhs, place, plane, place.n, k, to, full, rank,
                                     args.cluster);
      }
    }
  }
}

// Both orders of a tile have patterns of 1024 bytes (8 rows, or 8 of k) one after the other, and
// 64 rows are 8192 bytes. The one that is dense in rows has 64 of k to each 128 bytes of rows.
template <Major kMajor>
MIXPREC_DEVICE uint64_t tile_descriptor(uint32_t address) {
  return ptx::wgmma_descriptor(address, kMajor == Major::kK ? 16 : 8192, 1024, Swizzle::k128Bytes);
}
template <Major kMajor>
constexpr uint32_t kStepBytes = kMajor == Major::kK ? 32 : 2048;

// One slot's product of one plane each.
template <class I>
MIXPREC_DEVICE void multiply_planes(typename I::Sum (&d)[I::kBlocks][I::kN / 2], uint32_t lhs,
                                    uint32_t rhs, bool accumulate) {
  const uint64_t b = tile_descriptor<I::kRhs>(rhs);
  MIXPREC_UNROLL
  for (int block = 0; block < I::kBlocks; ++block) {
    const uint64_t a = tile_descriptor<I::kLhs>(lhs + static_cast<uint32_t>(block) * 8192);
    MIXPREC_UNROLL
    for (uint32_t step = 0; step < 4; ++step) {
      ptx::wgmma<I::kN, typename I::T, I::kLhs, I::kRhs>(
          d[block], ptx::wgmma_advance(a, step * kStepBytes<I::kLhs>),
          ptx::wgmma_advance(b, step * kStepBytes<I::kRhs>), accumulate || step > 0);
    }
  }
}

// Every warp tells every block of the cluster, whose producers load into this one's slots too.
MIXPREC_DEVICE void release(const Ring& ring, uint32_t slot, int cluster) {
  const uint32_t lane = threadIdx.x % 32;
  if (lane < static_cast<uint32_t>(cluster)) {
    ptx::mbarrier_arrive_cluster(ptx::map_shared(ring.empty + slot * 8, lane));
  }
}

// The sums of a tile; `turn` is that of its first slot. `lhs_offset` is where the warpgroup's rows
// begin in a tile of lhs. Once all products are on their way, the other consumer may begin with its
// own, at `next_barrier` (0: there is nothing to begin with).
template <class I>
MIXPREC_DEVICE void sum_tile(typename I::Sum (&d)[I::kBlocks][I::kN / 2], const Ring& ring,
                             uint32_t turn, int steps, uint32_t lhs_offset, int cluster,
                             int next_barrier) {
  using L = typename I::Layout;
  MIXPREC_UNROLL
  for (auto& block : d) {
    MIXPREC_UNROLL
    for (auto& sum : block) sum = 0;
  }
  uint32_t before = 0;
  for (int step = 0; step < steps; ++step, ++turn) {
    const uint32_t slot = turn % L::kSlots;
    ptx::mbarrier_wait(ring.full + slot * 8, turn / L::kSlots & 1);
    const uint32_t lhs = ring.slots + slot * L::kSlotBytes;
    ptx::wgmma_fence();
    multiply_planes<I>(d, lhs + lhs_offset, lhs + L::kLhsBytes, true);
    ptx::wgmma_commit_group();
    // One step behind, so that the tensor cores do not wait for the slot's return.
    ptx::wgmma_wait_group<1>();
    if (step > 0) release(ring, before, cluster);
    before = slot;
  }
  if (next_barrier != 0) ptx::named_barrier_arrive(next_barrier, 256);
  ptx::wgmma_wait_group<0>();
  MIXPREC_UNROLL
  for (auto& block : d) ptx::wgmma_registers(block);
  if (steps > 0) release(ring, before, cluster);
}

// The same of three planes: the products of a slot are summed apart, small ones first, and the
// result is added in float32, because tensor cores cut off what does not fit their sums.
template <class I>
MIXPREC_DEVICE void sum_planes(float (&d)[I::kBlocks][I::kN / 2], const Ring& ring, uint32_t turn,
                               int steps, uint32_t lhs_offset, int cluster) {
  using L = typename I::Layout;
  MIXPREC_UNROLL
  for (auto& block : d) {
    MIXPREC_UNROLL
    for (auto& sum : block) sum = 0;
  }
  for (int step = 0; step < steps; ++step, ++turn) {
    const uint32_t slot = turn % L::kSlots;
    ptx::mbarrier_wait(ring.full + slot * 8, turn / L::kSlots & 1);
    const uint32_t lhs = ring.slots + slot * L::kSlotBytes;
    const uint32_t rhs = lhs + I::kPlanes * L::kLhsBytes;
    float part[I::kBlocks][I::kN / 2];
    ptx::wgmma_fence();
    MIXPREC_UNROLL
    for (uint32_t order = I::kPlanes; order-- > 0;) {
      MIXPREC_UNROLL
      for (uint32_t plane = 0; plane <= order; ++plane) {
        multiply_planes<I>(part, lhs + plane * L::kLhsBytes + lhs_offset,
                           rhs + (order - plane) * L::kRhsBytes,
                           order + 1 < I::kPlanes || plane > 0);
      }
    }
    ptx::wgmma_commit_group();
    ptx::wgmma_wait_group<0>();
    release(ring, slot, cluster);
    MIXPREC_UNROLL
    for (int block = 0; block < I::kBlocks; ++block) {
      ptx::wgmma_registers(part[block]);
      MIXPREC_UNROLL
      for (int i = 0; i < I::kN / 2; ++i) d[block][i] += part[block][i];
    }
  }
}

template <class I>
MIXPREC_DEVICE void consume(const WgmmaArgs<typename I::Acc>& args, const Ring& ring, int rank,
                            uint32_t memory, float* bias) {
  using L = typename I::Layout;
  const int self = static_cast<int>(threadIdx.x) / 128 - 1;
  const auto warp = threadIdx.x / 32 - 4;
  WgmmaEpilogue<typename I::T, typename I::Sum, typename I::Acc, I::kBlocks, I::kN> epilogue(
      args, memory + L::kChunks + warp * 2 * L::kChunkBytes, bias + self * 256, 1 + self);
  const uint32_t lhs_offset = I::kPingPong ? 0 : static_cast<uint32_t>(self * I::kBlocks) * 8192;
  const int clusters = static_cast<int>(gridDim.x) / args.cluster;
  uint32_t turn = 0;
  int count = 0;
  for (int unit = static_cast<int>(blockIdx.x) / args.cluster; unit < args.units;
       unit += clusters, ++count) {
    const WgmmaPlace place = wgmma_place(args, unit, rank, I::kTileM, I::kN);
    const uint32_t first = turn;
    turn += static_cast<uint32_t>(place.steps);
    // The other's tile.
    if (I::kPingPong && count % 2 != self) continue;
    const int m = place.m + (I::kPingPong ? 0 : self * I::kBlocks * 64);
    epilogue.prefetch(place, m);
    // Whose turn it is has the tensor cores to itself; the other one stores meanwhile.
    if (I::kPingPong && count > 0) ptx::named_barrier_sync(3 + self, 256);
    typename I::Sum d[I::kBlocks][I::kN / 2];
    if constexpr (I::kPlanes > 1) {
      sum_planes<I>(d, ring, first, place.steps, lhs_offset, args.cluster);
      const int scale = -ranges_exponent(args.ranges);
      MIXPREC_UNROLL
      for (auto& block : d) {
        MIXPREC_UNROLL
        for (float& sum : block) sum = scaled_by(sum, scale);
      }
    } else {
      const int next = I::kPingPong && unit + clusters < args.units ? 4 - self : 0;
      sum_tile<I>(d, ring, first, place.steps, lhs_offset, args.cluster, next);
    }
    epilogue.store(d, place, m);
  }
  epilogue.finish();
}

}  // namespace wgmma_detail

template <class I>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    wgmma_product(MIXPREC_GRID_CONSTANT(WgmmaArgs<typename I::Acc>) args) {
#if MIXPREC_HAS_SM90A
  using namespace wgmma_detail;
  using L = typename I::Layout;
  if constexpr (I::kPlanes > 1) {
    if (!ranges_fit(args.ranges)) return;
  }
  MIXPREC_DYNAMIC_SHARED(memory);
  const uint32_t begin = ptx::shared_address(memory);
  const Ring ring{begin, begin + L::kBarriers, begin + L::kBarriers + L::kSlots * 8};
  const auto rank = static_cast<int>(ptx::cluster_rank());
  if (threadIdx.x == 0) {
    const auto consumers = static_cast<uint32_t>(I::kPingPong ? 4 : 8);  // warps
    for (uint32_t slot = 0; slot < L::kSlots; ++slot) {
      ptx::mbarrier_init(ring.full + slot * 8, 1);
      ptx::mbarrier_init(ring.empty + slot * 8, consumers * static_cast<uint32_t>(args.cluster));
    }
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_sync();
  if (threadIdx.x < 128) {
    ptx::set_max_registers_dec<40>();
    if (threadIdx.x < 32 && ptx::elect_one()) produce<I>(args, ring, rank);
    ptx::sync_warp();
  } else {
    ptx::set_max_registers_inc<232>();
    consume<I>(args, ring, rank, begin, reinterpret_cast<float*>(memory + L::kBias));
  }
  // Other blocks arrive at this one's mbarriers and load into its slots to the end.
  ptx::cluster_sync();
#endif
}

}  // namespace mixprec::cuda
