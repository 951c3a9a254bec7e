// Sums, extrema and their positions, variance, logsumexp.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu_backend.h"
#include "reduction.h"

namespace mixprec::cpu {
namespace {

// ---- int64, in which integers are reduced ----

template <class Fn>
int64_t int_row(const int64_t* x, int64_t n, int64_t identity, const Fn& fn) {
  int64_t total = identity;
  for (int64_t i = 0; i < n; ++i) total = fn(total, x[i]);
  return total;
}
// Sums wrap around.
int64_t add_ints(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int64_t larger_int(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t smaller_int(int64_t a, int64_t b) { return a < b ? a : b; }

template <int64_t (*kFn)(int64_t, int64_t), int64_t kIdentity>
struct IntReduction {
  static int64_t row(const int64_t* x, int64_t n, int64_t) { return int_row(x, n, kIdentity, kFn); }
  static void columns(int64_t* accumulators, const int64_t* x, const int64_t*, int64_t n) {
    for (int64_t i = 0; i < n; ++i) accumulators[i] = kFn(accumulators[i], x[i]);
  }
  static constexpr Reduction<int64_t> kReduction = {kIdentity, row, columns, columns};
};

constexpr int64_t kSmallest = std::numeric_limits<int64_t>::min();
constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

// Where results of type A are made before they become the output.
template <class A>
class Results {
 public:
  explicit Results(const Tensor& out) : out_(out), count_(out.numel()) {
    if (out.dtype == kArithmeticDType<A>) {
      data_ = out.as<A>();
    } else {
      own_.resize(static_cast<size_t>(count_));
      data_ = own_.data();
    }
  }
  A* data() { return data_; }
  int64_t count() const { return count_; }
  void store() {
    if (own_.empty()) return;
    simd().convert(data_, kArithmeticDType<A>, out_.data, out_.dtype, count_);
  }

 private:
  const Tensor& out_;
  int64_t count_;
  A* data_;
  std::vector<A> own_;
};

template <class A>
void reduce_into(const OpCall& call, const Reduction<A>& op) {
  Results<A> results(call.out());
  reduce(ReduceLayout(call.in(0), call.int_attr(0)), op, static_cast<const A*>(nullptr),
         results.data());
  results.store();
}

template <class A>
void scale(Results<A>& results, double factor) {
  if (factor == 1.0) return;
  for (int64_t i = 0; i < results.count(); ++i) {
    results.data()[i] = static_cast<A>(static_cast<double>(results.data()[i]) * factor);
  }
}

void extremum(const OpCall& call, bool largest) {
  const Tensor& x = call.in(0);
  if (call.out().numel() > 0 && x.numel() == 0) {
    throw Error(ErrorCode::kArgument, "an empty dimension has no extremum");
  }
  if (!is_floating(x.dtype)) {
    reduce_into<int64_t>(call, largest ? IntReduction<larger_int, kSmallest>::kReduction
                                       : IntReduction<smaller_int, kLargest>::kReduction);
    return;
  }
  by_arithmetic(x.dtype, [&]<class T>(T) {
    const RowTable<T>& kernels = rows().table<T>();
    reduce_into<T>(call, largest ? kernels.max : kernels.min);
  });
}

// ---- Positions ----

template <class A>
bool is_nan(A value) {
  return value != value;
}

// Position of the first NaN, else of the first of the best elements.
template <class A>
int64_t best_position(const Tensor& row, const Reduction<A>& op, bool largest) {
  alignas(64) A block[kReduceBlock];
  const StridedRange range(row);
  const auto item = static_cast<int64_t>(item_size(row.dtype));
  A best = op.identity;
  int64_t position = -1;
  int64_t at = 0;
  range.for_each_run(0, row.numel(), [&](const char* address, int64_t stride, int64_t count) {
    for (int64_t first = 0; first < count; first += kReduceBlock) {
      const int64_t length = std::min(kReduceBlock, count - first);
      const A* values =
          load_block(address + first * stride * item, row.dtype, stride, length, block);
      const A found = op.row(values, length, A{0});
      const bool better = position < 0 || is_nan(found) || (largest ? found > best : found < best);
      if (better && !is_nan(best)) {
        int64_t i = 0;
        while (i + 1 < length && !(is_nan(found) ? is_nan(values[i]) : values[i] == found)) ++i;
        best = found;
        position = at + i;
      }
      at += length;
    }
  });
  return position;
}

template <class A>
void positions(const OpCall& call, const Reduction<A>& op, bool largest) {
  const Tensor& x = call.in(0);
  const int64_t dim = call.int_attr(0);
  int64_t* out = call.out().as<int64_t>();
  if (dim < 0) {
    out[0] = best_position(x, op, largest);
    return;
  }
  ReduceLayout layout(x, x.rank == 0 ? 0 : int64_t{1} << dim);
  const int64_t grain = row_grain(layout.count);
  // Not the order of memory but of the kept dimensions, which choose_columns may have changed.
  parallel_for(layout.outputs, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t element = 0;
      int64_t result = 0;
      layout.offsets(i, layout.kept_rank, &element, &result);
      out[result] = best_position(at_offset(layout.reduced, element), op, largest);
    }
  });
}

void arg_extremum(const OpCall& call, bool largest) {
  const Tensor& x = call.in(0);
  if (call.out().numel() > 0 && x.numel() == 0) {
    throw Error(ErrorCode::kArgument, "an empty dimension has no extremum");
  }
  if (call.out().numel() == 0) return;
  if (!is_floating(x.dtype)) {
    positions<int64_t>(call,
                       largest ? IntReduction<larger_int, kSmallest>::kReduction
                               : IntReduction<smaller_int, kLargest>::kReduction,
                       largest);
    return;
  }
  by_arithmetic(x.dtype, [&]<class T>(T) {
    const RowTable<T>& kernels = rows().table<T>();
    positions<T>(call, largest ? kernels.max : kernels.min, largest);
  });
}

}  // namespace

void CpuBackend::sum(const OpCall& call) {
  if (!is_floating(call.out().dtype)) {
    reduce_into<int64_t>(call, IntReduction<add_ints, 0>::kReduction);
    return;
  }
  by_arithmetic(call.out().dtype, [&]<class T>(T) {
    Results<T> results(call.out());
    reduce(ReduceLayout(call.in(0), call.int_attr(0)), rows().table<T>().sum,
           static_cast<const T*>(nullptr), results.data());
    scale(results, call.attr(1));
    results.store();
  });
}

void CpuBackend::variance(const OpCall& call) {
  by_arithmetic(call.out().dtype, [&]<class T>(T) {
    const ReduceLayout layout(call.in(0), call.int_attr(0));
    const auto count = static_cast<double>(layout.count);
    const RowTable<T>& kernels = rows().table<T>();
    std::vector<T> means(static_cast<size_t>(layout.outputs));
    reduce(layout, kernels.sum, static_cast<const T*>(nullptr), means.data());
    for (T& mean : means) mean = static_cast<T>(static_cast<double>(mean) / count);
    Results<T> results(call.out());
    reduce(layout, kernels.sum_squares, means.data(), results.data());
    const double divisor = std::max(0.0, count - call.attr(1));
    for (int64_t i = 0; i < results.count(); ++i) {
      results.data()[i] = static_cast<T>(static_cast<double>(results.data()[i]) / divisor);
    }
    results.store();
  });
}

void CpuBackend::amax(const OpCall& call) { extremum(call, true); }
void CpuBackend::amin(const OpCall& call) { extremum(call, false); }
void CpuBackend::argmax(const OpCall& call) { arg_extremum(call, true); }
void CpuBackend::argmin(const OpCall& call) { arg_extremum(call, false); }

void CpuBackend::logsumexp(const OpCall& call) {
  by_arithmetic(call.out().dtype, [&]<class T>(T) {
    const ReduceLayout layout(call.in(0), call.int_attr(0));
    const RowTable<T>& kernels = rows().table<T>();
    std::vector<T> shifts(static_cast<size_t>(layout.outputs));
    reduce(layout, kernels.max, static_cast<const T*>(nullptr), shifts.data());
    // An infinite shift would make NaN of infinity minus infinity.
    for (T& shift : shifts) shift = std::isfinite(shift) ? shift : T{0};
    Results<T> results(call.out());
    reduce(layout, kernels.sum_exp, shifts.data(), results.data());
    for (int64_t i = 0; i < results.count(); ++i) {
      results.data()[i] = std::log(results.data()[i]) + shifts[static_cast<size_t>(i)];
    }
    results.store();
  });
}

}  // namespace mixprec::cpu
