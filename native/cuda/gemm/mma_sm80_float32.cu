// Products of float32 at its full precision by the tensor cores for bfloat16. An element is the sum
// of three of bfloat16, of 8 bits of its significand each: high, middle, low. Of the nine products
// of two elements' parts, six matter; the others are below 2^-24 of the whole.
//
// Tensor cores cut their sums off instead of rounding them, an error that grows with every step.
// So they sum 64 steps of k at most, which are then added to sums in float32.
//
// The exponent range: elements are multiplied by 2^23 first, and sums by 2^-46 at the end, so that
// every bit of every float32, subnormal ones too, is in the range of bfloat16. What is too large
// for that (2^104, or a sum of 2^82) becomes infinite, or NaN as infinities and NaN do. A tile that
// is not finite is made once more by ordinary multiplication, which gives what float32 gives.
#include "cuda/ptx/convert.h"
#include "mma_sm80_blocks.h"
#include "mma_sm80_kinds.h"

namespace mixprec::cuda::mma_sm80 {
namespace {

constexpr int kPlanes = 3;
constexpr float kScale = 0x1p23f;
constexpr float kUnscale = 0x1p-46f;
// Slots of 16 steps of k until the tensor cores' sums are added up.
constexpr int kSlotsAtOnce = 4;

// The planes of two neighbours along k.
MIXPREC_DEVICE void split_pair(float x, float y, uint32_t (&planes)[kPlanes]) {
  x *= kScale;
  y *= kScale;
  MIXPREC_UNROLL
  for (int plane = 0; plane < kPlanes; ++plane) {
    const uint32_t pair = ptx::narrow_bf16_pair(x, y);
    planes[plane] = pair;
    if (plane + 1 == kPlanes) break;
    // Exact: what is left has the bits that did not fit.
    x -= ptx::widen(BFloat16{static_cast<uint16_t>(pair)});
    y -= ptx::widen(BFloat16{static_cast<uint16_t>(pair >> 16)});
  }
}

template <int kM_, int kN_, int kWarpRows, int kWarpColumns>
struct PlanesPolicy : BlockPolicy<float, kM_, kN_, kWarpRows, kWarpColumns, 4> {
  using Base = BlockPolicy<float, kM_, kN_, kWarpRows, kWarpColumns, 4>;
  using Sums = typename Base::Sums;
  static constexpr int kSumSets = 2;

  template <bool kLhsKMajor, bool kRhsKMajor>
  MIXPREC_DEVICE static void run(const ProductArgs<float>& args, const TilePlace& place,
                                 uint32_t memory, int warp_row, int warp_column, Sums& sums) {
    using Lhs = typename Base::template LhsLayout<kLhsKMajor>;
    using Rhs = typename Base::template RhsLayout<kRhsKMajor>;
    sums.clear();
    {
      Sums parts;  // of the slots since sums were last added up
      parts.clear();
      int slots = 0;
      const auto add_up = [&] {
        sums.for_each([&](float& sum, int i, int p, int j, int q, int r) {
          sum += parts.at[i][p][j][q][r] * kUnscale;
        });
        parts.clear();
        slots = 0;
      };
      for_each_slot<float, Lhs, Rhs, Base::kSlots, Base::kThreads>(
          args, place, memory, [&](uint32_t lhs_slot, uint32_t rhs_slot) {
            multiply_planes<Lhs, Rhs>(lhs_slot, rhs_slot, warp_row, warp_column, parts);
            if (++slots == kSlotsAtOnce) add_up();
          });
      add_up();
    }
    if (!ptx::sync_threads_or(!are_finite(sums))) return;
    sums.clear();
    for_each_slot<float, Lhs, Rhs, Base::kSlots, Base::kThreads>(
        args, place, memory, [&](uint32_t lhs_slot, uint32_t rhs_slot) {
          multiply_exactly<Lhs, Rhs>(lhs_slot, rhs_slot, warp_row, warp_column, sums);
        });
  }

  template <int kRows>
  MIXPREC_DEVICE static void split_rows(const float (&block)[4][4], int first,
                                        uint32_t (&planes)[kPlanes][kRows][2]) {
    MIXPREC_UNROLL
    for (int i = 0; i < kRows; ++i) {
      MIXPREC_UNROLL
      for (int k = 0; k < 2; ++k) {
        uint32_t pair[kPlanes];
        split_pair(block[first + i][2 * k], block[first + i][2 * k + 1], pair);
        MIXPREC_UNROLL
        for (int plane = 0; plane < kPlanes; ++plane) planes[plane][i][k] = pair[plane];
      }
    }
  }

  template <class Lhs, class Rhs>
  MIXPREC_DEVICE static void multiply_planes(uint32_t lhs_slot, uint32_t rhs_slot, int warp_row,
                                             int warp_column, Sums& sums) {
    const BlockReader<float, Lhs, kWarpRows> lhs(warp_row);
    const BlockReader<float, Rhs, kWarpColumns> rhs(warp_column);
    static_assert(decltype(rhs)::kGroups == 1, "the planes of one group at a time");
    float block[4][4];
    uint32_t b[kPlanes][4][2];
    rhs.read(rhs_slot, 0, 0, block);
    split_rows(block, 0, b);
    MIXPREC_UNROLL
    for (int i = 0; i < decltype(lhs)::kGroups; ++i) {
      lhs.read(lhs_slot, i, 0, block);
      MIXPREC_UNROLL
      for (int p = 0; p < 2; ++p) {
        uint32_t a[kPlanes][2][2];
        split_rows(block, 2 * p, a);
        // The smallest products first: all whose planes' numbers add up to two at most.
        MIXPREC_UNROLL
        for (int total = kPlanes - 1; total >= 0; --total) {
          MIXPREC_UNROLL
          for (int left = 0; left <= total; ++left) {
            const uint32_t rows[4] = {a[left][0][0], a[left][1][0], a[left][0][1], a[left][1][1]};
            MIXPREC_UNROLL
            for (int q = 0; q < 4; ++q) {
              ptx::mma_m16n8k16<BFloat16>(sums.at[i][p][0][q], rows, b[total - left][q]);
            }
          }
        }
      }
    }
  }

  // Element `at` of row `row` of a tile along k.
  template <class Layout>
  MIXPREC_DEVICE static float element(uint32_t slot, int row, int k) {
    const int line = Layout::kKMajor ? row : k;
    const int at = Layout::kKMajor ? k : row;
    return ptx::ld_shared<float>(slot + Layout::offset(line, at / 4) +
                                 static_cast<uint32_t>(at % 4 * 4));
  }

  // For tiles with numbers that planes have no room for, which are few: no thought of speed.
  template <class Lhs, class Rhs>
  MIXPREC_DEVICE static void multiply_exactly(uint32_t lhs_slot, uint32_t rhs_slot, int warp_row,
                                              int warp_column, Sums& sums) {
    MIXPREC_ROLLED
    for (int k = 0; k < Base::kDepth; ++k) {
      float a[Sums::kRowGroups][2][2];
      float b[4][2];
      MIXPREC_UNROLL
      for (int i = 0; i < Sums::kRowGroups * 4; ++i) {
        const int row = warp_row + Sums::row_of(i / 4, i / 2 % 2, i % 2 * 2);
        a[i / 4][i / 2 % 2][i % 2] = element<Lhs>(lhs_slot, row, k);
      }
      MIXPREC_UNROLL
      for (int i = 0; i < 8; ++i) {
        b[i / 2][i % 2] = element<Rhs>(rhs_slot, warp_column + Sums::column_of(0, i / 2, i % 2), k);
      }
      sums.for_each([&](float& sum, int i, int p, int, int q, int r) {
        sum += a[i][p][r / 2] * b[q][r % 2];
      });
    }
  }

  MIXPREC_DEVICE static bool are_finite(Sums& sums) {
    bool finite = true;
    sums.for_each([&](float& sum, int, int, int, int, int) {
      finite = finite && (float_bits(sum) & 0x7f800000u) != 0x7f800000u;
    });
    return finite;
  }
};

}  // namespace

void float32_product(CudaBackend& backend, const ProductArgs<float>& args, const MmaTile& tile,
                     int32_t splits) {
  if (tile.m == 128) {
    launch_product<PlanesPolicy<128, 128, 64, 32>>(backend, args, tile, splits);
  } else {
    launch_product<PlanesPolicy<64, 64, 32, 32>>(backend, args, tile, splits);
  }
}

}  // namespace mixprec::cuda::mma_sm80
