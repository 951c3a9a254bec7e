// The optimizers' kernels, written once as loops that the compiler vectorizes and compiled for each
// instruction set by optim_*.cc. The formulas and their order are torch's (its optimizers without
// foreach or fused), `ivdep` because the arrays are different tensors.
#pragma once

#include <cmath>
#include <cstdint>

#include "optim.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

#define MIXPREC_INLINED __attribute__((always_inline))
#define MIXPREC_INLINE inline MIXPREC_INLINED

MIXPREC_INLINE float root(float x) { return __builtin_sqrtf(x); }
MIXPREC_INLINE double root(double x) { return __builtin_sqrt(x); }

// Bits without the sign: ordered as the absolute values, NaN above infinity.
MIXPREC_INLINE int32_t magnitude_bits(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}
MIXPREC_INLINE int64_t magnitude_bits(double x) {
  int64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  return bits & 0x7fffffffffffffff;
}

// ---- Updates ----

template <bool kL2, bool kMax, class T>
MIXPREC_INLINE void adam_moments_loop(const AdamScalars<T>& scalars, T* p, const T* g, T* m, T* v,
                                      T* v_max, int64_t n) {
  const AdamScalars<T> s = scalars;
  // torch's lerp: from the nearer end.
  const bool near_m = s.one_minus_beta1 < T(0.5);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T weight = p[i] * s.decay_factor;
    p[i] = weight;
    T grad = g[i] * s.grad_factor;
    if constexpr (kL2) grad = grad + s.l2 * weight;
    const T difference = grad - m[i];
    const T from_m = m[i] + s.one_minus_beta1 * difference;
    const T from_grad = grad - difference * s.beta1;
    m[i] = near_m ? from_m : from_grad;
    const T second = v[i] * s.beta2 + (s.one_minus_beta2 * grad) * grad;
    v[i] = second;
    if constexpr (kMax) {
      // NaN wins, as in torch's maximum; no comparison with it is true.
      const T previous = v_max[i];
      const bool keeps = (previous >= second) | (previous != previous);
      v_max[i] = keeps ? previous : second;
    }
  }
}

template <class T>
void adam_moments(const AdamScalars<T>& s, T* p, const T* g, T* m, T* v, T* v_max, int64_t n) {
  if (s.l2 != 0) {
    if (v_max != nullptr) return adam_moments_loop<true, true>(s, p, g, m, v, v_max, n);
    return adam_moments_loop<true, false>(s, p, g, m, v, v_max, n);
  }
  if (v_max != nullptr) return adam_moments_loop<false, true>(s, p, g, m, v, v_max, n);
  adam_moments_loop<false, false>(s, p, g, m, v, v_max, n);
}

template <class T>
void adam_apply(const AdamScalars<T>& scalars, T* p, const T* m, const T* v, int64_t n) {
  const AdamScalars<T> s = scalars;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T denominator = root(v[i]) / s.root_bias2 + s.eps;
    p[i] = p[i] + (s.negative_step * m[i]) / denominator;
  }
}

template <class T>
void sgd(const SgdScalars<T>& scalars, T* p, const T* g, T* buffer, int64_t n) {
  const SgdScalars<T> s = scalars;
  const auto gradient = [&](int64_t i) MIXPREC_INLINED {
    const T grad = g[i] * s.grad_factor;
    return s.l2 != 0 ? grad + s.l2 * p[i] : grad;
  };
  if (!s.has_momentum) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) p[i] = p[i] + s.negative_lr * gradient(i);
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T grad = gradient(i);
    const T moved = s.first ? grad : buffer[i] * s.momentum + s.grad_share * grad;
    buffer[i] = moved;
    const T direction = s.nesterov ? grad + s.momentum * moved : moved;
    p[i] = p[i] + s.negative_lr * direction;
  }
}

// ---- Gradients in place ----

template <class T>
void scale(T* x, T factor, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] * factor;
}

template <class T>
bool all_finite(const T* x, int64_t n) {
  const auto infinity = magnitude_bits(static_cast<T>(__builtin_inf()));
  auto bad = infinity ^ infinity;
  for (int64_t i = 0; i < n; ++i) bad |= magnitude_bits(x[i]) >= infinity ? 1 : 0;
  return bad == 0;
}

template <class T>
void clamp(T* x, T bound, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T above = x[i] < -bound ? -bound : x[i];
    x[i] = above > bound ? bound : above;
  }
}

// ---- Norms ----

template <class T, class Map>
MIXPREC_INLINE double lane_sum(const T* x, int64_t n, const Map& map) {
  constexpr int kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int k = 0; k < kLanes; ++k) lanes[k] += map(static_cast<double>(x[i + k]));
  }
  for (int k = 0; i + k < n; ++k) lanes[k] += map(static_cast<double>(x[i + k]));
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) lanes[k] += lanes[k + width];
  }
  return lanes[0];
}

template <class T>
double sum_abs(const T* x, int64_t n) {
  return lane_sum(x, n, [](double value) MIXPREC_INLINED { return __builtin_fabs(value); });
}

template <class T>
double sum_squares(const T* x, int64_t n) {
  return lane_sum(x, n, [](double value) MIXPREC_INLINED { return value * value; });
}

template <class T>
double sum_powers(const T* x, int64_t n, double power) {
  return lane_sum(
      x, n, [=](double value) MIXPREC_INLINED { return ::pow(__builtin_fabs(value), power); });
}

template <class T>
T max_abs(const T* x, int64_t n) {
  auto largest = magnitude_bits(T(0));
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = magnitude_bits(x[i]);
    largest = bits > largest ? bits : largest;
  }
  T value;
  __builtin_memcpy(&value, &largest, sizeof(T));
  return value;
}

template <class T>
constexpr OptimTable<T> kOptimTable = {
    adam_moments<T>, adam_apply<T>, sgd<T>,         scale<T>,      all_finite<T>,
    clamp<T>,        sum_abs<T>,    sum_squares<T>, sum_powers<T>, max_abs<T>,
};

constexpr OptimKernels kOptimKernels = {kOptimTable<float>, kOptimTable<double>};

#undef MIXPREC_INLINE
#undef MIXPREC_INLINED

}  // namespace
}  // namespace mixprec::cpu
