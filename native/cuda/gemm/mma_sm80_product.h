// The frame of the kernels of mma.sync: a block makes one tile of the output. Copies of the
// operands' tiles run ahead in a ring of slots (cp.async) while warps multiply what has come; the
// sums then go through shared memory, so that memory is written along rows.
//
// A policy says what a warp does with a slot. It has
//   Sum, Acc                        the type of the sums, and that of the epilogue
//   kM, kN, kDepth, kSlots, kThreads, kWarpsAcross
//   Sums, kSumSets                  the sums of a thread, and how many of them there are at once
//   run<lhs k major, rhs k major>   makes the sums of a tile
//   stage(sums, Stage)              writes them to the warp's part of shared memory
//   kBlocks, kAnyMajor              see Stage; whether tiles can be major in rows
#pragma once

#include "cuda/cuda_backend.h"
#include "cuda/ptx/barrier.h"
#include "cuda/ptx/warp.h"
#include "epilogue.h"
#include "mma_sm80_copy.h"

namespace mixprec::cuda::mma_sm80 {

template <class Acc>
struct ProductArgs {
  Operand lhs;
  Operand rhs;
  EpilogueArgs<Acc> epilogue;
  void* partials;  // of Sum, [split][outer][batch][M][N], or null
  int64_t K;
  int64_t batch;
  int64_t batches;      // times outer
  int64_t split_steps;  // slots of k to a share
  int32_t tiles_down;
  int32_t tiles_across;
  MatmulPrecision precision;
  DType dtype;    // of the operands
  bool has_sm90;  // what the emulator asks at run time, and a compiler for the GPU knows
  bool aligned;   // rows of out, and of what lies as it does, to four elements
};

// Which tile a block makes. Few registers are live while products are summed.
struct TilePlace {
  int32_t down;
  int32_t across;
  int32_t batch;
};

// Blocks that run at the same time lie in squares rather than in rows, to share what they read.
MIXPREC_DEVICE TilePlace tile_of_block(int32_t tiles_down, int32_t tiles_across) {
  constexpr uint32_t kGroup = 8;  // rows of tiles
  const auto rows_of_tiles = static_cast<uint32_t>(tiles_down);
  const auto in_row = static_cast<uint32_t>(tiles_across);
  const uint32_t batch = blockIdx.x / (rows_of_tiles * in_row);
  const uint32_t tile = blockIdx.x - batch * rows_of_tiles * in_row;
  const uint32_t first = tile / (kGroup * in_row) * kGroup;
  const uint32_t left = rows_of_tiles - first;
  const uint32_t rows = left < kGroup ? left : kGroup;
  const uint32_t rest = tile - first * in_row;
  TilePlace place;
  place.down = static_cast<int32_t>(first + rest % rows);
  place.across = static_cast<int32_t>(rest / rows);
  place.batch = static_cast<int32_t>(batch);
  return place;
}

// Calls multiply(slot of lhs, slot of rhs) for each kDepth steps of k in turn.
template <class T, class LhsLayout, class RhsLayout, int kSlots, int kThreads, class Acc,
          class Multiply>
MIXPREC_DEVICE void for_each_slot(const ProductArgs<Acc>& args, const TilePlace& place,
                                  uint32_t memory, const Multiply& multiply) {
  constexpr int kDepth = LhsLayout::kDepth;
  constexpr uint32_t kSlotBytes = LhsLayout::kBytes + RhsLayout::kBytes;
  const int64_t k_begin = blockIdx.y * args.split_steps * kDepth;
  const int64_t k_end = k_begin + args.split_steps * kDepth;
  int64_t k_left = (k_end < args.K ? k_end : args.K) - k_begin;  // that is not copied yet
  const int64_t outer = place.batch / args.batch;
  const int64_t inner = place.batch - outer * args.batch;
  TileCopier<T, LhsLayout, kThreads> lhs(
      args.lhs, outer * args.lhs.outer_stride + inner * args.lhs.batch_stride,
      int64_t{place.down} * LhsLayout::kTile, k_begin);
  TileCopier<T, RhsLayout, kThreads> rhs(
      args.rhs, outer * args.rhs.outer_stride + inner * args.rhs.batch_stride,
      int64_t{place.across} * RhsLayout::kTile, k_begin);
  const int steps = k_left <= 0 ? 0 : static_cast<int>((k_left + kDepth - 1) / kDepth);
  uint32_t filled = memory;
  uint32_t ready = memory;
  const auto next = [memory](uint32_t slot) {
    return slot == memory + (kSlots - 1) * kSlotBytes ? memory : slot + kSlotBytes;
  };
  MIXPREC_ROLLED
  for (int step = 1 - kSlots; step < steps; ++step) {
    if (step >= 0) {
      ptx::cp_async_wait_group<kSlots - 2>();
      // Everyone's copies are here, and everyone is done with the slot that is filled next.
      ptx::sync_threads();
    }
    if (k_left > 0) {
      lhs.copy(filled, k_left);
      rhs.copy(filled + LhsLayout::kBytes, k_left);
      filled = next(filled);
      k_left -= kDepth;
    }
    ptx::cp_async_commit_group();  // empty ones keep the count
    if (step < 0) continue;
    multiply(ready, ready + LhsLayout::kBytes);
    ready = next(ready);
  }
  ptx::sync_threads();  // the slots are free
}

// A warp's part of the tile in shared memory, dense rows whose 16-byte chunks are turned around so
// that neither writing nor reading them meets twice in a bank. kTurn is by which rows: lanes that
// write at once differ in them.
template <class Sum_, int kRows_, int kColumns_, bool kBlocks>
struct Stage {
  using Sum = Sum_;
  static constexpr int kRows = kRows_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kChunk = static_cast<int>(16 / sizeof(Sum));
  static constexpr uint32_t kBytes = kRows * kColumns * sizeof(Sum);

  uint32_t base;

  MIXPREC_DEVICE uint32_t address(int row, int column) const {
    const int turn = kBlocks ? row / kChunk & 1 : (row & 3) * 2;
    const int chunk = column / kChunk ^ turn;
    return base + static_cast<uint32_t>(row * kColumns + chunk * kChunk + column % kChunk) *
                      static_cast<uint32_t>(sizeof(Sum));
  }
};

// Rows and columns of out that a warp has staged go to memory.
template <class S, class Acc>
MIXPREC_DEVICE void store_stage(const ProductArgs<Acc>& args, const S& stage, int64_t first_row,
                                int64_t first_column, int32_t batch) {
  using Sum = typename S::Sum;
  constexpr int kChunk = S::kChunk;
  constexpr int kAcross = S::kColumns / kChunk;
  const int64_t outer = batch / args.batch;
  const int64_t base = outer * args.epilogue.outer_stride +
                       (batch - outer * args.batch) * args.epilogue.batch_stride;
  const int64_t M = args.lhs.extent;
  const int64_t N = args.rhs.extent;
  Sum* const partials = args.partials == nullptr ? nullptr
                                                 : static_cast<Sum*>(args.partials) +
                                                       (blockIdx.y * args.batches + batch) * M * N;
  MIXPREC_ROLLED
  for (int i = static_cast<int>(ptx::lane_id()); i < S::kRows * kAcross; i += kWarpLanes) {
    const int64_t row = first_row + i / kAcross;
    const int64_t column = first_column + i % kAcross * kChunk;
    if (row >= M || column >= N) continue;
    const auto chunk =
        ptx::ld_shared<Pack<Sum, kChunk>>(stage.address(i / kAcross, i % kAcross * kChunk));
    const int valid = N - column < kChunk ? static_cast<int>(N - column) : kChunk;
    if (partials != nullptr) {
      Sum* const to = partials + row * N + column;
      if (valid == kChunk && N % kChunk == 0) {
        ptx::st_pack(to, chunk);
        continue;
      }
      MIXPREC_UNROLL
      for (int j = 0; j < kChunk; ++j) {
        if (j < valid) ptx::st(to + j, chunk[j]);
      }
      continue;
    }
    Acc values[kChunk];
    MIXPREC_UNROLL
    for (int j = 0; j < kChunk; ++j) values[j] = static_cast<Acc>(chunk[j]);
    store_finished(args.epilogue, values, base + row * args.epilogue.row_stride + column, column,
                   valid, args.aligned);
  }
}

// Blocks that share a multiprocessor, by what their sums leave of its registers.
template <class Policy>
constexpr int resident_blocks() {
  constexpr size_t kRegisters = Policy::kSumSets * sizeof(typename Policy::Sums) / 4;
  return Policy::kThreads == 256 ? 1 : kRegisters > 32 ? 2 : 3;
}

template <class Policy>
__global__ void __launch_bounds__(Policy::kThreads, resident_blocks<Policy>())
    mma_product(MIXPREC_GRID_CONSTANT(ProductArgs<typename Policy::Acc>) args) {
  constexpr int kWarpsDown = Policy::kThreads / kWarpLanes / Policy::kWarpsAcross;
  constexpr int kWarpRows = Policy::kM / kWarpsDown;
  constexpr int kWarpColumns = Policy::kN / Policy::kWarpsAcross;
  using WarpStage = Stage<typename Policy::Sum, kWarpRows, kWarpColumns, Policy::kBlocks>;
  MIXPREC_DYNAMIC_SHARED(bytes);
  const uint32_t memory = ptx::shared_address(bytes);
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int warp_row = warp / Policy::kWarpsAcross * kWarpRows;
  const int warp_column = warp % Policy::kWarpsAcross * kWarpColumns;
  const TilePlace place = tile_of_block(args.tiles_down, args.tiles_across);
  typename Policy::Sums sums;
  if constexpr (!Policy::kAnyMajor) {
    Policy::template run<true, true>(args, place, memory, warp_row, warp_column, sums);
  } else if (args.lhs.k_major) {
    if (args.rhs.k_major) {
      Policy::template run<true, true>(args, place, memory, warp_row, warp_column, sums);
    } else {
      Policy::template run<true, false>(args, place, memory, warp_row, warp_column, sums);
    }
  } else {
    if (args.rhs.k_major) {
      Policy::template run<false, true>(args, place, memory, warp_row, warp_column, sums);
    } else {
      Policy::template run<false, false>(args, place, memory, warp_row, warp_column, sums);
    }
  }
  const WarpStage stage{memory + static_cast<uint32_t>(warp) * WarpStage::kBytes};
  Policy::stage(sums, stage);
  ptx::sync_warp();
  store_stage(args, stage, int64_t{place.down} * Policy::kM + warp_row,
              int64_t{place.across} * Policy::kN + warp_column, place.batch);
}

// Launches the kernel of a policy; `partials` is null unless splits are summed apart.
template <class Policy>
void launch_product(CudaBackend& backend, const ProductArgs<typename Policy::Acc>& given,
                    const MmaTile& tile, int32_t splits) {
  constexpr int kBytes = Policy::kSlots * (Policy::kM + Policy::kN) * Policy::kDepth *
                         static_cast<int>(sizeof(typename Policy::Element));
  static_assert(kBytes >= Policy::kM * Policy::kN * static_cast<int>(sizeof(typename Policy::Sum)));
  check(tile.m == Policy::kM && tile.n == Policy::kN && tile.shared_bytes() == kBytes &&
            tile.threads == Policy::kThreads,
        "the table of tiles does not agree with a kernel");
  ProductArgs<typename Policy::Acc> args = given;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  args.tiles_down = static_cast<int32_t>(ceil_div(args.lhs.extent, Policy::kM));
  args.tiles_across = static_cast<int32_t>(ceil_div(args.rhs.extent, Policy::kN));
  args.split_steps = ceil_div(ceil_div(args.K, Policy::kDepth), splits);
  const int64_t tiles = int64_t{args.tiles_down} * args.tiles_across;
  const Dim3 blocks(static_cast<uint32_t>(tiles * args.batches), static_cast<uint32_t>(splits));
  launch<mma_product<Policy>>(backend.grid(blocks, Policy::kThreads, kBytes), args);
}

}  // namespace mixprec::cuda::mma_sm80
