// Layer and RMS normalization. Statistics are kept in the arithmetic's dtype; the gradients of
// weight and bias are summed over fixed groups of rows first, so that threads cannot change them.

#include <algorithm>
#include <vector>

#include "cpu_backend.h"
#include "row_io.h"
#include "simd/rows.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kMaxGroups = 64;
constexpr int64_t kMinGroupRows = 16;

// A weight or bias as a dense row of the arithmetic's dtype; null where there is none.
template <class T>
class Parameter {
 public:
  Parameter(Backend& backend, const Tensor* tensor) {
    if (tensor == nullptr) return;
    dense_ = contiguous_as(backend, *tensor, kArithmeticDType<T>);
    data_ = dense_.as<T>();
  }
  const T* data() const { return data_; }

 private:
  Tensor dense_;
  const T* data_ = nullptr;
};

template <class T>
void norm(Backend& backend, const OpCall& call, bool centered) {
  const Tensor& x = call.in(0);
  const Tensor& y = call.out(0);
  const int64_t n = call.int_attr(0);
  const T eps = static_cast<T>(call.attr(1));
  const bool has_weight = call.flag(2);
  const bool has_bias = centered && call.flag(3);
  if (y.numel() == 0) return;
  const Parameter<T> weight(backend, has_weight ? &call.in(1) : nullptr);
  const Parameter<T> bias(backend, has_bias ? &call.in(has_weight ? 2 : 1) : nullptr);
  const RowReader<T> input(x, n);
  const RowWriter<T> output(y, n);
  T* mean = centered ? call.out(1).as<T>() : nullptr;
  T* rstd = call.out(centered ? 2 : 1).as<T>();
  const RowTable<T>& kernels = rows().table<T>();
  parallel_for(y.numel() / n, row_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = input.row(i, 0);
      T* out = output.row(i, 1);
      if (centered) {
        kernels.layer_norm(row, weight.data(), bias.data(), out, n, eps, mean + i, rstd + i);
      } else {
        kernels.rms_norm(row, weight.data(), out, n, eps, rstd + i);
      }
      output.commit(i, out, 1);
    }
  });
}

// Adds the sums of the groups, [groups, n], in their order and stores them in the output's dtype.
template <class T>
void store_sum(const Tensor& out, const T* partial, int64_t groups, int64_t stride, int64_t n) {
  const RowTable<T>& kernels = rows().table<T>();
  const RowWriter<T> output(out, n);
  T* total = output.row(0, 0);
  std::fill_n(total, n, T{0});
  for (int64_t group = 0; group < groups; ++group) {
    kernels.sum.columns(total, partial + group * stride, nullptr, n);
  }
  output.commit(0, total, 0);
}

template <class T>
void norm_grad(Backend& backend, const OpCall& call, bool centered) {
  const Tensor& x = call.in(1);
  const int64_t n = call.int_attr(0);
  const bool has_weight = call.flag(1);
  const bool wants_input = call.flag(2);
  const bool wants_weight = call.flag(3);
  const bool wants_bias = centered && call.flag(4);
  const int32_t statistics = centered ? 2 : 1;
  if (n == 0) return;
  const int64_t row_count = x.numel() / n;
  const Tensor mean_tensor = centered ? contiguous(backend, call.in(2)) : Tensor{};
  const Tensor rstd_tensor = contiguous(backend, call.in(1 + statistics));
  const T* mean = centered ? mean_tensor.as<T>() : nullptr;
  const T* rstd = rstd_tensor.as<T>();
  const Parameter<T> weight(backend, has_weight ? &call.in(2 + statistics) : nullptr);
  const RowReader<T> grads(call.in(0), n);
  const RowReader<T> inputs(x, n);
  const RowWriter<T> output(wants_input ? call.out(0) : x, n);
  const RowTable<T>& kernels = rows().table<T>();

  // Without sums over rows to keep in order, groups are only shares of work.
  const bool sums = wants_weight || wants_bias;
  const int64_t group_rows =
      std::max({kMinGroupRows, (row_count + kMaxGroups - 1) / kMaxGroups, int64_t{1}});
  const int64_t groups = (row_count + group_rows - 1) / group_rows;
  std::vector<T> partial(static_cast<size_t>(sums ? groups * 2 * n : 0), T{0});
  parallel_for(groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      T* weight_sum = sums ? partial.data() + group * 2 * n : nullptr;
      T* bias_sum = sums ? weight_sum + n : nullptr;
      const int64_t last = std::min(row_count, (group + 1) * group_rows);
      for (int64_t i = group * group_rows; i < last; ++i) {
        const T* grad = grads.row(i, 0);
        const T* row = inputs.row(i, 1);
        const T center = centered ? mean[i] : T{0};
        if (wants_input) {
          T* out = output.row(i, 2);
          if (centered) {
            kernels.layer_norm_grad(grad, row, weight.data(), center, rstd[i], out, n);
          } else {
            kernels.rms_norm_grad(grad, row, weight.data(), rstd[i], out, n);
          }
          output.commit(i, out, 2);
        }
        if (wants_weight) kernels.norm_weight_grad(grad, row, center, rstd[i], weight_sum, n);
        if (wants_bias) kernels.sum.columns(bias_sum, grad, nullptr, n);
      }
    }
  });
  if (wants_weight) store_sum(call.out(1), partial.data(), groups, 2 * n, n);
  if (wants_bias) store_sum(call.out(2), partial.data() + n, groups, 2 * n, n);
}

}  // namespace

void CpuBackend::layer_norm(const OpCall& call) {
  by_arithmetic(call.in(0).dtype, [&]<class T>(T) { norm<T>(*this, call, true); });
}

void CpuBackend::layer_norm_grad(const OpCall& call) {
  by_arithmetic(call.in(1).dtype, [&]<class T>(T) { norm_grad<T>(*this, call, true); });
}

void CpuBackend::rms_norm(const OpCall& call) {
  by_arithmetic(call.in(0).dtype, [&]<class T>(T) { norm<T>(*this, call, false); });
}

void CpuBackend::rms_norm_grad(const OpCall& call) {
  by_arithmetic(call.in(1).dtype, [&]<class T>(T) { norm_grad<T>(*this, call, false); });
}

}  // namespace mixprec::cpu
