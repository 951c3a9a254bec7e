// The optimizers' kernels, written once as loops that the compiler vectorizes and compiled for each
// instruction set by optim_*.cc, over the formulas of core/optim.h; `ivdep` because the arrays are
// different tensors.
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

struct OptimMath {
  template <class T>
  MIXPREC_INLINE static T add(T a, T b) {
    return a + b;
  }
  template <class T>
  MIXPREC_INLINE static T mul(T a, T b) {
    return a * b;
  }
  MIXPREC_INLINE static float sqrt(float x) { return __builtin_sqrtf(x); }
  MIXPREC_INLINE static double sqrt(double x) { return __builtin_sqrt(x); }
};

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
  const bool near_m = s.one_minus_beta1 < T(0.5);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    adam_moments_value<OptimMath, kL2>(s, near_m, p[i], g[i], m[i], v[i]);
    if constexpr (kMax) v_max[i] = adam_max_value(v_max[i], v[i]);
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
  for (int64_t i = 0; i < n; ++i) p[i] = adam_apply_value<OptimMath>(s, p[i], m[i], v[i]);
}

template <class T>
void sgd(const SgdScalars<T>& scalars, T* p, const T* g, T* buffer, int64_t n) {
  const SgdScalars<T> s = scalars;
  if (!s.has_momentum) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) p[i] = sgd_value<OptimMath>(s, p[i], g[i]);
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    p[i] = sgd_momentum_value<OptimMath>(s, p[i], g[i], buffer[i]);
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
