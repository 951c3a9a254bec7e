// Kernels over one dense row of float32 or float64, compiled once per instruction set: reductions,
// softmax, normalization and cross entropy. Sums use a fixed number of lanes and add them in a
// fixed order, so that results are the same at every instruction set (float64 exp aside: it is
// libm's).
#pragma once

#include <cstdint>
#include <type_traits>

namespace mixprec::cpu {

// A reduction of many values to one. `shift` is what each value is compared with; where a reduction
// needs none, it is not read and may be null.
template <class T>
struct Reduction {
  T identity;
  // Of n values.
  T (*row)(const T* x, int64_t n, T shift);
  // Of n columns at once: takes one more row into the accumulators.
  void (*columns)(T* accumulators, const T* x, const T* shift, int64_t n);
  // Takes n accumulators of other rows into these.
  void (*merge)(T* accumulators, const T* others, const T* shift, int64_t n);
};

// `weight` and `bias` may be null. Outputs may be the inputs themselves.
template <class T>
struct RowTable {
  Reduction<T> sum;
  Reduction<T> max;  // NaN where any is
  Reduction<T> min;
  Reduction<T> sum_squares;  // of x - shift
  Reduction<T> sum_exp;      // of x - shift

  void (*softmax)(const T* x, T* y, int64_t n);
  void (*log_softmax)(const T* x, T* y, int64_t n);
  void (*softmax_grad)(const T* grad_output, const T* y, T* grad_input, int64_t n);
  void (*log_softmax_grad)(const T* grad_output, const T* y, T* grad_input, int64_t n);

  void (*layer_norm)(const T* x, const T* weight, const T* bias, T* y, int64_t n, T eps, T* mean,
                     T* rstd);
  void (*layer_norm_grad)(const T* grad_output, const T* x, const T* weight, T mean, T rstd,
                          T* grad_input, int64_t n);
  void (*rms_norm)(const T* x, const T* weight, T* y, int64_t n, T eps, T* rstd);
  void (*rms_norm_grad)(const T* grad_output, const T* x, const T* weight, T rstd, T* grad_input,
                        int64_t n);
  // grad_weight += grad_output * (x - mean) * rstd.
  void (*norm_weight_grad)(const T* grad_output, const T* x, T mean, T rstd, T* grad_weight,
                           int64_t n);

  // y = scale * exp(x - shift) - offset.
  void (*scaled_exp)(const T* x, T* y, int64_t n, T shift, T scale, T offset);
};

struct RowKernels {
  RowTable<float> f32;
  RowTable<double> f64;

  template <class T>
  const RowTable<T>& table() const {
    if constexpr (std::is_same_v<T, float>) {
      return f32;
    } else {
      return f64;
    }
  }
};

const RowKernels& rows_portable();
const RowKernels& rows_avx2();
const RowKernels& rows_avx512();

// The kernels for this process (isa.h).
const RowKernels& rows();

}  // namespace mixprec::cpu
