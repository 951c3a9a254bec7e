// The formulas of the element-wise functions, for host and device alike. `Math` brings the
// elementary functions (exp, log, ...) of a backend, for float and double; a Math type that is
// internal to a translation unit makes these functions internal to it as well.
#pragma once

#include <cstdint>
#include <type_traits>

#include "host_device.h"
#include "pointwise_kinds.h"

#if defined(__CUDACC__)
#define MIXPREC_FORMULA MIXPREC_HD __forceinline__
#else
#define MIXPREC_FORMULA inline __attribute__((always_inline))
#endif

namespace mixprec {

// Integers have neg, abs, relu, sign and floor; the other functions are of floating point.
constexpr bool has_integer_form(UnaryOp op) {
  return op == UnaryOp::neg || op == UnaryOp::abs || op == UnaryOp::relu || op == UnaryOp::sign ||
         op == UnaryOp::floor;
}

// Whole numbers wrap around, which only unsigned arithmetic promises.
template <UnaryOp op, class Math>
MIXPREC_FORMULA int64_t unary_value(int64_t x) {
  if constexpr (op == UnaryOp::neg) return static_cast<int64_t>(0 - static_cast<uint64_t>(x));
  if constexpr (op == UnaryOp::abs) {
    return x < 0 ? static_cast<int64_t>(0 - static_cast<uint64_t>(x)) : x;
  }
  if constexpr (op == UnaryOp::relu) return x < 0 ? 0 : x;
  if constexpr (op == UnaryOp::sign) return (x > 0) - (x < 0);
  return x;
}

template <UnaryOp op, class Math, class T>
MIXPREC_FORMULA T unary_value(T x) {
  if constexpr (op == UnaryOp::neg) return -x;
  if constexpr (op == UnaryOp::abs) return Math::abs(x);
  if constexpr (op == UnaryOp::exp) return Math::exp(x);
  if constexpr (op == UnaryOp::log) return Math::log(x);
  if constexpr (op == UnaryOp::sqrt) return Math::sqrt(x);
  if constexpr (op == UnaryOp::rsqrt) return T(1) / Math::sqrt(x);
  if constexpr (op == UnaryOp::reciprocal) return T(1) / x;
  if constexpr (op == UnaryOp::tanh) return Math::tanh(x);
  if constexpr (op == UnaryOp::sigmoid) return Math::sigmoid(x);
  if constexpr (op == UnaryOp::relu) return x <= T(0) ? T(0) : x;  // NaN stays
  if constexpr (op == UnaryOp::gelu_erf) return x * Math::normal_cdf(x);
  if constexpr (op == UnaryOp::gelu_tanh) {
    // (1 + tanh(u)) / 2 is sigmoid(2u), which cancels nothing for negative u.
    const T u = x * T(1.5957691216057308) * (T(1) + T(0.044715) * (x * x));
    return x * Math::sigmoid(u);
  }
  if constexpr (op == UnaryOp::silu) return x * Math::sigmoid(x);
  if constexpr (op == UnaryOp::erf) return Math::erf(x);
  if constexpr (op == UnaryOp::sin) return Math::sin(x);
  if constexpr (op == UnaryOp::cos) return Math::cos(x);
  if constexpr (op == UnaryOp::sign) return x > T(0) ? T(1) : (x < T(0) ? T(-1) : T(0));
  if constexpr (op == UnaryOp::floor) return Math::floor(x);
  if constexpr (op == UnaryOp::log1p) return Math::log1p(x);
  if constexpr (op == UnaryOp::expm1) return Math::expm1(x);
}

// gradOutput times the derivative, from what was saved: x or y, see pointwise_kinds.h.
template <UnaryGradOp op, class Math, class T>
MIXPREC_FORMULA T unary_grad_value(T g, T saved) {
  if constexpr (op == UnaryGradOp::gelu_erf) {
    const T density = Math::exp(saved * saved * T(-0.5)) * T(0.39894228040143268);
    return g * (Math::normal_cdf(saved) + saved * density);
  }
  if constexpr (op == UnaryGradOp::gelu_tanh) {
    // Beyond 20 the derivative is 0 or 1, and x * x could overflow.
    const T low = saved < T(-20) ? T(-20) : saved;
    const T x = low > T(20) ? T(20) : low;
    const T squared = x * x;
    const T s = Math::sigmoid(x * T(1.5957691216057308) * (T(1) + T(0.044715) * squared));
    const T slope = T(1.5957691216057308) * (T(1) + T(0.134145) * squared);
    return g * (s + x * s * (T(1) - s) * slope);
  }
  if constexpr (op == UnaryGradOp::silu) {
    const T s = Math::sigmoid(saved);
    return g * (s * (T(1) + saved * (T(1) - s)));
  }
  if constexpr (op == UnaryGradOp::tanh) return g * (T(1) - saved * saved);
  if constexpr (op == UnaryGradOp::sigmoid) return g * ((T(1) - saved) * saved);
  if constexpr (op == UnaryGradOp::relu) return saved <= T(0) ? T(0) : g;
}

// Division truncates; x / 0 is 0, and the one quotient out of range wraps.
MIXPREC_FORMULA int64_t integer_quotient(int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (b == -1) return static_cast<int64_t>(0 - static_cast<uint64_t>(a));
  return a / b;
}

// Negative exponents give the truncated reciprocal, as in torch.
MIXPREC_FORMULA int64_t integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    return 0;
  }
  uint64_t result = 1;
  uint64_t factor = static_cast<uint64_t>(base);
  for (uint64_t left = static_cast<uint64_t>(exponent); left != 0; left >>= 1) {
    if ((left & 1) != 0) result *= factor;
    factor *= factor;
  }
  return static_cast<int64_t>(result);
}

template <BinaryOp op, class Math, class T>
MIXPREC_FORMULA T binary_value(T a, T b) {
  if constexpr (op == BinaryOp::maximum) return a > b || a != a ? a : b;  // NaN where either is
  if constexpr (op == BinaryOp::minimum) return a < b || a != a ? a : b;
  if constexpr (std::is_same_v<T, int64_t>) {
    const auto ua = static_cast<uint64_t>(a);
    const auto ub = static_cast<uint64_t>(b);
    if constexpr (op == BinaryOp::add) return static_cast<int64_t>(ua + ub);
    if constexpr (op == BinaryOp::sub) return static_cast<int64_t>(ua - ub);
    if constexpr (op == BinaryOp::mul) return static_cast<int64_t>(ua * ub);
    if constexpr (op == BinaryOp::div) return integer_quotient(a, b);
    if constexpr (op == BinaryOp::pow) return integer_power(a, b);
  } else {
    if constexpr (op == BinaryOp::add) return a + b;
    if constexpr (op == BinaryOp::sub) return a - b;
    if constexpr (op == BinaryOp::mul) return a * b;
    if constexpr (op == BinaryOp::div) return a / b;
    if constexpr (op == BinaryOp::pow) return Math::pow(a, b);
  }
}

template <CompareOp op, class Math, class T>
MIXPREC_FORMULA bool compare_value(T a, T b) {
  if constexpr (op == CompareOp::eq) return a == b;
  if constexpr (op == CompareOp::ne) return a != b;
  if constexpr (op == CompareOp::lt) return a < b;
  if constexpr (op == CompareOp::le) return a <= b;
  if constexpr (op == CompareOp::gt) return a > b;
  if constexpr (op == CompareOp::ge) return a >= b;
}

}  // namespace mixprec
