// A large matrix times a few vectors. Each element of the matrix is read once. Where its rows lie
// along k, warps sum products of a few rows; where they lie across, threads sum columns. Either way
// k is dealt out within the block, and the shares are added up in order.
#include "gemv.h"

#include <algorithm>

#include "cuda/kernels/reduce_block.h"
#include "cuda/tensors.h"
#include "finish.h"
#include "gemv_sums.h"

namespace mixprec::cuda {
namespace {

using namespace gemv;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;

// Adds up the shares of an element of one of the results, and stores it.
MIXPREC_DEVICE void store_sum(const GemvArgs& args, const float* first, int shares, int stride,
                              int64_t row, int vector, int64_t batch) {
  float values[1] = {first[0]};
  for (int i = 1; i < shares; ++i) values[0] += first[i * stride];
  vector += args.first;
  if (args.partials != nullptr) {
    // Of rows of out, one result a vector; or of its only column.
    const int64_t at = args.rows_are_columns ? vector * args.rows + row : row;
    const int64_t matrix = (blockIdx.z * args.batches + batch) * args.rows * args.total;
    ptx::st(args.partials + matrix + at, values[0]);
    return;
  }
  const int64_t outer = batch / args.batch;
  const int64_t at = outer * args.epilogue.outer_stride +
                     (batch - outer * args.batch) * args.epilogue.batch_stride +
                     row * args.out_row + vector * args.out_vector;
  store_finished(args.epilogue, values, at, args.rows_are_columns ? row : 0, 1, false);
}

MIXPREC_DEVICE GemvPlace place_of(const GemvArgs& args, int64_t batch) {
  const int64_t outer = batch / args.batch;
  const int64_t inner = batch - outer * args.batch;
  GemvPlace place;
  place.matrix_base = outer * args.matrix_outer + inner * args.matrix_batch;
  place.vectors_base = outer * args.vectors_outer + inner * args.vectors_batch;
  place.k_begin = blockIdx.z * args.share;
  place.k_end = place.k_begin + args.share;
  if (place.k_begin > args.K) place.k_begin = args.K;
  if (place.k_end > args.K) place.k_end = args.K;
  return place;
}

constexpr int kRowsToWarp = 4;

// Rows along k: `ways` warps share each kRowsToWarp rows.
template <int kVectors>
__global__ void __launch_bounds__(kThreads) gemv_rows(MIXPREC_GRID_CONSTANT(GemvArgs) args) {
  constexpr int kRows = kRowsToWarp;
  constexpr int kElements = kVectors * kRows;
  MIXPREC_SHARED(shared, float[kWarps * kElements]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int groups = kWarps / args.ways;
  const int group = warp / args.ways;
  const int way = warp % args.ways;
  const int64_t block_row = int64_t{blockIdx.x} * groups * kRows;
  const int64_t first = block_row + group * kRows;
  const int64_t left = args.rows - first;
  const int rows = left < kRows ? static_cast<int>(left) : kRows;

  for (int64_t batch = blockIdx.y; batch < args.batches; batch += gridDim.y) {
    const GemvPlace place = place_of(args, batch);
    float sums[kVectors][kRows] = {};
    if (rows > 0) {
      by_element(args, [&](auto tag, auto rounds) {
        using T = typename decltype(tag)::type;
        constexpr int kChunk = static_cast<int>(16 / sizeof(T));
        const T* matrix =
            static_cast<const T*>(args.matrix) + place.matrix_base + first * args.line_stride;
        const T* vectors = static_cast<const T*>(args.vectors) + place.vectors_base;
        const int64_t k = place.k_begin + (way * kWarpLanes + lane) * kChunk;
        add_rows<decltype(rounds)::value, T, kVectors, kRows, kVectors == 1 ? 2 : 1>(
            args, matrix, vectors, rows, k, place.k_end, int64_t{args.ways} * kWarpLanes * kChunk,
            sums);
      });
    }
    MIXPREC_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      MIXPREC_UNROLL
      for (int r = 0; r < kRows; ++r) {
        sums[v][r] = warp_reduce(sums[v][r], AddCombine());
        if (lane == 0) shared[warp * kElements + v * kRows + r] = sums[v][r];
      }
    }
    ptx::sync_threads();
    for (int i = static_cast<int>(threadIdx.x); i < groups * kElements; i += kThreads) {
      const int from = i / kElements;
      const int vector = i % kElements / kRows;
      const int64_t row = block_row + from * kRows + i % kRows;
      if (vector >= args.count || row >= args.rows) continue;
      store_sum(args, shared + from * args.ways * kElements + i % kElements, args.ways, kElements,
                row, vector, batch);
    }
    ptx::sync_threads();
  }
}

// Rows across: `ways` lanes of a warp have a chunk of them each, the others further steps of k.
template <int kVectors>
__global__ void __launch_bounds__(kThreads) gemv_columns(MIXPREC_GRID_CONSTANT(GemvArgs) args) {
  constexpr int kMostAcross = 64;
  MIXPREC_SHARED(shared, float[kWarps][kVectors][kMostAcross]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int deep = kWarpLanes / args.ways;

  for (int64_t batch = blockIdx.y; batch < args.batches; batch += gridDim.y) {
    const GemvPlace place = place_of(args, batch);
    int across = 0;
    by_element(args, [&](auto tag, auto rounds) {
      using T = typename decltype(tag)::type;
      constexpr int kChunk = static_cast<int>(16 / sizeof(T));
      across = args.ways * kChunk;
      const int chunk = lane % args.ways * kChunk;
      const int64_t first = int64_t{blockIdx.x} * across + chunk;
      const int64_t left = args.rows - first;
      const int valid = left < 0 ? 0 : left < kChunk ? static_cast<int>(left) : kChunk;
      float sums[kVectors][kChunk] = {};
      if (valid > 0) {
        const T* matrix = static_cast<const T*>(args.matrix) + place.matrix_base + first;
        const T* vectors = static_cast<const T*>(args.vectors) + place.vectors_base;
        add_columns<decltype(rounds)::value, T, kVectors, kVectors == 8 ? 2 : 4, kChunk>(
            args, matrix, vectors, valid, place.k_begin + warp * deep + lane / args.ways,
            place.k_end, kWarps * deep, sums);
      }
      MIXPREC_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        MIXPREC_UNROLL
        for (int i = 0; i < kChunk; ++i) {
          for (int distance = kWarpLanes / 2; distance >= args.ways; distance /= 2) {
            sums[v][i] += ptx::shuffle_xor(sums[v][i], distance);
          }
          if (lane < args.ways) shared[warp][v][chunk + i] = sums[v][i];
        }
      }
    });
    ptx::sync_threads();
    for (int i = static_cast<int>(threadIdx.x); i < args.count * across; i += kThreads) {
      const int vector = i / across;
      const int64_t row = int64_t{blockIdx.x} * across + i % across;
      if (row >= args.rows) continue;
      store_sum(args, &shared[0][vector][i % across], kWarps, kVectors * kMostAcross, row, vector,
                batch);
    }
    ptx::sync_threads();
  }
}

bool all_multiples(int64_t of, std::initializer_list<int64_t> values) {
  return std::all_of(values.begin(), values.end(), [&](int64_t value) { return value % of == 0; });
}
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <int kVectors>
void run(CudaBackend& backend, GemvArgs& args, bool along_k, int64_t splits) {
  const auto chunk = static_cast<int64_t>(16 / item_size(args.dtype));
  const auto batches = static_cast<uint32_t>(std::min<int64_t>(args.batches, 65535));
  const int64_t wanted = int64_t{4} * backend.properties().multiprocessors;
  args.share = ceil_div(ceil_div(args.K, splits), chunk) * chunk;
  const auto grid = [&](int64_t blocks) {
    return backend.grid(Dim3(static_cast<uint32_t>(blocks), batches, static_cast<uint32_t>(splits)),
                        kThreads);
  };
  if (along_k) {
    args.ways = 1;
    const auto blocks = [&] { return ceil_div(args.rows, kWarps / args.ways * kRowsToWarp); };
    // More warps to a row where there are few rows, and k enough for all of them.
    while (args.ways < kWarps && blocks() * args.batches < wanted &&
           args.share >= args.ways * 2 * kWarpLanes * chunk) {
      args.ways *= 2;
    }
    return launch<gemv_rows<kVectors>>(grid(blocks()), args);
  }
  args.ways = ceil_div(args.rows, 8 * chunk) * args.batches < wanted ? 4 : 8;
  launch<gemv_columns<kVectors>>(grid(ceil_div(args.rows, args.ways * chunk)), args);
}

}  // namespace

void gemv_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config) {
  check(gemv_supports(desc), "a product that is none of a matrix and a few vectors");
  const bool one_column = desc.N == 1;
  const GemmOperand& matrix = one_column ? desc.lhs : desc.rhs;
  const GemmOperand& vectors = one_column ? desc.rhs : desc.lhs;
  const int64_t row_stride = one_column ? matrix.row_stride : matrix.col_stride;
  const int64_t k_stride = one_column ? matrix.col_stride : matrix.row_stride;
  const auto chunk = static_cast<int64_t>(16 / item_size(matrix.dtype));
  GemvArgs args{};
  args.matrix = matrix.data;
  args.vectors = vectors.data;
  args.dtype = matrix.dtype;
  args.precision = desc.precision;
  args.total = one_column ? 1 : static_cast<int32_t>(desc.M);
  args.rows = one_column ? desc.M : desc.N;
  args.K = desc.K;
  args.batch = desc.batch;
  args.batches = desc.batch * desc.outer;
  args.matrix_batch = matrix.batch_stride;
  args.matrix_outer = matrix.outer_stride;
  args.vectors_batch = vectors.batch_stride;
  args.vectors_outer = vectors.outer_stride;
  args.vector_stride = one_column ? 0 : vectors.row_stride;
  args.vector_k_stride = one_column ? vectors.row_stride : vectors.col_stride;
  args.epilogue = epilogue_args<float>(desc);
  args.rows_are_columns = !one_column;
  args.out_row = one_column ? desc.out_row_stride : 1;
  args.out_vector = one_column ? 0 : desc.out_row_stride;

  const bool along_k = k_stride == 1 || row_stride != 1;
  args.line_stride = along_k ? row_stride : k_stride;
  args.chunk_stride = along_k ? k_stride : 1;
  const auto is_aligned = [](const void* data) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0;
  };
  args.matrix_wide =
      args.chunk_stride == 1 && is_aligned(matrix.data) &&
      all_multiples(chunk, {args.line_stride, matrix.batch_stride, matrix.outer_stride});
  args.vectors_wide =
      args.vector_k_stride == 1 && is_aligned(vectors.data) &&
      all_multiples(chunk, {args.vector_stride, vectors.batch_stride, vectors.outer_stride});

  const int32_t splits = std::max(config.splits, 1);
  const auto launch_all = [&] {
    constexpr int32_t kMost = 8;  // vectors at once; more have sums than a thread has registers
    for (args.first = 0; args.first < args.total; args.first += kMost) {
      args.count = std::min(args.total - args.first, kMost);
      args.vectors = static_cast<const char*>(vectors.data) +
                     args.first * args.vector_stride * static_cast<int64_t>(item_size(args.dtype));
      if (args.count == 1) {
        run<1>(backend, args, along_k, splits);
      } else if (args.count <= 4) {
        run<4>(backend, args, along_k, splits);
      } else {
        run<kMost>(backend, args, along_k, splits);
      }
    }
  };
  if (splits == 1) return launch_all();
  const Scratch partials(backend, sums_bytes(desc, splits));
  args.partials = partials.as<float>();
  launch_all();
  finish_sums(backend, desc, partials.data(), splits);
}

}  // namespace mixprec::cuda
