// The general product. A block makes a square tile of the output: strips of both operands go
// through registers, where they are widened and rounded, into shared memory, the next one while
// this one is multiplied. A thread has 4 x 4 elements of the output, or 8 x 8 in the large tiles
// for float32.

#include <algorithm>

#include "cuda/kernels/elementwise.h"
#include "cuda/ptx/barrier.h"
#include "cuda/tensors.h"
#include "epilogue.h"
#include "finish.h"
#include "gemm.h"
#include "simt_tile.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 16;  // threads along each side of the tile
// Neighbouring elements of a thread.
template <int kTile>
constexpr int kGroup = kTile / kSide < 4 ? kTile / kSide : 4;

// What float32 elements become before they are multiplied.
enum class Rounding : int32_t { kNone, kTf32, kBFloat16 };

struct Source {
  const void* data;
  DType dtype;
  Rounding rounding;
  int64_t extent;  // M or N
  int64_t extent_stride;
  int64_t k_stride;
  int64_t batch_stride;
  int64_t outer_stride;
};

template <class Acc>
struct SimtArgs {
  Source lhs;
  Source rhs;
  void* out;
  DType out_dtype;
  int64_t row_stride;
  int64_t batch_stride;
  int64_t outer_stride;
  const void* bias;
  DType bias_dtype;
  int64_t K;
  int64_t batch;
  int64_t batches;  // times outer
  int64_t tiles_across;
  Acc alpha;
  Acc beta;
};

// A strip of one operand: kDepth steps of k for kTile rows of lhs, or columns of rhs.
template <class Acc, int kTile, int kDepth>
struct alignas(16) Strip {
  Acc values[kDepth][kTile + 16 / sizeof(Acc)];
};

template <class Acc>
MIXPREC_DEVICE Acc rounded_to(Rounding rounding, Acc value) {
  if constexpr (std::is_same_v<Acc, float>) {
    if (rounding == Rounding::kTf32) return round_to_tf32(value);
    if (rounding == Rounding::kBFloat16) return ptx::widen(ptx::narrow_bf16(value));
  }
  return value;
}

// Element `item` of those that a thread brings to a strip: threads follow the dense dimension.
template <int kTile, int kDepth>
MIXPREC_DEVICE void strip_place(bool k_is_dense, int item, int& extent_at, int& k_at) {
  const int index = static_cast<int>(threadIdx.x) + item * kThreads;
  extent_at = k_is_dense ? index / kDepth : index % kTile;
  k_at = k_is_dense ? index % kDepth : index / kTile;
}

template <class Acc, int kTile, int kDepth, int kItems>
MIXPREC_DEVICE void load_strip(const Source& source, int64_t base, int64_t first, int64_t k,
                               int64_t K, Acc (&items)[kItems]) {
  by_vector_storage<Acc>(source.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = static_cast<const T*>(source.data) + base;
    MIXPREC_UNROLL
    for (int item = 0; item < kItems; ++item) {
      int extent_at, k_at;
      strip_place<kTile, kDepth>(source.k_stride == 1, item, extent_at, k_at);
      const bool inside = first + extent_at < source.extent && k + k_at < K;
      items[item] = Acc(0);
      if (!inside) continue;
      const T* from =
          data + (first + extent_at) * source.extent_stride + (k + k_at) * source.k_stride;
      items[item] = rounded_to(source.rounding, widened<Acc>(ptx::ld(from)));
    }
  });
}

template <class Acc, int kTile, int kDepth, int kItems>
MIXPREC_DEVICE void store_strip(bool k_is_dense, const Acc (&items)[kItems],
                                Strip<Acc, kTile, kDepth>& strip) {
  MIXPREC_UNROLL
  for (int item = 0; item < kItems; ++item) {
    int extent_at, k_at;
    strip_place<kTile, kDepth>(k_is_dense, item, extent_at, k_at);
    strip.values[k_at][extent_at] = items[item];
  }
}

// Where element i of a thread's kTile / kSide lies along a side of the tile.
template <int kTile>
MIXPREC_DEVICE int place(int thread, int i) {
  constexpr int kWidth = kGroup<kTile>;
  return i / kWidth * (kSide * kWidth) + thread * kWidth + i % kWidth;
}

template <class Acc, int kTile, int kDepth>
MIXPREC_DEVICE void read_strip(const Strip<Acc, kTile, kDepth>& strip, int k, int thread,
                               Acc (&values)[kTile / kSide]) {
  constexpr int kPack = 16 / sizeof(Acc);
  MIXPREC_UNROLL
  for (int i = 0; i < kTile / kSide; i += kPack) {
    const auto pack =
        *reinterpret_cast<const Pack<Acc, kPack>*>(&strip.values[k][place<kTile>(thread, i)]);
    MIXPREC_UNROLL
    for (int j = 0; j < kPack; ++j) values[i + j] = pack[j];
  }
}

template <class Acc, int kTile, int kDepth>
__global__ void __launch_bounds__(kThreads)
    simt_product(MIXPREC_GRID_CONSTANT(SimtArgs<Acc>) args) {
  constexpr int kItems = kTile * kDepth / kThreads;
  constexpr int kOwn = kTile / kSide;
  using Strips = Strip<Acc, kTile, kDepth>[2];
  MIXPREC_SHARED(lhs_strips, Strips);
  MIXPREC_SHARED(rhs_strips, Strips);
  const int thread_row = static_cast<int>(threadIdx.x) / kSide;
  const int thread_column = static_cast<int>(threadIdx.x) % kSide;
  const int64_t tile_row = blockIdx.x / args.tiles_across;
  const int64_t first_row = tile_row * kTile;
  const int64_t first_column = (blockIdx.x - tile_row * args.tiles_across) * kTile;
  const bool has_work = first_row + place<kTile>(thread_row, 0) < args.lhs.extent &&
                        first_column + place<kTile>(thread_column, 0) < args.rhs.extent;

  for (int64_t batch = blockIdx.y; batch < args.batches; batch += gridDim.y) {
    const int64_t outer = batch / args.batch;
    const int64_t inner = batch - outer * args.batch;
    const int64_t lhs_base = outer * args.lhs.outer_stride + inner * args.lhs.batch_stride;
    const int64_t rhs_base = outer * args.rhs.outer_stride + inner * args.rhs.batch_stride;
    Acc sums[kOwn][kOwn] = {};
    Acc lhs_items[kItems], rhs_items[kItems];
    if (args.K > 0) {
      load_strip<Acc, kTile, kDepth>(args.lhs, lhs_base, first_row, 0, args.K, lhs_items);
      load_strip<Acc, kTile, kDepth>(args.rhs, rhs_base, first_column, 0, args.K, rhs_items);
    }
    int stage = 0;
    for (int64_t k = 0; k < args.K; k += kDepth, stage ^= 1) {
      store_strip(args.lhs.k_stride == 1, lhs_items, lhs_strips[stage]);
      store_strip(args.rhs.k_stride == 1, rhs_items, rhs_strips[stage]);
      // One barrier a strip: who is slow still reads the other pair.
      ptx::sync_threads();
      if (k + kDepth < args.K) {
        load_strip<Acc, kTile, kDepth>(args.lhs, lhs_base, first_row, k + kDepth, args.K,
                                       lhs_items);
        load_strip<Acc, kTile, kDepth>(args.rhs, rhs_base, first_column, k + kDepth, args.K,
                                       rhs_items);
      }
      if (!has_work) continue;
      MIXPREC_UNROLL
      for (int step = 0; step < kDepth; ++step) {
        Acc left[kOwn], right[kOwn];
        read_strip(lhs_strips[stage], step, thread_row, left);
        read_strip(rhs_strips[stage], step, thread_column, right);
        MIXPREC_UNROLL
        for (int i = 0; i < kOwn; ++i) {
          MIXPREC_UNROLL
          for (int j = 0; j < kOwn; ++j) {
            sums[i][j] = multiply_add(left[i], right[j], sums[i][j]);
          }
        }
      }
    }
    // The next batch begins with the first pair, which the last strip may have used.
    if (stage == 1) ptx::sync_threads();
    const int64_t out_base = outer * args.outer_stride + inner * args.batch_stride;
    MIXPREC_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      const int64_t row = first_row + place<kTile>(thread_row, i);
      if (row >= args.lhs.extent) continue;
      MIXPREC_UNROLL
      for (int j = 0; j < kOwn; ++j) {
        const int64_t column = first_column + place<kTile>(thread_column, j);
        if (column >= args.rhs.extent) continue;
        const int64_t at = out_base + row * args.row_stride + column;
        Acc value = multiply_add(args.alpha, sums[i][j], Acc(0));
        if (args.beta != Acc(0)) {
          const Acc old = load_vector_element<Acc>(args.out, args.out_dtype, at);
          value = multiply_add(args.beta, old, value);
        }
        if (args.bias != nullptr) {
          const Acc bias = load_vector_element<Acc>(args.bias, args.bias_dtype, column);
          value = multiply_add(Acc(1), bias, value);
        }
        store_vector_element(args.out, args.out_dtype, at, value);
      }
    }
  }
}

Source source_of(const GemmOperand& operand, bool is_lhs, int64_t extent,
                 MatmulPrecision precision) {
  Source source{};
  source.data = operand.data;
  source.dtype = operand.dtype;
  if (operand.dtype == DType::kFloat32) {
    if (precision == MatmulPrecision::kHigh) source.rounding = Rounding::kTf32;
    if (precision == MatmulPrecision::kMedium) source.rounding = Rounding::kBFloat16;
  }
  source.extent = extent;
  source.extent_stride = is_lhs ? operand.row_stride : operand.col_stride;
  source.k_stride = is_lhs ? operand.col_stride : operand.row_stride;
  source.batch_stride = operand.batch_stride;
  source.outer_stride = operand.outer_stride;
  return source;
}

template <class Acc, int kTile, int kDepth>
void launch_product(CudaBackend& backend, SimtArgs<Acc>& args) {
  args.tiles_across = (args.rhs.extent + kTile - 1) / kTile;
  const int64_t tiles = args.tiles_across * ((args.lhs.extent + kTile - 1) / kTile);
  const Dim3 blocks(static_cast<uint32_t>(tiles),
                    static_cast<uint32_t>(std::min<int64_t>(args.batches, 65535)));
  launch<simt_product<Acc, kTile, kDepth>>(backend.grid(blocks, kThreads), args);
}

template <class Acc>
void multiply(CudaBackend& backend, const GemmDesc& desc) {
  SimtArgs<Acc> args{};
  args.lhs = source_of(desc.lhs, true, desc.M, desc.precision);
  args.rhs = source_of(desc.rhs, false, desc.N, desc.precision);
  args.out = desc.out;
  args.out_dtype = desc.out_dtype;
  args.row_stride = desc.out_row_stride;
  args.batch_stride = desc.out_batch_stride;
  args.outer_stride = desc.out_outer_stride;
  args.bias = desc.bias;
  args.bias_dtype = desc.bias_dtype;
  args.K = desc.K;
  args.batch = desc.batch;
  args.batches = desc.batch * desc.outer;
  args.alpha = static_cast<Acc>(desc.alpha);
  args.beta = static_cast<Acc>(desc.beta);
  if constexpr (std::is_same_v<Acc, float>) {
    if (simt_tile(desc, backend.properties()) == 128) {
      return launch_product<Acc, 128, 8>(backend, args);
    }
  }
  launch_product<Acc, std::is_integral_v<Acc> ? 32 : 64, 16>(backend, args);
}

}  // namespace

void simt_gemm(CudaBackend& backend, const GemmDesc& desc) {
  if (!desc.epilogue.is_plain()) {
    const Scratch sums(backend, sums_bytes(desc, 1));
    simt_gemm(backend, product_into(desc, sums.data()));
    return finish_sums(backend, desc, sums.data(), 1);
  }
  by_compute_type(desc.out_dtype, [&](auto tag) {
    using Acc = typename decltype(tag)::type;
    const bool fits = is_vector_dtype<Acc>(desc.lhs.dtype) &&
                      is_vector_dtype<Acc>(desc.rhs.dtype) &&
                      (desc.bias == nullptr || is_vector_dtype<Acc>(desc.bias_dtype));
    check(fits, "a product of dtypes that do not go together");
    multiply<Acc>(backend, desc);
  });
}

}  // namespace mixprec::cuda
