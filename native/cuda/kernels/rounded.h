// Numbers whose sums and products are rounded one by one, as the CPU's are: formulas in them give
// the same bits on both. Used on the device; for the host as well, since shared formulas are for
// both.
#pragma once

#include "core/host_device.h"
#include "cuda/ptx/arithmetic.h"

namespace mixprec::cuda {

template <class T>
struct Rounded {
  T value;

  explicit MIXPREC_HD Rounded(T number) : value(number) {}

  friend MIXPREC_HD Rounded operator+(Rounded a, Rounded b) {
#if defined(__CUDA_ARCH__)
    return Rounded(ptx::add_rn(a.value, b.value));
#else
    return Rounded(a.value + b.value);
#endif
  }
  friend MIXPREC_HD Rounded operator-(Rounded a, Rounded b) { return a + Rounded(-b.value); }
  friend MIXPREC_HD Rounded operator*(Rounded a, Rounded b) {
#if defined(__CUDA_ARCH__)
    return Rounded(ptx::mul_rn(a.value, b.value));
#else
    return Rounded(a.value * b.value);
#endif
  }
  friend MIXPREC_HD Rounded operator/(Rounded a, Rounded b) { return Rounded(a.value / b.value); }
};

}  // namespace mixprec::cuda
