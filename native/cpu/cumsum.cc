// Running sums along a dimension. float32 accumulates in float64 and 16-bit floats in float32;
// whole numbers in int64, where they wrap around.

#include <algorithm>

#include "along_dim.h"
#include "cpu_backend.h"
#include "row_io.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kColumns = 512;  // running sums kept at once

template <class Sum, class T>
Sum plus(Sum total, T value) {
  return total + static_cast<Sum>(value);
}
template <>
int64_t plus(int64_t total, int64_t value) {
  return static_cast<int64_t>(static_cast<uint64_t>(total) + static_cast<uint64_t>(value));
}

// Along the last dimension: one running sum a row.
template <class T, class Sum>
void scan_rows(const Tensor& x, const Tensor& y, const AlongDim& layout, bool reverse) {
  const int64_t n = layout.extent;
  const RowReader<T> input(x, n);
  const RowWriter<T> output(y, n);
  parallel_for(layout.outer, row_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from = input.row(row, 0);
      T* to = output.row(row, 1);
      Sum total = 0;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = reverse ? n - 1 - i : i;
        total = plus(total, from[at]);
        to[at] = static_cast<T>(total);
      }
      output.commit(row, to, 1);
    }
  });
}

// Along another dimension: the running sums of a block of columns at once.
template <class T, class Sum>
void scan_columns(const Tensor& x, const Tensor& y, const AlongDim& layout, bool reverse) {
  const int64_t n = layout.extent;
  const int64_t inner = layout.inner;
  const int64_t width = std::min(kColumns, inner);
  const int64_t blocks = (inner + width - 1) / width;
  const StridedRange input(x);
  const auto item = static_cast<int64_t>(item_size(y.dtype));
  const int64_t tasks = layout.outer * blocks;
  parallel_for(tasks, row_grain(n * width), [&](int64_t begin, int64_t end) {
    alignas(64) char gathered[kColumns * 8];
    alignas(64) T values[kColumns];
    alignas(64) Sum totals[kColumns];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % blocks * width;
      const int64_t count = std::min(width, inner - first);
      std::fill_n(totals, count, Sum{0});
      for (int64_t i = 0; i < n; ++i) {
        const int64_t row = task / blocks * n + (reverse ? n - 1 - i : i);
        const int64_t at = row * inner + first;
        input.read(at, count, gathered);
        simd().convert(gathered, x.dtype, values, kArithmeticDType<T>, count);
        for (int64_t j = 0; j < count; ++j) {
          totals[j] = plus(totals[j], values[j]);
          values[j] = static_cast<T>(totals[j]);
        }
        simd().convert(values, kArithmeticDType<T>, y.as<char>() + at * item, y.dtype, count);
      }
    }
  });
}

template <class T, class Sum>
void scan(const OpCall& call, int32_t dim, bool reverse) {
  const Tensor& x = call.in(0);
  const Tensor& y = call.out();
  const AlongDim layout(x, dim);
  if (layout.inner == 1) {
    scan_rows<T, Sum>(x, y, layout, reverse);
  } else {
    scan_columns<T, Sum>(x, y, layout, reverse);
  }
}

}  // namespace

void CpuBackend::cumsum(const OpCall& call) {
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  const bool reverse = call.flag(1);
  check(call.in(0).numel() == call.out().numel(), "cumsum got an output of another size");
  if (call.out().numel() == 0) return;
  switch (call.out().dtype) {
    case DType::kFloat64:
      return scan<double, double>(call, dim, reverse);
    case DType::kFloat32:
      return scan<float, double>(call, dim, reverse);
    case DType::kFloat16:
    case DType::kBFloat16:
      return scan<float, float>(call, dim, reverse);
    default:
      return scan<int64_t, int64_t>(call, dim, reverse);
  }
}

}  // namespace mixprec::cpu
