// What the Hopper kernels are given, and how their shared memory is laid out.
#pragma once

#include "cuda/ptx/wgmma.h"
#include "epilogue.h"
#include "planes.h"

namespace mixprec::cuda {

// A tensor map of four dimensions, [w][z][rows][k] or [w][z][k][rows], and where a batch lies.
struct WgmmaOperand {
  TensorMap map;
  int32_t z_batch, z_outer, w_outer;  // coordinates to a step of the batch; 0 repeats
};

// What sums are turned into before the epilogue.
template <class T>
using WgmmaAcc = std::conditional_t<std::is_same_v<T, int8_t>, int64_t, float>;

template <class Acc>
struct WgmmaArgs {
  WgmmaOperand lhs;
  WgmmaOperand rhs;
  WgmmaOperand out;  // if `direct`: [w][z][M][N]
  int32_t M, N;
  int32_t steps;           // slots of the ring that the whole of K fills
  int32_t steps_to_split;  // of which a split makes this many
  int32_t splits;
  int32_t batch;
  int32_t batches;  // times outer
  int32_t cluster;
  int32_t clusters_down;  // clusters' tiles along M
  int32_t tiles_across;   // tiles along N
  int32_t group;          // clusters' tiles along M that are made together
  int32_t units;          // all tiles of a cluster: batches * splits * clusters_down * tiles_across
  bool direct;            // stored by bulk copies: alpha and bias, and no more
  bool aligned;           // four neighbours of out, and of what lies as it does, are one access
  // Where splits are summed apart, out is [split][batches][M][N].
  int32_t z_split;
  int64_t split_stride;
  EpilogueArgs<Acc> epilogue;
  const ProductRanges* ranges;  // where operands are planes
};

// A slot of the ring holds a tile of each operand, of every plane. Tiles and the chunks of the
// output begin where a pattern of the swizzle does, at multiples of 1024 bytes.
template <int kTileM, int kTileN, int kPlanes>
struct WgmmaLayout {
  static constexpr uint32_t kRowBytes = 128;
  static constexpr uint32_t kLhsBytes = kTileM * kRowBytes;
  static constexpr uint32_t kRhsBytes = kTileN * kRowBytes;
  static constexpr uint32_t kSlotBytes = (kLhsBytes + kRhsBytes) * kPlanes;
  static constexpr uint32_t kSlots = (192u << 10) / kSlotBytes < 8 ? (192u << 10) / kSlotBytes : 8;
  // Each of the eight consuming warps has two chunks of 16 rows of 128 bytes.
  static constexpr uint32_t kChunkBytes = 16 * kRowBytes;
  static constexpr uint32_t kChunks = kSlots * kSlotBytes;
  static constexpr uint32_t kBias = kChunks + 8 * 2 * kChunkBytes;  // [2][256] float32
  static constexpr uint32_t kBarriers = kBias + 2 * 256 * 4;
  static constexpr uint32_t kBytes = kBarriers + kSlots * 2 * 8;
  static_assert(kSlots >= 2 && kBytes <= (227u << 10));
};

// How many rows, or where these are dense k, a bulk copy of an operand takes: its share of the
// tile. A tile that is dense in rows has columns of 128 bytes of them, which are shared out whole,
// or, where they are odd in number, by k.
constexpr bool wgmma_shares_k(int rows, int row_bytes, int shares) {
  return rows * row_bytes / 128 % shares != 0;
}
constexpr int wgmma_box(bool k_dense, int rows, int row_bytes, int depth, int shares) {
  if (k_dense) return rows / shares;
  return wgmma_shares_k(rows, row_bytes, shares) ? depth / shares : depth;
}

inline constexpr int kWgmmaThreads = 384;  // a producing warpgroup and two that consume

// Where a block's tile is: the same for the producer and the consumers.
struct WgmmaPlace {
  int m, n;  // of the tile's first element
  int batch, outer, split;
  int first_step, steps;
};

// Clusters' tiles go down `group` of them, then across: those made at a time share rows of lhs and
// columns of rhs.
template <class Acc>
MIXPREC_DEVICE WgmmaPlace wgmma_place(const WgmmaArgs<Acc>& args, int unit, int rank, int tile_m,
                                      int tile_n) {
  const int tiles = args.clusters_down * args.tiles_across;
  const int product = unit / tiles;
  unit -= product * tiles;
  const int in_group = args.group * args.tiles_across;
  const int group = unit / in_group;
  unit -= group * in_group;
  const int left = args.clusters_down - group * args.group;
  const int height = left < args.group ? left : args.group;
  const int across = unit / height;
  WgmmaPlace place;
  place.m = ((group * args.group + unit - across * height) * args.cluster + rank) * tile_m;
  place.n = across * tile_n;
  place.split = product / args.batches;
  const int batch = product - place.split * args.batches;
  place.outer = batch / args.batch;
  place.batch = batch - place.outer * args.batch;
  place.first_step = place.split * args.steps_to_split;
  const int rest = args.steps - place.first_step;
  place.steps = rest < args.steps_to_split ? (rest > 0 ? rest : 0) : args.steps_to_split;
  return place;
}

}  // namespace mixprec::cuda
