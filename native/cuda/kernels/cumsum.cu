// Running sums along a dimension. float32 accumulates in float64 and 16-bit floats in float32;
// whole numbers in int64, where they wrap around. Along the last dimension a block scans a row, or
// a part of a long one on top of the sums of the parts before it; along another one a thread takes
// a column.

#include <algorithm>

#include "core/along_dim.h"
#include "cuda/tensors.h"
#include "elementwise.h"
#include "reduce_block.h"

namespace mixprec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr int kItems = 4;  // a thread
constexpr int kTile = kThreads * kItems;

struct ScanArgs {
  const void* x = nullptr;
  DType x_dtype = DType::kFloat32;
  void* y = nullptr;
  DType y_dtype = DType::kFloat32;
  int64_t rows = 0;  // or columns
  int64_t length = 0;
  int64_t inner = 1;
  bool reverse = false;
  int64_t parts = 1;
  int64_t part_length = 0;
  void* totals = nullptr;  // [rows, parts], of the type that is summed in
};

template <class Sum>
MIXPREC_DEVICE Sum plus(Sum a, Sum b) {
  if constexpr (std::is_integral_v<Sum>) {
    return static_cast<Sum>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}
struct Plus {
  template <class Sum>
  MIXPREC_DEVICE Sum operator()(Sum a, Sum b) const {
    return plus(a, b);
  }
};

// The sum of the lanes up to this one.
template <class Sum>
MIXPREC_DEVICE Sum warp_scan(Sum value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  MIXPREC_UNROLL
  for (int distance = 1; distance < kWarpLanes; distance *= 2) {
    const Sum below = ptx::shuffle_up(value, distance);
    if (lane >= distance) value = plus(value, below);
  }
  return value;
}

// Of the threads before this one; `total` is that of all. Two barriers.
template <class Sum>
MIXPREC_DEVICE Sum sum_before(Sum value, Sum* total) {
  MIXPREC_SHARED(warp_sums, Sum[kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const Sum scanned = warp_scan(value);
  if (lane == kWarpLanes - 1) warp_sums[warp] = scanned;
  ptx::sync_threads();
  Sum before = 0;
  *total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before = *total;
    *total = plus(*total, warp_sums[w]);
  }
  ptx::sync_threads();
  const Sum below = ptx::shuffle_up(scanned, 1);
  return lane == 0 ? before : plus(before, below);
}

// Element i of the scan of a row is this one of the tensor.
MIXPREC_DEVICE int64_t element_of(const ScanArgs& args, int64_t row, int64_t i) {
  return row * args.length + (args.reverse ? args.length - 1 - i : i);
}

// A block scans a part; elements are read as T.
template <class T, class Sum>
__global__ void __launch_bounds__(kThreads, 3) scan_parts(MIXPREC_GRID_CONSTANT(ScanArgs) args) {
  const int64_t blocks = args.rows * args.parts;
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t row = block / args.parts;
    const int64_t part = block % args.parts;
    const int64_t begin = part * args.part_length;
    const int64_t last = begin + args.part_length;
    const int64_t end = last < args.length ? last : args.length;
    Sum carried = part == 0 ? Sum(0) : ptx::ld(static_cast<const Sum*>(args.totals) + block - 1);
    for (int64_t tile = begin; tile < end; tile += kTile) {
      const int64_t first = tile + int64_t{threadIdx.x} * kItems;
      Sum sums[kItems];
      Sum own = 0;
      MIXPREC_UNROLL
      for (int k = 0; k < kItems; ++k) {
        if (first + k < end) {
          const int64_t at = element_of(args, row, first + k);
          own = plus(own, static_cast<Sum>(load_element<T>(args.x, args.x_dtype, at)));
        }
        sums[k] = own;
      }
      Sum total;
      const Sum before = plus(carried, sum_before(own, &total));
      MIXPREC_UNROLL
      for (int k = 0; k < kItems; ++k) {
        if (first + k >= end) break;
        const int64_t at = element_of(args, row, first + k);
        store_element(args.y, args.y_dtype, at, static_cast<T>(plus(before, sums[k])));
      }
      carried = plus(carried, total);
    }
  }
}

template <class T, class Sum>
__global__ void __launch_bounds__(kThreads, 3) sum_parts(MIXPREC_GRID_CONSTANT(ScanArgs) args) {
  const int64_t blocks = args.rows * args.parts;
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t row = block / args.parts;
    const int64_t begin = block % args.parts * args.part_length;
    const int64_t last = begin + args.part_length;
    const int64_t end = last < args.length ? last : args.length;
    Sum sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const int64_t at = element_of(args, row, i);
      sum = plus(sum, static_cast<Sum>(load_element<T>(args.x, args.x_dtype, at)));
    }
    sum = block_reduce<kThreads>(sum, Sum(0), Plus());
    if (threadIdx.x == 0) ptx::st(static_cast<Sum*>(args.totals) + block, sum);
  }
}

template <class T, class Sum>
__global__ void __launch_bounds__(kThreads, 3) scan_columns(MIXPREC_GRID_CONSTANT(ScanArgs) args) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x; column < args.rows;
       column += step) {
    const int64_t start = column / args.inner * args.inner * args.length + column % args.inner;
    Sum sum = 0;
    for (int64_t i = 0; i < args.length; ++i) {
      const int64_t at = start + (args.reverse ? args.length - 1 - i : i) * args.inner;
      sum = plus(sum, static_cast<Sum>(load_element<T>(args.x, args.x_dtype, at)));
      store_element(args.y, args.y_dtype, at, static_cast<T>(sum));
    }
  }
}

template <class Sum>
constexpr DType kSumDType = std::is_same_v<Sum, double>  ? DType::kFloat64
                            : std::is_same_v<Sum, float> ? DType::kFloat32
                                                         : DType::kInt64;

template <class T, class Sum>
void scan_rows(CudaBackend& backend, ScanArgs args) {
  constexpr int64_t kPart = 8 * kTile;  // the fewest elements of a part, where there are several
  constexpr int64_t kMostParts = 1024;
  const int64_t parts = std::clamp<int64_t>(args.length / kPart, 1, kMostParts);
  args.part_length = ((args.length + parts - 1) / parts + kTile - 1) / kTile * kTile;
  args.parts = (args.length + args.part_length - 1) / args.part_length;
  const int64_t blocks = args.rows * args.parts;
  const LaunchConfig config = backend.config(blocks * kThreads, kThreads);
  if (args.parts == 1) return launch<scan_parts<T, Sum>>(config, args);
  const Scratch totals(backend, static_cast<size_t>(blocks) * sizeof(Sum));
  args.totals = totals.data();
  launch<sum_parts<T, Sum>>(config, args);
  ScanArgs of_totals;
  of_totals.x = of_totals.y = totals.data();
  of_totals.x_dtype = of_totals.y_dtype = kSumDType<Sum>;
  of_totals.rows = args.rows;
  of_totals.length = of_totals.part_length = args.parts;
  launch<scan_parts<Sum, Sum>>(backend.config(args.rows * kThreads, kThreads), of_totals);
  launch<scan_parts<T, Sum>>(config, args);
}

template <class T, class Sum>
void scan(CudaBackend& backend, const OpCall& call) {
  const Tensor x = contiguous(backend, call.in(0));
  const AlongDim along(x, static_cast<int32_t>(call.int_attr(0)));
  ScanArgs args;
  args.x = x.data;
  args.x_dtype = x.dtype;
  args.y = call.out().data;
  args.y_dtype = call.out().dtype;
  args.rows = along.outer * along.inner;
  args.length = along.extent;
  args.inner = along.inner;
  args.reverse = call.flag(1);
  if (along.inner == 1) return scan_rows<T, Sum>(backend, args);
  launch<scan_columns<T, Sum>>(backend.config(args.rows, kThreads), args);
}

}  // namespace

void CudaBackend::cumsum(const OpCall& call) {
  check(call.in(0).numel() == call.out().numel(), "cumsum got an output of another size");
  if (call.out().numel() == 0) return;
  switch (call.out().dtype) {
    case DType::kFloat64:
      return scan<double, double>(*this, call);
    case DType::kFloat32:
      return scan<float, double>(*this, call);
    case DType::kFloat16:
    case DType::kBFloat16:
      return scan<float, float>(*this, call);
    default:
      return scan<int64_t, int64_t>(*this, call);
  }
}

}  // namespace mixprec::cuda
