// The row kernels, written once with the compiler's vector types and compiled for each instruction
// set by rows_*.cc. All work goes in blocks of 128 bytes, whatever the width of a register, and the
// last block of a row is filled up: that fixes the order of every sum.
#pragma once

#include <cstddef>

#include "rows.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kBlockBytes = 128;
constexpr int kVectors = kBlockBytes / kVectorBytes;

#define MIXPREC_INLINED __attribute__((always_inline))
#define MIXPREC_INLINE inline MIXPREC_INLINED

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t integers __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t integers __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int64_t kBlock = kBlockBytes / static_cast<int64_t>(sizeof(T));

template <class T>
struct Block {
  Vector<T> v[kVectors];
};

template <class T>
constexpr T kInfinity = static_cast<T>(__builtin_inf());

template <class T>
MIXPREC_INLINE Vector<T> splat(T value) {
  return Vector<T>{} + value;
}

template <class T>
MIXPREC_INLINE Block<T> block_of(T value) {
  Block<T> block;
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k) block.v[k] = splat<T>(value);
  return block;
}

// The first `count` elements of a block; the others are `fill`.
template <class T>
MIXPREC_INLINE Block<T> load(const T* x, int64_t count, T fill) {
  Block<T> block;
  if (count == kBlock<T>) {
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) {
      __builtin_memcpy(&block.v[k], x + k * kWidth<T>, kVectorBytes);
    }
  } else {
    T filled[kBlock<T>];
    for (int64_t i = 0; i < kBlock<T>; ++i) filled[i] = fill;
    __builtin_memcpy(filled, x, static_cast<size_t>(count) * sizeof(T));
    __builtin_memcpy(&block, filled, kBlockBytes);
  }
  return block;
}

template <class T>
MIXPREC_INLINE void store(const Block<T>& block, T* y, int64_t count) {
  if (count == kBlock<T>) {
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) {
      __builtin_memcpy(y + k * kWidth<T>, &block.v[k], kVectorBytes);
    }
  } else {
    __builtin_memcpy(y, &block, static_cast<size_t>(count) * sizeof(T));
  }
}

// Calls body(first index, count) for the blocks of a row.
template <class T, class Body>
MIXPREC_INLINE void for_blocks(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kBlock<T> <= n; i += kBlock<T>) body(i, kBlock<T>);
  if (i < n) body(i, n - i);
}

template <class T, class Fn>
MIXPREC_INLINE Block<T> map(const Block<T>& a, const Fn& fn) {
  Block<T> out;
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k) out.v[k] = fn(a.v[k]);
  return out;
}

template <class T, class Fn>
MIXPREC_INLINE Block<T> map(const Block<T>& a, const Block<T>& b, const Fn& fn) {
  Block<T> out;
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k) out.v[k] = fn(a.v[k], b.v[k]);
  return out;
}

// Halves until one element is left.
template <class T, class Fn>
MIXPREC_INLINE T fold(const Block<T>& block, const Fn& fn) {
  T lanes[kBlock<T>];
  __builtin_memcpy(lanes, &block, kBlockBytes);
  for (int64_t width = kBlock<T> / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) lanes[i] = fn(lanes[i], lanes[i + width]);
  }
  return lanes[0];
}

struct Add {
  template <class V>
  MIXPREC_INLINE V operator()(V a, V b) const {
    return a + b;
  }
};
// The larger; NaN where either is. Both orders of the comparison are false for NaN.
struct Max {
  template <class V>
  MIXPREC_INLINE V operator()(V a, V b) const {
    return (a >= b) ? a : ((b > a) ? b : a + b);
  }
};
struct Min {
  template <class V>
  MIXPREC_INLINE V operator()(V a, V b) const {
    return (a <= b) ? a : ((b < a) ? b : a + b);
  }
};

// exp in float32: x = k ln 2 + r, a polynomial in r, and 2^k in two factors, so that results which
// are subnormal or infinite come out right.
MIXPREC_INLINE Vector<float> exp_of(Vector<float> x) {
  using Integers = VectorOf<float>::integers;
  const Vector<float> low = splat(-104.0f);
  const Vector<float> high = splat(89.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vector<float> rounder =
      splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
  const Vector<float> shifted = x * 1.44269504088896341f + rounder;
  const Vector<float> whole = shifted - rounder;
  const Integers k = (Integers)shifted - (Integers)rounder;
  Vector<float> r = x - whole * 0.693359375f;
  r = r - whole * -2.12194440e-4f;
  Vector<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Integers half = k >> 1;
  const Vector<float> first = (Vector<float>)((half + 127) << 23);
  const Vector<float> second = (Vector<float>)((k - half + 127) << 23);
  return p * first * second;
}
MIXPREC_INLINE Vector<double> exp_of(Vector<double> x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

MIXPREC_INLINE float log_of(float x) { return __builtin_logf(x); }
MIXPREC_INLINE double log_of(double x) { return __builtin_log(x); }
MIXPREC_INLINE float sqrt_of(float x) { return __builtin_sqrtf(x); }
MIXPREC_INLINE double sqrt_of(double x) { return __builtin_sqrt(x); }

// Sum over a row of what `term` makes of each block; it must give 0 past the end of the row.
template <class T, class Term>
MIXPREC_INLINE T sum_blocks(int64_t n, const Term& term) {
  Block<T> total = block_of<T>(0);
  for_blocks<T>(n, [&](int64_t i, int64_t count)
                       MIXPREC_INLINED { total = map(total, term(i, count), Add{}); });
  return fold(total, Add{});
}

// ---- Reductions ----

template <class T>
T sum_row(const T* x, int64_t n, T) {
  return sum_blocks<T>(
      n, [&](int64_t i, int64_t count) MIXPREC_INLINED { return load<T>(x + i, count, T{0}); });
}

template <class T, class Pick>
MIXPREC_INLINE T pick_row(const T* x, int64_t n, T identity) {
  Block<T> best = block_of<T>(identity);
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    best = map(best, load<T>(x + i, count, identity), Pick{});
  });
  return fold(best, Pick{});
}
template <class T>
T max_row(const T* x, int64_t n, T) {
  return pick_row<T, Max>(x, n, -kInfinity<T>);
}
template <class T>
T min_row(const T* x, int64_t n, T) {
  return pick_row<T, Min>(x, n, kInfinity<T>);
}

template <class T>
T sum_squares_row(const T* x, int64_t n, T shift) {
  return sum_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    return map(load<T>(x + i, count, shift), [&](Vector<T> v) MIXPREC_INLINED {
      const Vector<T> difference = v - shift;
      return difference * difference;
    });
  });
}

template <class T>
T sum_exp_row(const T* x, int64_t n, T shift) {
  return sum_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    return map(load<T>(x + i, count, -kInfinity<T>),
               [&](Vector<T> v) MIXPREC_INLINED { return exp_of(v - shift); });
  });
}

// Accumulators of a block of columns, and one more row.
template <class T, class Fn>
MIXPREC_INLINE void join_columns(T* accumulators, const T* x, int64_t n, const Fn& fn) {
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> own = load<T>(accumulators + i, count, T{0});
    store(map(own, load<T>(x + i, count, T{0}), fn), accumulators + i, count);
  });
}
template <class T, class Fn>
void columns(T* accumulators, const T* x, const T*, int64_t n) {
  join_columns<T>(accumulators, x, n, Fn{});
}
template <class T>
void sum_squares_columns(T* accumulators, const T* x, const T* shift, int64_t n) {
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> difference = map(load<T>(x + i, count, T{0}), load<T>(shift + i, count, T{0}),
                                    [](Vector<T> a, Vector<T> b) MIXPREC_INLINED { return a - b; });
    const Block<T> own = load<T>(accumulators + i, count, T{0});
    store(map(own, difference, [](Vector<T> a, Vector<T> b) MIXPREC_INLINED { return a + b * b; }),
          accumulators + i, count);
  });
}
template <class T>
void sum_exp_columns(T* accumulators, const T* x, const T* shift, int64_t n) {
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> terms =
        map(load<T>(x + i, count, T{0}), load<T>(shift + i, count, T{0}),
            [](Vector<T> a, Vector<T> b) MIXPREC_INLINED { return exp_of(a - b); });
    store(map(load<T>(accumulators + i, count, T{0}), terms, Add{}), accumulators + i, count);
  });
}

// ---- Softmax ----

template <class T>
void softmax_row(const T* x, T* y, int64_t n) {
  const T largest = max_row<T>(x, n, T{0});
  const T total = sum_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> terms = map(load<T>(x + i, count, -kInfinity<T>),
                               [&](Vector<T> v) MIXPREC_INLINED { return exp_of(v - largest); });
    store(terms, y + i, count);
    return terms;
  });
  const T factor = T{1} / total;
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    store(map(load<T>(y + i, count, T{0}), [&](Vector<T> v) MIXPREC_INLINED { return v * factor; }),
          y + i, count);
  });
}

template <class T>
void log_softmax_row(const T* x, T* y, int64_t n) {
  const T largest = max_row<T>(x, n, T{0});
  const T log_total = log_of(sum_exp_row<T>(x, n, largest));
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    store(map(load<T>(x + i, count, T{0}),
              [&](Vector<T> v) MIXPREC_INLINED { return (v - largest) - log_total; }),
          y + i, count);
  });
}

template <class T>
void softmax_grad_row(const T* grad_output, const T* y, T* grad_input, int64_t n) {
  const auto times = [](Vector<T> a, Vector<T> b) MIXPREC_INLINED { return a * b; };
  const T dot = sum_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    return map(load<T>(grad_output + i, count, T{0}), load<T>(y + i, count, T{0}), times);
  });
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    store(map(load<T>(grad_output + i, count, T{0}), load<T>(y + i, count, T{0}),
              [&](Vector<T> g, Vector<T> v) MIXPREC_INLINED { return v * (g - dot); }),
          grad_input + i, count);
  });
}

template <class T>
void log_softmax_grad_row(const T* grad_output, const T* y, T* grad_input, int64_t n) {
  const T total = sum_row<T>(grad_output, n, T{0});
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    store(map(load<T>(grad_output + i, count, T{0}), load<T>(y + i, count, T{0}),
              [&](Vector<T> g, Vector<T> v) MIXPREC_INLINED { return g - exp_of(v) * total; }),
          grad_input + i, count);
  });
}

template <class T>
void scaled_exp_row(const T* x, T* y, int64_t n, T shift, T scale, T offset) {
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    store(map(load<T>(x + i, count, T{0}),
              [&](Vector<T> v) MIXPREC_INLINED { return exp_of(v - shift) * scale - offset; }),
          y + i, count);
  });
}

// ---- Normalization ----

// y = (x - mean) * rstd * weight + bias.
template <class T>
void normalize(const T* x, const T* weight, const T* bias, T mean, T rstd, T* y, int64_t n) {
  const auto times = [](Vector<T> a, Vector<T> b) MIXPREC_INLINED { return a * b; };
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    Block<T> out = map(load<T>(x + i, count, T{0}),
                       [&](Vector<T> v) MIXPREC_INLINED { return (v - mean) * rstd; });
    if (weight != nullptr) out = map(out, load<T>(weight + i, count, T{0}), times);
    if (bias != nullptr) out = map(out, load<T>(bias + i, count, T{0}), Add{});
    store(out, y + i, count);
  });
}

template <class T>
void layer_norm_row(const T* x, const T* weight, const T* bias, T* y, int64_t n, T eps, T* mean,
                    T* rstd) {
  const T length = static_cast<T>(n);
  const T center = sum_row<T>(x, n, T{0}) / length;
  const T scale = T{1} / sqrt_of(sum_squares_row<T>(x, n, center) / length + eps);
  *mean = center;
  *rstd = scale;
  normalize<T>(x, weight, bias, center, scale, y, n);
}

template <class T>
void rms_norm_row(const T* x, const T* weight, T* y, int64_t n, T eps, T* rstd) {
  const T scale = T{1} / sqrt_of(sum_squares_row<T>(x, n, T{0}) / static_cast<T>(n) + eps);
  *rstd = scale;
  normalize<T>(x, weight, nullptr, T{0}, scale, y, n);
}

// With h = (x - mean) * rstd and w = grad_output * weight:
// rstd * (w - [centered] average(w) - h * average(w * h)).
template <class T, bool kCentered>
MIXPREC_INLINE void norm_grad(const T* grad_output, const T* x, const T* weight, T mean, T rstd,
                              T* grad_input, int64_t n) {
  const auto times = [](Vector<T> a, Vector<T> b) MIXPREC_INLINED { return a * b; };
  const auto weighted = [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> g = load<T>(grad_output + i, count, T{0});
    return weight == nullptr ? g : map(g, load<T>(weight + i, count, T{0}), times);
  };
  const auto normalized = [&](Vector<T> v) MIXPREC_INLINED { return (v - mean) * rstd; };
  Block<T> total = block_of<T>(0);
  Block<T> projected = block_of<T>(0);
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> w = weighted(i, count);
    if (kCentered) total = map(total, w, Add{});
    projected = map(projected, map(w, map(load<T>(x + i, count, T{0}), normalized), times), Add{});
  });
  const T length = static_cast<T>(n);
  const T average = kCentered ? fold(total, Add{}) / length : T{0};
  const T along = fold(projected, Add{}) / length;
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> h = map(load<T>(x + i, count, T{0}), normalized);
    store(map(weighted(i, count), h,
              [&](Vector<T> w, Vector<T> v)
                  MIXPREC_INLINED { return (w - average - v * along) * rstd; }),
          grad_input + i, count);
  });
}

template <class T>
void layer_norm_grad_row(const T* grad_output, const T* x, const T* weight, T mean, T rstd,
                         T* grad_input, int64_t n) {
  norm_grad<T, true>(grad_output, x, weight, mean, rstd, grad_input, n);
}
template <class T>
void rms_norm_grad_row(const T* grad_output, const T* x, const T* weight, T rstd, T* grad_input,
                       int64_t n) {
  norm_grad<T, false>(grad_output, x, weight, T{0}, rstd, grad_input, n);
}

template <class T>
void norm_weight_grad_row(const T* grad_output, const T* x, T mean, T rstd, T* grad_weight,
                          int64_t n) {
  for_blocks<T>(n, [&](int64_t i, int64_t count) MIXPREC_INLINED {
    const Block<T> terms =
        map(load<T>(x + i, count, T{0}), load<T>(grad_output + i, count, T{0}),
            [&](Vector<T> v, Vector<T> g) MIXPREC_INLINED { return (v - mean) * rstd * g; });
    store(map(load<T>(grad_weight + i, count, T{0}), terms, Add{}), grad_weight + i, count);
  });
}

template <class T>
constexpr RowTable<T> kRowTable = {
    {T{0}, sum_row<T>, columns<T, Add>, columns<T, Add>},
    {-kInfinity<T>, max_row<T>, columns<T, Max>, columns<T, Max>},
    {kInfinity<T>, min_row<T>, columns<T, Min>, columns<T, Min>},
    {T{0}, sum_squares_row<T>, sum_squares_columns<T>, columns<T, Add>},
    {T{0}, sum_exp_row<T>, sum_exp_columns<T>, columns<T, Add>},
    softmax_row<T>,
    log_softmax_row<T>,
    softmax_grad_row<T>,
    log_softmax_grad_row<T>,
    layer_norm_row<T>,
    layer_norm_grad_row<T>,
    rms_norm_row<T>,
    rms_norm_grad_row<T>,
    norm_weight_grad_row<T>,
    scaled_exp_row<T>,
};

constexpr RowKernels kRowKernels = {kRowTable<float>, kRowTable<double>};

#undef MIXPREC_INLINE
#undef MIXPREC_INLINED

}  // namespace
}  // namespace mixprec::cpu
