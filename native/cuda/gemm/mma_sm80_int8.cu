// Products of int8, summed in int32, by mma.sync. Fragments are those of 16-bit elements with twice
// as many steps of k.
#include "mma_sm80_half.h"
#include "mma_sm80_kinds.h"

namespace mixprec::cuda::mma_sm80 {
namespace {

template <int kM_, int kN_, int kWarpRows, int kWarpColumns>
struct Int8Policy {
  using Element = int8_t;
  using Sum = int32_t;
  using Acc = int64_t;
  using Sums = FragmentSums<int32_t, kWarpRows, kWarpColumns>;
  static constexpr int kSumSets = 1;
  static constexpr int kM = kM_;
  static constexpr int kN = kN_;
  static constexpr int kDepth = 64;
  static constexpr int kSlots = 4;
  static constexpr int kWarpsAcross = kN / kWarpColumns;
  static constexpr int kThreads = kM / kWarpRows * kWarpsAcross * kWarpLanes;
  static constexpr bool kBlocks = false;
  static constexpr bool kAnyMajor = false;  // ldmatrix transposes elements of 16 bits only

  template <bool kLhsKMajor, bool kRhsKMajor>
  MIXPREC_DEVICE static void run(const ProductArgs<Acc>& args, const TilePlace& place,
                                 uint32_t memory, int warp_row, int warp_column, Sums& sums) {
    using Lhs = TileLayout<int8_t, kM, kDepth, true, Reading::kMatrices>;
    using Rhs = TileLayout<int8_t, kN, kDepth, true, Reading::kMatrices>;
    sum_matrices<int8_t, Lhs, Rhs, Int8Policy>(
        args, place, memory, warp_row, warp_column, sums,
        [](int32_t(&d)[4], const uint32_t(&x)[4], const uint32_t(&y)[2]) {
          ptx::mma_m16n8k32_s8(d, x, y);
        });
  }

  template <class S>
  MIXPREC_DEVICE static void stage(const Sums& sums, const S& stage) {
    sums.stage(stage);
  }
};

}  // namespace

void int8_product(CudaBackend& backend, const ProductArgs<int64_t>& args, const MmaTile& tile,
                  int32_t splits) {
  if (tile.m == 128) {
    launch_product<Int8Policy<128, 128, 64, 64>>(backend, args, tile, splits);
  } else {
    launch_product<Int8Policy<64, 64, 32, 32>>(backend, args, tile, splits);
  }
}

}  // namespace mixprec::cuda::mma_sm80
