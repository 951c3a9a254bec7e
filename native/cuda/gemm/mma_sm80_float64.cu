// Products of float64 by mma.sync: with fragments of m16n8k16 from sm_90 on, of m8n8k4 before.
#include "mma_sm80_blocks.h"
#include "mma_sm80_kinds.h"

namespace mixprec::cuda::mma_sm80 {
namespace {

template <int kM_, int kN_, int kWarpRows, int kWarpColumns, int kSlots_>
struct Float64Policy : BlockPolicy<double, kM_, kN_, kWarpRows, kWarpColumns, kSlots_> {
  using Base = BlockPolicy<double, kM_, kN_, kWarpRows, kWarpColumns, kSlots_>;
  using Sums = typename Base::Sums;
  static constexpr int kSteps = 2;  // of 8 steps of k, to a slot

  template <bool kLhsKMajor, bool kRhsKMajor>
  MIXPREC_DEVICE static void run(const ProductArgs<double>& args, const TilePlace& place,
                                 uint32_t memory, int warp_row, int warp_column, Sums& sums) {
    using Lhs = typename Base::template LhsLayout<kLhsKMajor>;
    using Rhs = typename Base::template RhsLayout<kRhsKMajor>;
    const BlockReader<double, Lhs, kWarpRows> lhs(warp_row);
    const BlockReader<double, Rhs, kWarpColumns> rhs(warp_column);
    sums.clear();
    for_each_slot<double, Lhs, Rhs, kSlots_, Base::kThreads>(
        args, place, memory, [&](uint32_t lhs_slot, uint32_t rhs_slot) {
#if defined(MIXPREC_CUDA_EMULATED)
          if (args.has_sm90) {
            multiply_wide(lhs, rhs, lhs_slot, rhs_slot, sums);
          } else {
            multiply_narrow(lhs, rhs, lhs_slot, rhs_slot, sums);
          }
#elif MIXPREC_HAS_SM90
          multiply_wide(lhs, rhs, lhs_slot, rhs_slot, sums);
#else
          multiply_narrow(lhs, rhs, lhs_slot, rhs_slot, sums);
#endif
        });
  }

  template <class L, class R>
  MIXPREC_DEVICE static void multiply_wide(const L& lhs, const R& rhs, uint32_t lhs_slot,
                                           uint32_t rhs_slot, Sums& sums) {
    double b[R::kGroups][kSteps][2][2];
    MIXPREC_UNROLL
    for (int j = 0; j < R::kGroups; ++j) {
      MIXPREC_UNROLL
      for (int step = 0; step < kSteps; ++step) rhs.read(rhs_slot, j, step, b[j][step]);
    }
    MIXPREC_UNROLL
    for (int i = 0; i < L::kGroups; ++i) {
      double a[kSteps][2][2];
      MIXPREC_UNROLL
      for (int step = 0; step < kSteps; ++step) lhs.read(lhs_slot, i, step, a[step]);
      // Register r of a has row r % 2 of the block, and the four k of step r / 4, r / 2 % 2.
      const double left[8] = {a[0][0][0], a[0][1][0], a[0][0][1], a[0][1][1],
                              a[1][0][0], a[1][1][0], a[1][0][1], a[1][1][1]};
      MIXPREC_UNROLL
      for (int j = 0; j < R::kGroups; ++j) {
        MIXPREC_UNROLL
        for (int q = 0; q < 2; ++q) {
          const double right[4] = {b[j][0][q][0], b[j][0][q][1], b[j][1][q][0], b[j][1][q][1]};
          ptx::mma_m16n8k16(sums.at[i][0][j][q], left, right);
        }
      }
    }
  }

  template <class L, class R>
  MIXPREC_DEVICE static void multiply_narrow(const L& lhs, const R& rhs, uint32_t lhs_slot,
                                             uint32_t rhs_slot, Sums& sums) {
    // Unrolled, it would take more registers than there are.
    MIXPREC_ROLLED
    for (int step = 0; step < kSteps; ++step) {
      double b[R::kGroups][2][2];
      MIXPREC_UNROLL
      for (int j = 0; j < R::kGroups; ++j) rhs.read(rhs_slot, j, step, b[j]);
      MIXPREC_UNROLL
      for (int i = 0; i < L::kGroups; ++i) {
        double a[2][2];
        lhs.read(lhs_slot, i, step, a);
        MIXPREC_UNROLL
        for (int k = 0; k < 2; ++k) {
          MIXPREC_UNROLL
          for (int j = 0; j < R::kGroups; ++j) {
            MIXPREC_UNROLL
            for (int q = 0; q < 2; ++q) {
              double(&d)[4] = sums.at[i][0][j][q];
              MIXPREC_UNROLL
              for (int row = 0; row < 2; ++row) {
                double pair[2] = {d[row * 2], d[row * 2 + 1]};
                ptx::mma_m8n8k4(pair, a[row][k], b[j][q][k]);
                d[row * 2] = pair[0];
                d[row * 2 + 1] = pair[1];
              }
            }
          }
        }
      }
    }
  }
};

}  // namespace

void float64_product(CudaBackend& backend, const ProductArgs<double>& args, const MmaTile& tile,
                     int32_t splits) {
  if (tile.m == 128) {
    launch_product<Float64Policy<128, 128, 64, 32, 4>>(backend, args, tile, splits);
  } else {
    launch_product<Float64Policy<64, 64, 32, 32, 3>>(backend, args, tile, splits);
  }
}

}  // namespace mixprec::cuda::mma_sm80
