// Elementary functions of float32, branch-free so that the compiler vectorizes loops over them, and
// right at infinities, NaN, signed zeros and subnormals. They use no fused multiply-add, which the
// portable build lacks: results are the same at every instruction set. Float64 goes to libm.
#pragma once

#include <cstdint>

// Internal to the unit that includes it: code for one instruction set must not be linked in place
// of another's.
namespace mixprec::cpu {
namespace {

#define MIXPREC_MATH inline __attribute__((always_inline, unused))

MIXPREC_MATH uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  return bits;
}
MIXPREC_MATH float of_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
MIXPREC_MATH float with_sign_of(float magnitude, float sign) {
  return of_bits((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}
MIXPREC_MATH float abs_f32(float x) { return of_bits(bits_of(x) & 0x7fffffffu); }
// 2^k for -126 <= k <= 127.
MIXPREC_MATH float power_of_two(int32_t k) { return of_bits(static_cast<uint32_t>(k + 127) << 23); }

// x = k ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 = r + r^2 P(r); the polynomial is from Cephes.
struct Exponent {
  int32_t k;
  float r;
  float tail;  // e^r - 1 - r
};
MIXPREC_MATH Exponent exponent_of(float x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  const float shifted = x * 1.44269504088896341f + kRounder;
  const float whole = shifted - kRounder;
  float r = x - whole * 0.693359375f;
  r = r - whole * -2.12194440e-4f;
  float p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {static_cast<int32_t>(bits_of(shifted) - bits_of(kRounder)), r, p * (r * r)};
}

MIXPREC_MATH float exp_f32(float x) {
  const Exponent e = exponent_of(x);
  // 2^k in two factors: a subnormal or infinite result is rounded once.
  const int32_t half = e.k >> 1;
  const auto first = of_bits((static_cast<uint32_t>(half) + 127u) << 23);
  const auto second = of_bits((static_cast<uint32_t>(e.k - half) + 127u) << 23);
  return (e.tail + e.r + 1.0f) * first * second;
}

MIXPREC_MATH float expm1_f32(float x) {
  const Exponent e = exponent_of(x);
  // 2^k (e^r - 1) + (2^k - 1); k is kept to where 2^k is a normal number.
  const int32_t low = e.k < -126 ? -126 : e.k;
  const float scale = power_of_two(low > 127 ? 127 : low);
  const float small = (e.tail + e.r) * scale + (scale - 1.0f);
  const float result = x > 60.0f ? exp_f32(x) : small;
  return x == 0.0f ? x : result;
}

MIXPREC_MATH float log_f32(float x) {
  const bool subnormal = x < 1.17549435e-38f;
  const float scaled = subnormal ? x * 8388608.0f : x;
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)).
  const uint32_t bits = bits_of(scaled);
  const int32_t e = static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;
  const float m = of_bits(bits - (static_cast<uint32_t>(e) << 23));
  const float exponent = static_cast<float>(e) - (subnormal ? 23.0f : 0.0f);
  const float f = m - 1.0f;
  const float z = f * f;
  float p = 7.0376836292e-2f * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  float y = f * z * p;
  y = y + exponent * -2.12194440e-4f;
  y = y - 0.5f * z;
  y = (f + y) + exponent * 0.693359375f;
  y = x > 3.40282347e+38f ? x : y;
  y = x == 0.0f ? -__builtin_inff() : y;
  y = x < 0.0f ? __builtin_nanf("") : y;
  return x != x ? x : y;
}

MIXPREC_MATH float log1p_f32(float x) {
  const float u = 1.0f + x;
  const float y = log_f32(u);
  // What rounding took from 1 + x, to first order.
  float result = y + (x - (u - 1.0f)) / u;
  result = u > 3.40282347e+38f || u <= 0.0f ? y : result;
  return u == 1.0f ? x : result;
}

MIXPREC_MATH float tanh_f32(float x) {
  const float t = abs_f32(x);
  const float z = t * t;
  float p = -5.70498872745e-3f * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * t + t;
  const float large = 1.0f - 2.0f / (exp_f32(t + t) + 1.0f);
  return with_sign_of(t < 0.625f ? small : large, x);
}

MIXPREC_MATH float sigmoid_f32(float x) {
  const float e = exp_f32(-abs_f32(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// x * x without rounding, as high + low (Dekker).
struct Square {
  float high;
  float low;
};
MIXPREC_MATH Square square_of(float x) {
  const float high = x * x;
  const float upper = of_bits(bits_of(x) & 0xfffff000u);
  const float lower = x - upper;
  return {high, ((upper * upper - high) + 2.0f * upper * lower) + lower * lower};
}

// erfc(t) for t > 0.9277 and t * t = square: e^(-t^2) w Q(w) with w = 1 / (t + 2), where Q is a
// minimax polynomial (relative error 1.8e-8 up to t = 10.7).
MIXPREC_MATH float erfc_tail(float t, Square square) {
  const float w = 1.0f / (t + 2.0f);
  float q = 2.3203012466e+01f * w - 2.7966112137e+01f;
  q = q * w + 4.7171230316e+00f;
  q = q * w + 2.1203713417e+00f;
  q = q * w + 2.8314921856e+00f;
  q = q * w + 1.9785658121e+00f;
  q = q * w + 1.1280101538e+00f;
  q = q * w + 5.6419992447e-01f;
  const float power = exp_f32(-square.high);
  return (power - power * square.low) * (q * w);
}
// erf(t) for 0 <= t <= 0.9277.
MIXPREC_MATH float erf_center(float t) {
  const float s = t * t;
  float q = -5.96761703e-4f * s + 4.99119423e-3f;
  q = q * s - 2.67681349e-2f;
  q = q * s + 1.12819925e-1f;
  q = q * s - 3.76125336e-1f;
  q = q * s + 1.28379166e-1f;
  return q * t + t;
}

MIXPREC_MATH float erf_f32(float x) {
  const float magnitude = abs_f32(x);
  const float t = magnitude > 4.0f ? 4.0f : magnitude;  // beyond, erf is 1 in float32
  const float far = 1.0f - erfc_tail(t, square_of(t));
  return with_sign_of(t > 0.927734375f ? far : erf_center(t), x);
}

// The standard normal distribution function; both tails keep their relative precision.
MIXPREC_MATH float normal_cdf_f32(float x) {
  const float magnitude = abs_f32(x);
  const float y = magnitude > 15.0f ? 15.0f : magnitude;  // beyond, it is 0 or 1 in float32
  const float t = y * 0.707106781186547524f;
  const Square square = square_of(y);
  const float tail = 0.5f * erfc_tail(t, {0.5f * square.high, 0.5f * square.low});
  const float upper = t > 0.927734375f ? tail : 0.5f - 0.5f * erf_center(t);
  return x < 0.0f ? upper : 1.0f - upper;
}

// Cosine and sine of `turns` full turns, for turns in [0, 1].
struct CosSin {
  float cos;
  float sin;
};
MIXPREC_MATH CosSin cos_sin_turns(float turns) {
  const int32_t quarter = static_cast<int32_t>(turns * 4.0f + 0.5f);
  const float angle = (turns - static_cast<float>(quarter) * 0.25f) * 6.28318530717958648f;
  const float z = angle * angle;
  const float s =
      ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * angle + angle;
  const float c =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * (z * z) -
      0.5f * z + 1.0f;
  const bool swap = (quarter & 1) != 0;
  const float x = swap ? s : c;
  const float y = swap ? c : s;
  const auto negate_x = static_cast<uint32_t>((quarter + 1) & 2) << 30;
  const auto negate_y = static_cast<uint32_t>(quarter & 2) << 30;
  return {of_bits(bits_of(x) ^ negate_x), of_bits(bits_of(y) ^ negate_y)};
}

// The functions under the names that core/pointwise.h asks for.
struct CpuMath {
  static MIXPREC_MATH float abs(float x) { return abs_f32(x); }
  static MIXPREC_MATH double abs(double x) { return __builtin_fabs(x); }
  static MIXPREC_MATH float exp(float x) { return exp_f32(x); }
  static MIXPREC_MATH double exp(double x) { return __builtin_exp(x); }
  static MIXPREC_MATH float log(float x) { return log_f32(x); }
  static MIXPREC_MATH double log(double x) { return __builtin_log(x); }
  static MIXPREC_MATH float sqrt(float x) { return __builtin_sqrtf(x); }
  static MIXPREC_MATH double sqrt(double x) { return __builtin_sqrt(x); }
  static MIXPREC_MATH float tanh(float x) { return tanh_f32(x); }
  static MIXPREC_MATH double tanh(double x) { return __builtin_tanh(x); }
  static MIXPREC_MATH float sigmoid(float x) { return sigmoid_f32(x); }
  static MIXPREC_MATH double sigmoid(double x) {
    const double e = __builtin_exp(-__builtin_fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
  }
  static MIXPREC_MATH float erf(float x) { return erf_f32(x); }
  static MIXPREC_MATH double erf(double x) { return __builtin_erf(x); }
  static MIXPREC_MATH float normal_cdf(float x) { return normal_cdf_f32(x); }
  static MIXPREC_MATH double normal_cdf(double x) {
    return 0.5 * __builtin_erfc(x * -0.70710678118654752440);
  }
  static MIXPREC_MATH float sin(float x) { return __builtin_sinf(x); }
  static MIXPREC_MATH double sin(double x) { return __builtin_sin(x); }
  static MIXPREC_MATH float cos(float x) { return __builtin_cosf(x); }
  static MIXPREC_MATH double cos(double x) { return __builtin_cos(x); }
  static MIXPREC_MATH float floor(float x) { return __builtin_floorf(x); }
  static MIXPREC_MATH double floor(double x) { return __builtin_floor(x); }
  static MIXPREC_MATH float log1p(float x) { return log1p_f32(x); }
  static MIXPREC_MATH double log1p(double x) { return __builtin_log1p(x); }
  static MIXPREC_MATH float expm1(float x) { return expm1_f32(x); }
  static MIXPREC_MATH double expm1(double x) { return __builtin_expm1(x); }
  static MIXPREC_MATH float pow(float x, float y) { return __builtin_powf(x, y); }
  static MIXPREC_MATH double pow(double x, double y) { return __builtin_pow(x, y); }
};

}  // namespace
}  // namespace mixprec::cpu
