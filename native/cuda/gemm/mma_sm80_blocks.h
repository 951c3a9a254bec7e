// How a warp reads slots of 32-bit and 64-bit elements, which ldmatrix has nothing for. A chunk of
// 16 bytes holds E elements; lane 4 * g + t reads E chunks, a block of E rows (from E * g on) times
// E steps of k (from E * t on), of which a warp has 8 * E rows and 4 * E steps: whichever way the
// operand is major. In fragments, row g is any of the block's and step t likewise: products are
// summed over all steps of k, and rows and columns are put in their places when sums are stored.
#pragma once

#include "cuda/ptx/mma.h"
#include "mma_sm80_product.h"

namespace mixprec::cuda::mma_sm80 {

// Of a warp's kRows rows of lhs, or columns of rhs.
template <class T, class Layout, int kRows>
class BlockReader {
 public:
  static constexpr int kEdge = Layout::kChunk;  // E
  static constexpr int kGroupRows = 8 * kEdge;
  static constexpr int kGroups = kRows / kGroupRows;
  static constexpr int kSteps = Layout::kDepth / (4 * kEdge);

  // `first`: the warp's first row in the tile.
  MIXPREC_DEVICE explicit BlockReader(int first) {
    const int g = static_cast<int>(ptx::lane_id()) / 4;
    const int t = static_cast<int>(ptx::lane_id()) % 4;
    offset_ = Layout::kKMajor ? Layout::offset(first + g * kEdge, t)
                              : Layout::offset(t * kEdge, first / kEdge + g);
  }

  // Element [i][j] of the block of a group of rows, at `step`: row i, step j of k.
  MIXPREC_DEVICE void read(uint32_t slot, int group, int step, T (&block)[kEdge][kEdge]) const {
    MIXPREC_UNROLL
    for (int line = 0; line < kEdge; ++line) {
      uint32_t at = slot;
      if constexpr (!Layout::kKMajor) {
        at += offset_ +
              static_cast<uint32_t>(group * 8 * 16 + (step * 4 * kEdge + line) * kLineBytes);
      } else {
        // In units of 128 bytes, of a line or two, the other half holds the next line or step.
        const int half = kLineBytes == 64 ? line % 2 : step;
        const int units = kLineBytes == 64 ? line / 2 : line;
        at += (offset_ ^ static_cast<uint32_t>(half * 64)) +
              static_cast<uint32_t>(units * 128 + group * kGroupRows * kLineBytes);
      }
      const auto chunk = ptx::ld_shared<Pack<T, kEdge>>(at);
      MIXPREC_UNROLL
      for (int i = 0; i < kEdge; ++i) {
        if constexpr (Layout::kKMajor) {
          block[line][i] = chunk[i];
        } else {
          block[i][line] = chunk[i];
        }
      }
    }
  }

 private:
  static constexpr int kLineBytes = Layout::kLineChunks * 16;
  static_assert(kSteps * kLineBytes == 64 || kSteps * kLineBytes == 256 || !Layout::kKMajor);
  uint32_t offset_;
};

// Sums of fragments of 16 x 8. Fragment [group of rows][p][group of columns][q] has rows 2 * p and
// 2 * p + 1 of blocks of lhs, and column q of those of rhs.
template <class Sum_, int kRows, int kColumns>
struct BlockSums {
  static constexpr int kEdge = static_cast<int>(16 / sizeof(Sum_));
  static constexpr int kRowGroups = kRows / (8 * kEdge);
  static constexpr int kColumnGroups = kColumns / (8 * kEdge);
  Sum_ at[kRowGroups][kEdge / 2][kColumnGroups][kEdge][4];

  // Calls body(sum) for each.
  template <class Body>
  MIXPREC_DEVICE void for_each(const Body& body) {
    MIXPREC_UNROLL
    for (int i = 0; i < kRowGroups; ++i) {
      MIXPREC_UNROLL
      for (int p = 0; p < kEdge / 2; ++p) {
        MIXPREC_UNROLL
        for (int j = 0; j < kColumnGroups; ++j) {
          MIXPREC_UNROLL
          for (int q = 0; q < kEdge; ++q) {
            MIXPREC_UNROLL
            for (int r = 0; r < 4; ++r) body(at[i][p][j][q][r], i, p, j, q, r);
          }
        }
      }
    }
  }
  MIXPREC_DEVICE void clear() {
    for_each([](Sum_& sum, int, int, int, int, int) { sum = 0; });
  }

  // Where sums [i][p][.][.][r] and [.][.][j][q][r] lie in the warp's tile.
  MIXPREC_DEVICE static int row_of(int i, int p, int r) {
    return (i * 8 + static_cast<int>(ptx::lane_id()) / 4) * kEdge + 2 * p + r / 2;
  }
  MIXPREC_DEVICE static int column_of(int j, int q, int r) {
    return (j * 8 + static_cast<int>(ptx::lane_id()) % 4 * 2 + r % 2) * kEdge + q;
  }

  template <class S>
  MIXPREC_DEVICE void stage(const S& stage) const {
    MIXPREC_UNROLL
    for (int i = 0; i < kRowGroups; ++i) {
      MIXPREC_UNROLL
      for (int p = 0; p < kEdge / 2; ++p) {
        MIXPREC_UNROLL
        for (int j = 0; j < kColumnGroups; ++j) {
          MIXPREC_UNROLL
          for (int r = 0; r < 4; ++r) {
            Pack<Sum_, kEdge> chunk;
            MIXPREC_UNROLL
            for (int q = 0; q < kEdge; ++q) chunk[q] = at[i][p][j][q][r];
            ptx::st_shared<Pack<Sum_, kEdge>>(stage.address(row_of(i, p, r), column_of(j, 0, r)),
                                              chunk);
          }
        }
      }
    }
  }
};

// What policies of blocks share: kM x kN with a warp for each kWarpRows x kWarpColumns.
template <class T, int kM_, int kN_, int kWarpRows, int kWarpColumns, int kSlots_>
struct BlockPolicy {
  using Element = T;
  using Sum = T;
  using Acc = T;
  using Sums = BlockSums<T, kWarpRows, kWarpColumns>;
  static constexpr int kSumSets = 1;
  static constexpr int kM = kM_;
  static constexpr int kN = kN_;
  static constexpr int kDepth = 16;
  static constexpr int kSlots = kSlots_;
  static constexpr int kWarpsAcross = kN / kWarpColumns;
  static constexpr int kThreads = kM / kWarpRows * kWarpsAcross * kWarpLanes;
  static constexpr bool kBlocks = true;
  static constexpr bool kAnyMajor = true;

  template <bool kKMajor>
  using LhsLayout = TileLayout<T, kM, kDepth, kKMajor, Reading::kBlocks>;
  template <bool kKMajor>
  using RhsLayout = TileLayout<T, kN, kDepth, kKMajor, Reading::kBlocks>;

  template <class S>
  MIXPREC_DEVICE static void stage(const Sums& sums, const S& stage) {
    sums.stage(stage);
  }
};

}  // namespace mixprec::cuda::mma_sm80
