// Element types and their scalar conversions. Round to nearest, ties to even, everywhere; the
// vectorized twins in cpu/simd must agree with these bit for bit.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "host_device.h"

namespace mixprec {

// The codes cross the boundary to TypeScript (lib/dtype.ts holds the same list in the same order).
enum class DType : int32_t {
  kFloat64 = 0,
  kFloat32 = 1,
  kFloat16 = 2,
  kBFloat16 = 3,
  kInt64 = 4,
  kInt32 = 5,
  kInt8 = 6,
  kUInt8 = 7,
  kBool = 8,
};
inline constexpr int kDTypeCount = 9;

constexpr size_t item_size(DType dtype) {
  constexpr size_t kSizes[kDTypeCount] = {8, 4, 2, 2, 8, 4, 1, 1, 1};
  return kSizes[static_cast<int>(dtype)];
}

constexpr const char* dtype_name(DType dtype) {
  constexpr const char* kNames[kDTypeCount] = {"float64", "float32", "float16", "bfloat16", "int64",
                                               "int32",   "int8",    "uint8",   "bool"};
  return kNames[static_cast<int>(dtype)];
}

constexpr bool is_floating(DType dtype) { return static_cast<int>(dtype) <= 3; }
constexpr bool is_half_width(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// Storage-only 16-bit floats: arithmetic happens after widening to float32.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

MIXPREC_HD inline uint32_t float_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  return bits;
}
MIXPREC_HD inline float float_from_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

MIXPREC_HD inline float to_float(BFloat16 value) {
  return float_from_bits(static_cast<uint32_t>(value.bits) << 16);
}

MIXPREC_HD inline float to_float(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity, or NaN made quiet with its payload kept
    const uint32_t quiet = magnitude > 0x7c00u ? 0x00400000u : 0u;
    return float_from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13) | quiet);
  }
  if (magnitude >= 0x0400u) return float_from_bits(sign | ((magnitude << 13) + 0x38000000u));
  // Subnormal: magnitude * 2^-24 is exact in float32.
  const float value32 = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
  return float_from_bits(sign | float_bits(value32));
}

MIXPREC_HD inline BFloat16 to_bfloat16(float value) {
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return BFloat16{static_cast<uint16_t>((bits >> 16) | 0x0040u)};
  }
  return BFloat16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

MIXPREC_HD inline Float16 to_float16(float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x47800000u) {  // at least 65536, infinity or NaN
    if (magnitude > 0x7f800000u) {
      return Float16{static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu))};
    }
    return Float16{static_cast<uint16_t>(sign | 0x7c00u)};
  }
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 rounds at the subnormal grid, 2^-24
    const float rounded = float_from_bits(magnitude) + 0.5f;
    return Float16{static_cast<uint16_t>(sign | (float_bits(rounded) - 0x3f000000u))};
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + odd;
  return Float16{static_cast<uint16_t>(sign | (rounded >> 13))};
}

// TF32 keeps 10 stored significand bits; nearest, ties away from zero, as cvt.rna.tf32 does.
MIXPREC_HD inline float round_to_tf32(float value) {
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;
  return float_from_bits((bits + 0x1000u) & 0xffffe000u);
}

}  // namespace mixprec
