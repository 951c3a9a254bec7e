// Cross entropy of rows of logits against class indices, without storing the probabilities.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "cpu_backend.h"
#include "row_io.h"
#include "simd/rows.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

// Every target must be a class or the ignored index.
void check_targets(const int64_t* target, int64_t N, int64_t C, int64_t ignore_index) {
  for (int64_t i = 0; i < N; ++i) {
    if (target[i] == ignore_index || (target[i] >= 0 && target[i] < C)) continue;
    throw Error(ErrorCode::kArgument,
                "target out of range — expected 0 to " + std::to_string(C - 1) + " (C is " +
                    std::to_string(C) + ") or ignoreIndex " + std::to_string(ignore_index) +
                    ", got " + std::to_string(target[i]) + " in row " + std::to_string(i));
  }
}

template <class T>
void forward(Backend& backend, const OpCall& call) {
  const Tensor& logits = call.in(0);
  check(logits.rank == 2, "cross_entropy takes logits of two dimensions");
  const int64_t N = logits.shape[0];
  const int64_t C = logits.shape[1];
  const int64_t ignore_index = call.int_attr(0);
  const T smoothing = static_cast<T>(call.attr(1));
  const Tensor target_tensor = contiguous(backend, call.in(1));
  const int64_t* target = target_tensor.as<int64_t>();
  check_targets(target, N, C, ignore_index);
  T* loss = call.out(0).as<T>();
  T* logsumexp = call.out(1).as<T>();
  const RowReader<T> input(logits, C);
  const RowTable<T>& kernels = rows().table<T>();
  parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      loss[i] = 0;
      logsumexp[i] = 0;
      if (target[i] == ignore_index) continue;
      const T* row = input.row(i, 0);
      const T largest = kernels.max.row(row, C, T{0});
      const T shift = std::isfinite(largest) ? largest : T{0};
      const T log_total = std::log(kernels.sum_exp.row(row, C, shift));
      logsumexp[i] = shift + log_total;
      // Logits are far larger than the loss where they are large: take the shift off them first.
      loss[i] = log_total - (row[target[i]] - shift);
      if (smoothing != T{0}) {
        const T average = kernels.sum.row(row, C, T{0}) / static_cast<T>(C);
        loss[i] = (T{1} - smoothing) * loss[i] + smoothing * (log_total - (average - shift));
      }
    }
  });
}

template <class T>
void backward(Backend& backend, const OpCall& call) {
  const Tensor& logits = call.in(1);
  const Tensor& grad_logits = call.out();
  const int64_t N = logits.shape[0];
  const int64_t C = logits.shape[1];
  const int64_t ignore_index = call.int_attr(0);
  const T smoothing = static_cast<T>(call.attr(1));
  const Tensor grad_tensor = contiguous_as(backend, call.in(0), kArithmeticDType<T>);
  const Tensor target_tensor = contiguous(backend, call.in(2));
  const Tensor logsumexp_tensor = contiguous_as(backend, call.in(3), kArithmeticDType<T>);
  const T* grad = grad_tensor.as<T>();
  const int64_t* target = target_tensor.as<int64_t>();
  const T* logsumexp = logsumexp_tensor.as<T>();
  check_targets(target, N, C, ignore_index);
  const RowReader<T> input(logits, C);
  const RowWriter<T> output(grad_logits, C);
  const RowTable<T>& kernels = rows().table<T>();
  parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* out = output.row(i, 1);
      if (target[i] == ignore_index) {
        std::fill_n(out, C, T{0});
      } else {
        const T g = grad[i];
        kernels.scaled_exp(input.row(i, 0), out, C, logsumexp[i], g,
                           g * (smoothing / static_cast<T>(C)));
        out[target[i]] -= g * (T{1} - smoothing);
      }
      output.commit(i, out, 1);
    }
  });
}

}  // namespace

void CpuBackend::cross_entropy(const OpCall& call) {
  by_arithmetic(call.in(0).dtype, [&]<class T>(T) { forward<T>(*this, call); });
}

void CpuBackend::cross_entropy_grad(const OpCall& call) {
  by_arithmetic(call.in(1).dtype, [&]<class T>(T) { backward<T>(*this, call); });
}

}  // namespace mixprec::cpu
