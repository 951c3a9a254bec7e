// Products of float32 that is rounded for the tensor cores on its way to them: to TF32, or to
// bfloat16.
#include "cuda/ptx/convert.h"
#include "mma_sm80_blocks.h"
#include "mma_sm80_kinds.h"

namespace mixprec::cuda::mma_sm80 {
namespace {

template <int kM_, int kN_, int kWarpRows, int kWarpColumns>
struct RoundingPolicy : BlockPolicy<float, kM_, kN_, kWarpRows, kWarpColumns, 4> {
  using Base = BlockPolicy<float, kM_, kN_, kWarpRows, kWarpColumns, 4>;
  using Sums = typename Base::Sums;

  template <bool kLhsKMajor, bool kRhsKMajor>
  MIXPREC_DEVICE static void run(const ProductArgs<float>& args, const TilePlace& place,
                                 uint32_t memory, int warp_row, int warp_column, Sums& sums) {
    using Lhs = typename Base::template LhsLayout<kLhsKMajor>;
    using Rhs = typename Base::template RhsLayout<kRhsKMajor>;
    const BlockReader<float, Lhs, kWarpRows> lhs(warp_row);
    const BlockReader<float, Rhs, kWarpColumns> rhs(warp_column);
    const bool to_tf32 = args.precision == MatmulPrecision::kHigh;
    sums.clear();
    for_each_slot<float, Lhs, Rhs, Base::kSlots, Base::kThreads>(
        args, place, memory, [&](uint32_t lhs_slot, uint32_t rhs_slot) {
          if (to_tf32) {
            multiply_tf32(lhs, rhs, lhs_slot, rhs_slot, sums);
          } else {
            multiply_bf16(lhs, rhs, lhs_slot, rhs_slot, sums);
          }
        });
  }

  template <class Reader>
  MIXPREC_DEVICE static void read_tf32(const Reader& reader, uint32_t slot, int group,
                                       uint32_t (&words)[4][4]) {
    float block[4][4];
    reader.read(slot, group, 0, block);
    MIXPREC_UNROLL
    for (int i = 0; i < 4; ++i) {
      MIXPREC_UNROLL
      for (int k = 0; k < 4; ++k) words[i][k] = ptx::tf32_bits(block[i][k]);
    }
  }

  template <class L, class R>
  MIXPREC_DEVICE static void multiply_tf32(const L& lhs, const R& rhs, uint32_t lhs_slot,
                                           uint32_t rhs_slot, Sums& sums) {
    uint32_t b[R::kGroups][4][4];
    MIXPREC_UNROLL
    for (int j = 0; j < R::kGroups; ++j) read_tf32(rhs, rhs_slot, j, b[j]);
    MIXPREC_UNROLL
    for (int i = 0; i < L::kGroups; ++i) {
      uint32_t a[4][4];
      read_tf32(lhs, lhs_slot, i, a);
      MIXPREC_UNROLL
      for (int k = 0; k < 4; k += 2) {
        MIXPREC_UNROLL
        for (int p = 0; p < 2; ++p) {
          const uint32_t left[4] = {a[2 * p][k], a[2 * p + 1][k], a[2 * p][k + 1],
                                    a[2 * p + 1][k + 1]};
          MIXPREC_UNROLL
          for (int j = 0; j < R::kGroups; ++j) {
            MIXPREC_UNROLL
            for (int q = 0; q < 4; ++q) {
              const uint32_t right[2] = {b[j][q][k], b[j][q][k + 1]};
              ptx::mma_m16n8k8_tf32(sums.at[i][p][j][q], left, right);
            }
          }
        }
      }
    }
  }

  template <class Reader>
  MIXPREC_DEVICE static void read_bf16(const Reader& reader, uint32_t slot, int group,
                                       uint32_t (&words)[4][2]) {
    float block[4][4];
    reader.read(slot, group, 0, block);
    MIXPREC_UNROLL
    for (int i = 0; i < 4; ++i) {
      MIXPREC_UNROLL
      for (int k = 0; k < 2; ++k) {
        words[i][k] = ptx::narrow_bf16_pair(block[i][2 * k], block[i][2 * k + 1]);
      }
    }
  }

  template <class L, class R>
  MIXPREC_DEVICE static void multiply_bf16(const L& lhs, const R& rhs, uint32_t lhs_slot,
                                           uint32_t rhs_slot, Sums& sums) {
    uint32_t b[R::kGroups][4][2];
    MIXPREC_UNROLL
    for (int j = 0; j < R::kGroups; ++j) read_bf16(rhs, rhs_slot, j, b[j]);
    MIXPREC_UNROLL
    for (int i = 0; i < L::kGroups; ++i) {
      uint32_t a[4][2];
      read_bf16(lhs, lhs_slot, i, a);
      MIXPREC_UNROLL
      for (int p = 0; p < 2; ++p) {
        const uint32_t left[4] = {a[2 * p][0], a[2 * p + 1][0], a[2 * p][1], a[2 * p + 1][1]};
        MIXPREC_UNROLL
        for (int j = 0; j < R::kGroups; ++j) {
          MIXPREC_UNROLL
          for (int q = 0; q < 4; ++q) {
            ptx::mma_m16n8k16<BFloat16>(sums.at[i][p][j][q], left, b[j][q]);
          }
        }
      }
    }
  }
};

}  // namespace

void tf32_product(CudaBackend& backend, const ProductArgs<float>& args, const MmaTile& tile,
                  int32_t splits) {
  if (tile.m == 128) {
    launch_product<RoundingPolicy<128, 128, 64, 64>>(backend, args, tile, splits);
  } else {
    launch_product<RoundingPolicy<64, 64, 32, 32>>(backend, args, tile, splits);
  }
}

}  // namespace mixprec::cuda::mma_sm80
