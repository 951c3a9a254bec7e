// As simt.cu, for one case and in few lines: what is rare need not be as fast as can be, but has to
// cost next to nothing where it is not needed.
#include "wide_range.h"

#include <algorithm>

#include "cuda/ptx/barrier.h"
#include "epilogue.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kOwn = 4;  // rows and columns of a thread

struct WideArgs {
  GemmOperand lhs, rhs;
  int64_t M, N, K;
  int64_t batch;
  int64_t tiles_across, tiles_down, tiles;
  int64_t share;  // elements of one split
  int32_t splits;
  bool aligned;
  const ProductRanges* ranges;
  EpilogueArgs<float> epilogue;
};

using Strip = float[kDepth][kTile + 4];

// kDepth steps of k from `k` on for kTile rows of lhs, or columns of rhs, from `first` on.
MIXPREC_DEVICE void load_strip(Strip& strip, const float* data, int64_t first, int64_t extent,
                               int64_t extent_stride, int64_t k, int64_t K, int64_t k_stride) {
  for (int at = static_cast<int>(threadIdx.x); at < kTile * kDepth; at += kThreads) {
    const int along = k_stride == 1 ? at / kDepth : at % kTile;
    const int depth = k_stride == 1 ? at % kDepth : at / kTile;
    float value = 0;
    if (first + along < extent && k + depth < K) {
      value = ptx::ld(data + (first + along) * extent_stride + (k + depth) * k_stride);
    }
    strip[depth][along] = value;
  }
}

__global__ void __launch_bounds__(kThreads) wide_product(MIXPREC_GRID_CONSTANT(WideArgs) args) {
  if (ranges_fit(args.ranges)) return;
  MIXPREC_SHARED(lhs_strip, Strip);
  MIXPREC_SHARED(rhs_strip, Strip);
  const int row = static_cast<int>(threadIdx.x) / (kTile / kOwn) * kOwn;
  const int column = static_cast<int>(threadIdx.x) % (kTile / kOwn) * kOwn;
  const int64_t in_matrix = args.tiles_down * args.tiles_across;
  for (int64_t tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
    const int64_t matrix = tile / in_matrix;
    const int64_t in_tile = tile - matrix * in_matrix;
    const int64_t down = in_tile / args.tiles_across;
    const int64_t outer = matrix / args.batch;
    const int64_t inner = matrix - outer * args.batch;
    const int64_t m = down * kTile;
    const int64_t n = (in_tile - down * args.tiles_across) * kTile;
    const float* lhs = static_cast<const float*>(args.lhs.data) + outer * args.lhs.outer_stride +
                       inner * args.lhs.batch_stride;
    const float* rhs = static_cast<const float*>(args.rhs.data) + outer * args.rhs.outer_stride +
                       inner * args.rhs.batch_stride;
    float sums[kOwn][kOwn] = {};
    for (int64_t k = 0; k < args.K; k += kDepth) {
      load_strip(lhs_strip, lhs, m, args.M, args.lhs.row_stride, k, args.K, args.lhs.col_stride);
      load_strip(rhs_strip, rhs, n, args.N, args.rhs.col_stride, k, args.K, args.rhs.row_stride);
      ptx::sync_threads();
      // What is beyond K is left out: 0 times infinity would be NaN.
      const int depth = args.K - k < kDepth ? static_cast<int>(args.K - k) : kDepth;
      for (int step = 0; step < depth; ++step) {
        MIXPREC_UNROLL
        for (int i = 0; i < kOwn; ++i) {
          MIXPREC_UNROLL
          for (int j = 0; j < kOwn; ++j) {
            sums[i][j] =
                multiply_add(lhs_strip[step][row + i], rhs_strip[step][column + j], sums[i][j]);
          }
        }
      }
      ptx::sync_threads();
    }
    const int64_t rest = args.N - n - column;
    const int valid = rest < kOwn ? static_cast<int>(rest) : kOwn;
    if (valid <= 0) continue;
    const int64_t base = outer * args.epilogue.outer_stride + inner * args.epilogue.batch_stride;
    // In loops that are not unrolled: the code of the epilogue is there once.
    MIXPREC_ROLLED
    for (int i = 0; i < kOwn && m + row + i < args.M; ++i) {
      MIXPREC_ROLLED
      for (int split = 0; split < args.splits; ++split) {
        float values[kOwn] = {};
        MIXPREC_UNROLL
        for (int known = 0; known < kOwn; ++known) {
          if (known != i || split > 0) continue;
          MIXPREC_UNROLL
          for (int j = 0; j < kOwn; ++j) values[j] = sums[known][j];
        }
        const int64_t at =
            base + split * args.share + (m + row + i) * args.epilogue.row_stride + n + column;
        store_finished<float, kOwn>(args.epilogue, values, at, n + column, valid, args.aligned);
      }
    }
  }
}

}  // namespace

void multiply_wide_range(CudaBackend& backend, const GemmDesc& desc, int32_t splits,
                         const ProductRanges* ranges) {
  WideArgs args{};
  args.lhs = desc.lhs;
  args.rhs = desc.rhs;
  args.M = desc.M;
  args.N = desc.N;
  args.K = desc.K;
  args.batch = desc.batch;
  args.tiles_across = (desc.N + kTile - 1) / kTile;
  args.tiles_down = (desc.M + kTile - 1) / kTile;
  args.tiles = args.tiles_across * args.tiles_down * desc.batch * desc.outer;
  args.share = desc.outer * desc.batch * desc.M * desc.N;
  args.splits = splits;
  args.aligned = is_aligned_to(desc, kOwn);
  args.ranges = ranges;
  args.epilogue = epilogue_args<float>(desc);
  const int64_t most = int64_t{4} * backend.properties().multiprocessors;
  const auto blocks = static_cast<uint32_t>(std::min(args.tiles, most));
  launch<wide_product>(backend.grid(blocks, kThreads), args);
}

}  // namespace mixprec::cuda
