// Sums of exponentials that cannot overflow: relative to the largest argument so far, so that one
// pass over the elements is enough. Of logsumexp, softmax and cross entropy.
#pragma once

#include <cmath>

#include "cuda/ptx/arithmetic.h"
#include "math.h"

namespace mixprec::cuda {

// The sum of exp(x - shift()) over the x that were taken. Where one of them is NaN so is the sum.
template <class T>
struct ExpSum {
  T max;
  T sum;

  static MIXPREC_DEVICE ExpSum empty() { return {-static_cast<T>(INFINITY), T(0)}; }
  // An infinite shift would make NaN of infinity minus infinity.
  static MIXPREC_DEVICE T shift_of(T max) { return max - max == T(0) ? max : T(0); }
  MIXPREC_DEVICE T shift() const { return shift_of(max); }

  MIXPREC_DEVICE void raise_to(T larger) {
    if (!(larger > max)) return;
    sum *= DeviceMath::exp(max - shift_of(larger));
    max = larger;
  }
  template <int N>
  MIXPREC_DEVICE void take(const T (&values)[N]) {
    T largest = values[0];
    MIXPREC_UNROLL
    for (int i = 1; i < N; ++i) largest = values[i] > largest ? values[i] : largest;
    // A NaN that comes first hides the others from the comparison; the sum is NaN all the same.
    raise_to(largest);
    const T from = shift();
    MIXPREC_UNROLL
    for (int i = 0; i < N; ++i) sum += DeviceMath::exp(values[i] - from);
  }
};

// The same whichever comes first: a fused product would round one of the two in another way.
struct ExpSumCombine {
  template <class T>
  MIXPREC_DEVICE ExpSum<T> operator()(const ExpSum<T>& a, const ExpSum<T>& b) const {
    ExpSum<T> total = a;
    total.raise_to(b.max);
    const T factor = b.max == total.max ? T(1) : DeviceMath::exp(b.max - total.shift());
    total.sum = ptx::add_rn(total.sum, ptx::mul_rn(b.sum, factor));
    return total;
  }
};

}  // namespace mixprec::cuda
