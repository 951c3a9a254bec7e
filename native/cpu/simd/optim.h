// Kernels of the optimizers over dense float32 or float64, compiled once per instruction set. Every
// element is computed alone and without fused multiply-adds, and sums have a fixed number of lanes:
// results are the same at every instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/optim.h"

namespace mixprec::cpu {

template <class T>
struct OptimTable {
  // Decays the parameter and takes the gradient into the moments. `v_max` may be null; else it
  // takes the maximum of itself and v. Then adam_apply moves the parameter by moments that may have
  // been rounded to their storage in between; its `v` is v_max where there is one.
  void (*adam_moments)(const AdamScalars<T>& s, T* p, const T* g, T* m, T* v, T* v_max, int64_t n);
  void (*adam_apply)(const AdamScalars<T>& s, T* p, const T* m, const T* v, int64_t n);
  // `buffer` is null without momentum.
  void (*sgd)(const SgdScalars<T>& s, T* p, const T* g, T* buffer, int64_t n);

  // x *= factor.
  void (*scale)(T* x, T factor, int64_t n);
  // Whether all elements are finite.
  bool (*all_finite)(const T* x, int64_t n);
  // Into [-bound, bound]; NaN stays.
  void (*clamp)(T* x, T bound, int64_t n);

  // Sums of |x|, x^2 and |x|^power in double; the largest |x|, NaN where any is.
  double (*sum_abs)(const T* x, int64_t n);
  double (*sum_squares)(const T* x, int64_t n);
  double (*sum_powers)(const T* x, int64_t n, double power);
  T (*max_abs)(const T* x, int64_t n);
};

struct OptimKernels {
  OptimTable<float> f32;
  OptimTable<double> f64;

  template <class T>
  const OptimTable<T>& table() const {
    if constexpr (std::is_same_v<T, float>) {
      return f32;
    } else {
      return f64;
    }
  }
};

const OptimKernels& optim_portable();
const OptimKernels& optim_avx2();
const OptimKernels& optim_avx512();

// The kernels for this process (isa.h).
const OptimKernels& optim_kernels();

}  // namespace mixprec::cpu
