// What a warp does with slots of 16-bit floats: ldmatrix brings them to fragments, transposed where
// the operand is not major in k, and mma.sync multiplies. The same for bytes that are major in k.
#pragma once

#include "cuda/ptx/matrix.h"
#include "cuda/ptx/mma.h"
#include "mma_sm80_product.h"

namespace mixprec::cuda::mma_sm80 {

// The fragments of a warp's kRows rows of lhs, or columns of rhs, from tiles of 16-bit elements, 16
// steps of k at a time. Bytes count as half an element.
template <class Layout, int kRows, bool kIsLhs>
class MatrixReader {
 public:
  static constexpr int kCount = kRows / 16;

  // `first`: the warp's first row in the tile.
  MIXPREC_DEVICE explicit MatrixReader(int first) {
    const int lane = static_cast<int>(ptx::lane_id());
    // The four matrices of a load: for lhs rows, rows + 8, and both of the next 8 steps of k; for
    // rhs it is k that comes first.
    const int low = lane / 8 % 2;
    const int high = lane / 16;
    const int row = lane % 8 + (kIsLhs ? low : high) * 8;
    const int k = kIsLhs ? high : low;
    if constexpr (Layout::kKMajor) {
      MIXPREC_UNROLL
      for (int i = 0; i < kOffsets; ++i) offsets_[i] = Layout::offset(first + row, i * 2 + k);
    } else {
      MIXPREC_UNROLL
      for (int i = 0; i < kOffsets; ++i) {
        offsets_[i] = Layout::offset(lane % 8 + k * 8, (first + row) / 8 + i * 2);
      }
    }
  }

  // Step `step` of 16 steps of k.
  MIXPREC_DEVICE void read(uint32_t slot, int step, uint32_t (&registers)[kCount][4]) const {
    MIXPREC_UNROLL
    for (int i = 0; i < kCount; ++i) {
      if constexpr (Layout::kKMajor) {
        ptx::ldmatrix(registers[i],
                      slot + offsets_[step] + static_cast<uint32_t>(i * 16 * kLineBytes));
      } else {
        ptx::ldmatrix_trans(registers[i],
                            slot + offsets_[i] + static_cast<uint32_t>(step * 16 * kLineBytes));
      }
    }
  }

 private:
  static constexpr int kLineBytes = Layout::kLineChunks * 16;
  static constexpr int kOffsets = Layout::kKMajor ? Layout::kLineChunks / 2 : kCount;
  uint32_t offsets_[kOffsets];
};

// Sums of fragments of 16 x 8, and their way to a stage.
template <class Sum_, int kWarpRows, int kWarpColumns>
struct FragmentSums {
  static constexpr int kRows = kWarpRows;
  static constexpr int kColumns = kWarpColumns;
  Sum_ at[kWarpRows / 16][kWarpColumns / 8][4];

  MIXPREC_DEVICE void clear() {
    MIXPREC_UNROLL
    for (int i = 0; i < kWarpRows / 16; ++i) {
      MIXPREC_UNROLL
      for (int j = 0; j < kWarpColumns / 8; ++j) {
        MIXPREC_UNROLL
        for (int r = 0; r < 4; ++r) at[i][j][r] = 0;
      }
    }
  }

  template <class S>
  MIXPREC_DEVICE void stage(const S& stage) const {
    const int lane = static_cast<int>(ptx::lane_id());
    MIXPREC_UNROLL
    for (int i = 0; i < kWarpRows / 16; ++i) {
      MIXPREC_UNROLL
      for (int j = 0; j < kWarpColumns / 8; ++j) {
        MIXPREC_UNROLL
        for (int half = 0; half < 2; ++half) {
          Pack<Sum_, 2> pair;
          pair[0] = at[i][j][half * 2];
          pair[1] = at[i][j][half * 2 + 1];
          ptx::st_shared<Pack<Sum_, 2>>(
              stage.address(i * 16 + half * 8 + lane / 4, j * 8 + lane % 4 * 2), pair);
        }
      }
    }
  }
};

// The sums of a tile that is read by ldmatrix; an instruction, which is `multiply`, takes 32 bytes
// of k.
template <class T, class Lhs, class Rhs, class Policy, class Multiply>
MIXPREC_DEVICE void sum_matrices(const ProductArgs<typename Policy::Acc>& args,
                                 const TilePlace& place, uint32_t memory, int warp_row,
                                 int warp_column, typename Policy::Sums& sums,
                                 const Multiply& multiply) {
  constexpr int kRows = Policy::Sums::kRows;
  constexpr int kColumns = Policy::Sums::kColumns;
  constexpr int kSteps = Policy::kDepth * static_cast<int>(sizeof(T)) / 32;
  const MatrixReader<Lhs, kRows, true> lhs(warp_row);
  const MatrixReader<Rhs, kColumns, false> rhs(warp_column);
  sums.clear();
  for_each_slot<T, Lhs, Rhs, Policy::kSlots, Policy::kThreads>(
      args, place, memory, [&](uint32_t lhs_slot, uint32_t rhs_slot) {
        MIXPREC_UNROLL
        for (int step = 0; step < kSteps; ++step) {
          uint32_t a[kRows / 16][4];
          uint32_t b[kColumns / 16][4];
          lhs.read(lhs_slot, step, a);
          rhs.read(rhs_slot, step, b);
          MIXPREC_UNROLL
          for (int i = 0; i < kRows / 16; ++i) {
            MIXPREC_UNROLL
            for (int j = 0; j < kColumns / 8; ++j) {
              const uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
              multiply(sums.at[i][j], a[i], pair);
            }
          }
        }
      });
}

// kM x kN with a warp for each kWarpRows x kWarpColumns.
template <int kM_, int kN_, int kWarpRows, int kWarpColumns>
struct HalfPolicy {
  using Element = uint16_t;
  using Sum = float;
  using Acc = float;
  using Sums = FragmentSums<float, kWarpRows, kWarpColumns>;
  static constexpr int kSumSets = 1;
  static constexpr int kM = kM_;
  static constexpr int kN = kN_;
  static constexpr int kDepth = 32;
  static constexpr int kSlots = 4;
  static constexpr int kWarpsAcross = kN / kWarpColumns;
  static constexpr int kThreads = kM / kWarpRows * kWarpsAcross * kWarpLanes;
  static constexpr bool kBlocks = false;
  static constexpr bool kAnyMajor = true;

  template <bool kLhsKMajor, bool kRhsKMajor>
  MIXPREC_DEVICE static void run(const ProductArgs<Acc>& args, const TilePlace& place,
                                 uint32_t memory, int warp_row, int warp_column, Sums& sums) {
    if (args.dtype == DType::kFloat16) {
      run_as<Float16, kLhsKMajor, kRhsKMajor>(args, place, memory, warp_row, warp_column, sums);
    } else {
      run_as<BFloat16, kLhsKMajor, kRhsKMajor>(args, place, memory, warp_row, warp_column, sums);
    }
  }

  template <class T, bool kLhsKMajor, bool kRhsKMajor>
  MIXPREC_DEVICE static void run_as(const ProductArgs<Acc>& args, const TilePlace& place,
                                    uint32_t memory, int warp_row, int warp_column, Sums& sums) {
    using Lhs = TileLayout<T, kM, kDepth, kLhsKMajor, Reading::kMatrices>;
    using Rhs = TileLayout<T, kN, kDepth, kRhsKMajor, Reading::kMatrices>;
    sum_matrices<T, Lhs, Rhs, HalfPolicy>(
        args, place, memory, warp_row, warp_column, sums,
        [](float(&d)[4], const uint32_t(&x)[4], const uint32_t(&y)[2]) {
          ptx::mma_m16n8k16<T>(d, x, y);
        });
  }

  template <class S>
  MIXPREC_DEVICE static void stage(const Sums& sums, const S& stage) {
    sums.stage(stage);
  }
};

}  // namespace mixprec::cuda::mma_sm80
