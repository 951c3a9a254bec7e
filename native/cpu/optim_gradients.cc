// Gradients in place, over all of them in one call: unscaling, norm, clipping; and the update of
// the loss scale. Arithmetic is in float32, in float64 for gradients that are.

#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include "cpu_backend.h"
#include "optim.h"
#include "simd/optim.h"

namespace mixprec::cpu {
namespace {

// Calls body(T{}, block, count) with every block of the gradients, and writes back what it changed.
template <class Body>
void change_gradients(const Tensor* grads, int64_t n, const Body& body) {
  for_each_range(grads, n, [&](int64_t i, int64_t first, int64_t last) {
    by_arithmetic(grads[i].dtype, [&]<class T>(T type) {
      alignas(64) T scratch[kOptimBlock];
      const BlockView<T> view(grads[i]);
      for_each_block(first, last, [&](int64_t begin, int64_t count) {
        T* block = view.load(begin, count, scratch);
        if (body(type, block, count)) view.store(begin, count, block);
      });
    });
  });
}

enum class Norm { kAbs, kSquares, kPowers, kMax };

struct NormKind {
  explicit NormKind(double type)
      : norm(std::isinf(type) ? Norm::kMax
             : type == 1.0    ? Norm::kAbs
             : type == 2.0    ? Norm::kSquares
                              : Norm::kPowers),
        power(type) {}

  template <class T>
  double of_block(const T* x, int64_t n) const {
    const OptimTable<T>& kernels = optim_kernels().table<T>();
    switch (norm) {
      case Norm::kAbs:
        return kernels.sum_abs(x, n);
      case Norm::kSquares:
        return kernels.sum_squares(x, n);
      case Norm::kPowers:
        return kernels.sum_powers(x, n, power);
      case Norm::kMax:
        break;
    }
    return static_cast<double>(kernels.max_abs(x, n));
  }

  double combine(double a, double b) const {
    if (norm != Norm::kMax) return a + b;
    return std::isnan(a) || a > b ? a : b;
  }

  double finish(double total) const {
    switch (norm) {
      case Norm::kSquares:
        return std::sqrt(total);
      case Norm::kPowers:
        return std::pow(total, 1.0 / power);
      case Norm::kAbs:
      case Norm::kMax:
        break;
    }
    return total;
  }

  Norm norm;
  double power;
};

}  // namespace

void CpuBackend::unscale_grads(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const Tensor* grads = checked_gradients(call, n);
  const float inverse = inverse_of(scalar_of(call.in(static_cast<int32_t>(n))));
  float& found_inf = scalar_of(call.in(static_cast<int32_t>(n) + 1));
  std::atomic<bool> found{false};
  change_gradients(grads, n, [&]<class T>(T, T* block, int64_t count) {
    const OptimTable<T>& kernels = optim_kernels().table<T>();
    if (!kernels.all_finite(block, count)) found.store(true, std::memory_order_relaxed);
    if (inverse == 1.0f) return false;
    kernels.scale(block, static_cast<T>(inverse), count);
    return true;
  });
  if (found.load()) found_inf = 1.0f;
}

void CpuBackend::grad_norm(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const Tensor* grads = checked_gradients(call, n);
  const NormKind kind(call.attr(1));
  // Blocks are counted from the start of each gradient, whatever thread takes them.
  std::vector<int64_t> starts(static_cast<size_t>(n) + 1, 0);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t blocks = (grads[i].numel() + kOptimBlock - 1) / kOptimBlock;
    starts[static_cast<size_t>(i) + 1] = starts[static_cast<size_t>(i)] + blocks;
  }
  std::vector<double> partial(static_cast<size_t>(starts.back()));
  parallel_for(starts.back(), kOptimGrain / kOptimBlock, [&](int64_t block, int64_t end) {
    auto i = static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), block) -
                                 starts.begin() - 1);
    for (; block < end; ++i) {
      const int64_t stop = std::min(end, starts[i + 1]);
      by_arithmetic(grads[i].dtype, [&]<class T>(T) {
        alignas(64) T scratch[kOptimBlock];
        const BlockView<T> view(grads[i]);
        for (; block < stop; ++block) {
          const int64_t begin = (block - starts[i]) * kOptimBlock;
          const int64_t count = std::min(kOptimBlock, grads[i].numel() - begin);
          const T* values = view.load(begin, count, scratch);
          partial[static_cast<size_t>(block)] = kind.of_block(values, count);
        }
      });
    }
  });
  const double total = kind.finish(std::accumulate(
      partial.begin(), partial.end(), 0.0, [&](double a, double b) { return kind.combine(a, b); }));
  const Tensor& out = call.out();
  simd().convert(&total, DType::kFloat64, out.data, out.dtype, 1);
}

void CpuBackend::clip_grads(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const Tensor* grads = checked_gradients(call, n);
  const double bound = call.attr(1);
  const Tensor& norm = call.in(static_cast<int32_t>(n));
  check(norm.numel() == 1, "clip_grads needs the norm as a scalar");
  double coefficient = 1.0;
  if (norm.dtype == DType::kFloat64) {
    coefficient = clip_coefficient(*norm.as<double>(), bound);
  } else {
    coefficient = static_cast<double>(clip_coefficient(scalar_of(norm), bound));
  }
  if (coefficient == 1.0) return;
  change_gradients(grads, n, [&]<class T>(T, T* block, int64_t count) {
    optim_kernels().table<T>().scale(block, static_cast<T>(coefficient), count);
    return true;
  });
}

void CpuBackend::clamp_grads(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const double bound = call.attr(1);
  change_gradients(checked_gradients(call, n), n, [&]<class T>(T, T* block, int64_t count) {
    optim_kernels().table<T>().clamp(block, static_cast<T>(bound), count);
    return true;
  });
}

void CpuBackend::scaler_update(const OpCall& call) {
  float& scale = scalar_of(call.in(0));
  const Tensor& tracker = call.in(1);
  check(tracker.dtype == DType::kInt32 && tracker.numel() == 1, "the growth tracker is an int32");
  int32_t& applied = *tracker.as<int32_t>();
  float& found_inf = scalar_of(call.in(2));
  const double growth = call.attr(0);
  const double backoff = call.attr(1);
  const int64_t interval = call.int_attr(2);
  const double smallest = call.attr(3);
  if (found_inf != 0.0f) {
    scale = static_cast<float>(std::max(static_cast<double>(scale) * backoff, smallest));
    applied = 0;
  } else if (int64_t{applied} + 1 >= interval) {
    const auto grown = static_cast<float>(static_cast<double>(scale) * growth);
    if (std::isfinite(grown)) scale = grown;
    applied = 0;
  } else {
    ++applied;
  }
  found_inf = 0.0f;
}

}  // namespace mixprec::cpu
