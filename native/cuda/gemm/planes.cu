// Preparing operands (planes.h): squares of the operand pass through shared memory, so that reads
// and writes are dense whichever way it lies.
#include "planes.h"

#include <algorithm>

#include "cuda/kernels/reduce_block.h"
#include "cuda/ptx/atomic.h"
#include "cuda/ptx/convert.h"
#include "cuda/runtime/error.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 64;
constexpr int kItems = kSide * kSide / kThreads;
constexpr int kPackItems = 4;

// An operand as rows (M or N) of k, with the batches that it does not repeat.
struct Source {
  const void* data;
  int64_t rows, k;
  int64_t row_stride, k_stride;
  int64_t batch, batches;
  int64_t batch_stride, outer_stride;
};

struct PrepareArgs {
  Source source;
  void* to;
  int64_t pitch;  // elements from row to row of the copy
  int64_t plane_stride;
  int64_t squares;        // of each batch
  int64_t squares_along;  // k
  int32_t operand;        // 0 is lhs
  ProductRanges* ranges;
};

// One launch for both: a grid's z says which.
struct PreparePair {
  PrepareArgs operands[2];
};

template <class T>
MIXPREC_DEVICE const T* batch_of(const Source& source, int64_t at) {
  const int64_t outer = at / source.batch;
  return static_cast<const T*>(source.data) + outer * source.outer_stride +
         (at - outer * source.batch) * source.batch_stride;
}

// This thread's part of the square at (row, k), zeros beyond the edges; visit(row, k, value) takes
// places within the square. Lanes follow the dense dimension.
template <class T, class Visit>
MIXPREC_DEVICE void read_square(const Source& source, const T* data, int64_t row, int64_t k,
                                const Visit& visit) {
  const bool k_dense = source.k_stride == 1;
  const int along = static_cast<int>(threadIdx.x) % kSide;
  const int across = static_cast<int>(threadIdx.x) / kSide;
  constexpr int kStep = kThreads / kSide;
  const int64_t along_rest = k_dense ? source.k - k : source.rows - row;
  const int64_t across_rest = (k_dense ? source.rows - row : source.k - k) - across;
  const int64_t step = (k_dense ? source.row_stride : source.k_stride) * kStep;
  const T* from = data + (row + (k_dense ? across : along)) * source.row_stride +
                  (k + (k_dense ? along : across)) * source.k_stride;
  T values[kItems];
  MIXPREC_UNROLL
  for (int i = 0; i < kItems; ++i, from += step) {
    values[i] = T(0);
    if (along < along_rest && i * kStep < across_rest) values[i] = ptx::ld(from);
  }
  MIXPREC_UNROLL
  for (int i = 0; i < kItems; ++i) {
    const int other = across + i * kStep;
    visit(k_dense ? other : along, k_dense ? along : other, values[i]);
  }
}

// `values`, neighbours along k, to element `at` of the copy.
template <Preparation kPreparation, class T>
MIXPREC_DEVICE void write_pack(const PrepareArgs& args, int64_t at, const T (&values)[kPackItems],
                               int exponent) {
  if constexpr (kPreparation == Preparation::kPlanes) {
    float rest[kPackItems];
    MIXPREC_UNROLL
    for (int i = 0; i < kPackItems; ++i) rest[i] = scaled_by(values[i], exponent);
    BFloat16* to = static_cast<BFloat16*>(args.to) + at;
    MIXPREC_UNROLL
    for (int plane = 0; plane < kPlaneCount; ++plane, to += args.plane_stride) {
      Pack<BFloat16, kPackItems> pack;
      MIXPREC_UNROLL
      for (int i = 0; i < kPackItems; ++i) {
        pack[i] = ptx::narrow_bf16(rest[i]);
        rest[i] -= ptx::widen(pack[i]);  // exact
      }
      ptx::st_pack(to, pack);
    }
  } else if constexpr (kPreparation == Preparation::kTf32) {
    Pack<float, kPackItems> pack;
    MIXPREC_UNROLL
    for (int i = 0; i < kPackItems; ++i) {
      // A NaN must not lie in the bits that tensor cores do not read.
      const uint32_t quiet = values[i] != values[i] ? 0x00400000u : 0u;
      pack[i] = float_from_bits(float_bits(round_to_tf32(values[i])) | quiet);
    }
    ptx::st_pack(static_cast<float*>(args.to) + at, pack);
  } else if constexpr (kPreparation == Preparation::kBFloat16) {
    Pack<BFloat16, kPackItems> pack;
    MIXPREC_UNROLL
    for (int i = 0; i < kPackItems; ++i) pack[i] = ptx::narrow_bf16(values[i]);
    ptx::st_pack(static_cast<BFloat16*>(args.to) + at, pack);
  } else {
    Pack<T, kPackItems> pack;
    MIXPREC_UNROLL
    for (int i = 0; i < kPackItems; ++i) pack[i] = values[i];
    ptx::st_pack(static_cast<T*>(args.to) + at, pack);
  }
}

template <Preparation kPreparation>
using SourceType =
    std::conditional_t<kPreparation == Preparation::kBytes, uint8_t,
                       std::conditional_t<kPreparation == Preparation::kHalves, uint16_t, float>>;

template <Preparation kPreparation>
__global__ void __launch_bounds__(kThreads, 3)
    prepare_operand(MIXPREC_GRID_CONSTANT(PreparePair) pair) {
  const PrepareArgs& args = pair.operands[blockIdx.z];
  using T = SourceType<kPreparation>;
  // One more, so that columns lie in different banks.
  using Square = T[kSide][kSide + 4 / sizeof(T)];
  MIXPREC_SHARED(square, Square);
  int exponent = 0;
  if constexpr (kPreparation == Preparation::kPlanes) {
    if (!ranges_fit(args.ranges)) return;
    exponent = range_exponent(args.ranges, args.operand);
  }
  const Source& source = args.source;
  if (blockIdx.x >= args.squares) return;
  const int64_t row_at = blockIdx.x / args.squares_along;
  const int64_t row = row_at * kSide;
  const int64_t k = (blockIdx.x - row_at * args.squares_along) * kSide;
  for (int64_t batch = blockIdx.y; batch < source.batches; batch += gridDim.y) {
    read_square(source, batch_of<T>(source, batch), row, k,
                [&](int r, int c, T value) { square[r][c] = value; });
    ptx::sync_threads();
    MIXPREC_UNROLL
    for (int i = 0; i < kItems / kPackItems; ++i) {
      const int pack = static_cast<int>(threadIdx.x) + i * kThreads;
      const int r = pack / (kSide / kPackItems);
      const int c = pack % (kSide / kPackItems) * kPackItems;
      if (row + r >= source.rows || k + c >= source.k) continue;
      T values[kPackItems];
      MIXPREC_UNROLL
      for (int j = 0; j < kPackItems; ++j) values[j] = square[r][c + j];
      const int64_t at = (batch * source.rows + row + r) * args.pitch + k + c;
      write_pack<kPreparation>(args, at, values, exponent);
    }
    ptx::sync_threads();
  }
}

__global__ void __launch_bounds__(kThreads, 3) find_range(MIXPREC_GRID_CONSTANT(PreparePair) pair) {
  const PrepareArgs& args = pair.operands[blockIdx.z];
  const Source& source = args.source;
  uint32_t largest = 0;
  uint32_t least_inverted = 0;
  if (blockIdx.x >= args.squares) return;
  const int64_t row_at = blockIdx.x / args.squares_along;
  const int64_t row = row_at * kSide;
  const int64_t k = (blockIdx.x - row_at * args.squares_along) * kSide;
  for (int64_t batch = blockIdx.y; batch < source.batches; batch += gridDim.y) {
    read_square(source, batch_of<float>(source, batch), row, k, [&](int, int, float value) {
      const uint32_t bits = float_bits(value) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
      const uint32_t inverted = bits == 0 ? 0 : ~bits;
      least_inverted = inverted > least_inverted ? inverted : least_inverted;
    });
  }
  largest = block_reduce<kThreads>(largest, 0u, MaxCombine());
  least_inverted = block_reduce<kThreads>(least_inverted, 0u, MaxCombine());
  if (threadIdx.x != 0) return;
  ptx::atomic_max(&args.ranges->largest[args.operand], largest);
  ptx::atomic_max(&args.ranges->least_inverted[args.operand], least_inverted);
}

PrepareArgs prepare_args(const GemmDesc& desc, bool is_lhs, const ProductRanges* ranges) {
  const GemmOperand& operand = is_lhs ? desc.lhs : desc.rhs;
  PrepareArgs args{};
  Source& source = args.source;
  source.data = operand.data;
  source.rows = is_lhs ? desc.M : desc.N;
  source.k = desc.K;
  source.row_stride = is_lhs ? operand.row_stride : operand.col_stride;
  source.k_stride = is_lhs ? operand.col_stride : operand.row_stride;
  source.batch = operand.batch_stride == 0 ? 1 : desc.batch;
  source.batches = source.batch * (operand.outer_stride == 0 ? 1 : desc.outer);
  source.batch_stride = operand.batch_stride;
  source.outer_stride = operand.outer_stride;
  args.squares_along = (desc.K + kSide - 1) / kSide;
  args.squares = (source.rows + kSide - 1) / kSide * args.squares_along;
  args.operand = is_lhs ? 0 : 1;
  args.ranges = const_cast<ProductRanges*>(ranges);
  return args;
}

LaunchConfig squares(CudaBackend& backend, const PreparePair& pair, uint32_t operands) {
  int64_t most = 0;
  int64_t batches = 1;
  for (uint32_t i = 0; i < operands; ++i) {
    most = std::max(most, pair.operands[i].squares);
    batches = std::max(batches, pair.operands[i].source.batches);
  }
  const auto y = static_cast<uint32_t>(std::min<int64_t>(batches, 65535));
  return backend.grid(Dim3(static_cast<uint32_t>(most), y, operands), kThreads);
}

}  // namespace

PreparedOperand prepared_operand(const GemmDesc& desc, bool is_lhs, Preparation preparation) {
  const Source source = prepare_args(desc, is_lhs, nullptr).source;
  const bool split = preparation == Preparation::kPlanes;
  const bool narrowed = split || preparation == Preparation::kBFloat16;
  const DType dtype = narrowed ? DType::kBFloat16 : (is_lhs ? desc.lhs : desc.rhs).dtype;
  const auto unit = static_cast<int64_t>(16 / item_size(dtype));
  const int64_t pitch = (desc.K + unit - 1) / unit * unit;
  const int64_t matrix = source.rows * pitch;
  PreparedOperand prepared;
  prepared.operand.dtype = dtype;
  prepared.operand.row_stride = is_lhs ? pitch : 1;
  prepared.operand.col_stride = is_lhs ? 1 : pitch;
  if (source.batch_stride != 0) prepared.operand.batch_stride = matrix;
  if (source.outer_stride != 0) prepared.operand.outer_stride = matrix * source.batch;
  prepared.batches = source.batches;
  prepared.plane_stride = matrix * source.batches;
  const int64_t planes = split ? kPlaneCount : 1;
  prepared.bytes = static_cast<size_t>(prepared.plane_stride * planes) * item_size(dtype);
  return prepared;
}

void prepare(CudaBackend& backend, const GemmDesc& desc, Preparation preparation,
             const PreparedOperand* lhs, const PreparedOperand* rhs, const ProductRanges* ranges) {
  PreparePair args{};
  uint32_t count = 0;
  for (const PreparedOperand* copy : {lhs, rhs}) {
    if (copy == nullptr) continue;
    const bool is_lhs = copy == lhs;
    PrepareArgs& one = args.operands[count++];
    one = prepare_args(desc, is_lhs, ranges);
    one.to = const_cast<void*>(copy->operand.data);
    one.pitch = is_lhs ? copy->operand.row_stride : copy->operand.col_stride;
    one.plane_stride = copy->plane_stride;
  }
  if (count == 0) return;
  const LaunchConfig config = squares(backend, args, count);
  switch (preparation) {
    case Preparation::kPlanes:
      return launch<prepare_operand<Preparation::kPlanes>>(config, args);
    case Preparation::kTf32:
      return launch<prepare_operand<Preparation::kTf32>>(config, args);
    case Preparation::kBFloat16:
      return launch<prepare_operand<Preparation::kBFloat16>>(config, args);
    case Preparation::kHalves:
      return launch<prepare_operand<Preparation::kHalves>>(config, args);
    case Preparation::kBytes:
      return launch<prepare_operand<Preparation::kBytes>>(config, args);
  }
}

void find_ranges(CudaBackend& backend, const GemmDesc& desc, ProductRanges* ranges) {
  require(api::set_bytes(ranges, 0, sizeof(ProductRanges), backend.stream()),
          "clearing the ranges of operands");
  const PreparePair pair{{prepare_args(desc, true, ranges), prepare_args(desc, false, ranges)}};
  launch<find_range>(squares(backend, pair, 2), pair);
}

}  // namespace mixprec::cuda
