// Conversions between dtypes, for the element-wise kernels; a part of kernels_impl.h.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "core/dtype.h"
#include "math.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

#define MIXPREC_INLINED __attribute__((always_inline))

// Elements that pass through scratch memory at a time.
constexpr int64_t kChunk = 512;

struct Bool {
  uint8_t byte;
};
template <class T>
struct Type {
  using type = T;
};

// Calls body with a Type for every dtype that is not a 16-bit float.
template <class Body>
MIXPREC_MATH void by_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat64:
      return body(Type<double>{});
    case DType::kFloat32:
      return body(Type<float>{});
    case DType::kInt64:
      return body(Type<int64_t>{});
    case DType::kInt32:
      return body(Type<int32_t>{});
    case DType::kInt8:
      return body(Type<int8_t>{});
    case DType::kUInt8:
      return body(Type<uint8_t>{});
    case DType::kBool:
      return body(Type<Bool>{});
    case DType::kFloat16:
    case DType::kBFloat16:
      break;
  }
}

// Truncation; NaN and what is out of range give the least integer, as the x86 instructions do.
template <class Integer, class Float>
MIXPREC_MATH Integer truncated(Float x) {
  constexpr Integer kLeast = static_cast<Integer>(uint64_t{1} << (sizeof(Integer) * 8 - 1));
  constexpr Float kBound =
      sizeof(Integer) == 8 ? Float(9223372036854775808.0) : Float(2147483648.0);
  const bool inside = sizeof(Integer) == 4 && sizeof(Float) == 8 ? (x > -kBound - 1) & (x < kBound)
                                                                 : (x >= -kBound) & (x < kBound);
  const Integer value = static_cast<Integer>(inside ? x : Float(0));
  return inside ? value : kLeast;
}

template <class To, class From>
MIXPREC_MATH To element_as(From x) {
  return static_cast<To>(x);
}
template <>
MIXPREC_MATH int64_t element_as<int64_t>(float x) {
  return truncated<int64_t>(x);
}
template <>
MIXPREC_MATH int64_t element_as<int64_t>(double x) {
  return truncated<int64_t>(x);
}
template <>
MIXPREC_MATH int32_t element_as<int32_t>(float x) {
  return truncated<int32_t>(x);
}
template <>
MIXPREC_MATH int32_t element_as<int32_t>(double x) {
  return truncated<int32_t>(x);
}
// Bytes are the low bytes of the int32.
template <>
MIXPREC_MATH int8_t element_as<int8_t>(float x) {
  return static_cast<int8_t>(truncated<int32_t>(x));
}
template <>
MIXPREC_MATH int8_t element_as<int8_t>(double x) {
  return static_cast<int8_t>(truncated<int32_t>(x));
}
template <>
MIXPREC_MATH uint8_t element_as<uint8_t>(float x) {
  return static_cast<uint8_t>(truncated<int32_t>(x));
}
template <>
MIXPREC_MATH uint8_t element_as<uint8_t>(double x) {
  return static_cast<uint8_t>(truncated<int32_t>(x));
}

template <class From, class To>
void convert_elements(const From* x, To* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = element_as<To>(x[i]);
}
template <class From>
void convert_elements(const From* x, Bool* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i].byte = x[i] != From(0);
}
template <class To>
void convert_elements(const Bool* x, To* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<To>(x[i].byte != 0);
}
void convert_elements(const Bool* x, Bool* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i].byte = x[i].byte != 0;
}

// The twins of core/dtype.h without branches.
MIXPREC_MATH float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  const uint32_t subnormal =
      bits_of(static_cast<float>(static_cast<int32_t>(magnitude)) * 5.9604644775390625e-8f);
  const uint32_t normal = (magnitude << 13) + 0x38000000u;
  const uint32_t quiet = magnitude > 0x7c00u ? 0x00400000u : 0u;
  const uint32_t special = (0x7f800000u | ((magnitude & 0x3ffu) << 13)) | quiet;
  const uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
  return of_bits(sign | (magnitude >= 0x7c00u ? special : finite));
}
MIXPREC_MATH uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  const uint32_t large = magnitude > 0x7f800000u ? nan : 0x7c00u;
  const uint32_t small = bits_of(of_bits(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t finite = magnitude < 0x38800000u ? small : normal;
  return static_cast<uint16_t>(sign | (magnitude >= 0x47800000u ? large : finite));
}
MIXPREC_MATH float bfloat_to_float(uint16_t value) {
  return of_bits(static_cast<uint32_t>(value) << 16);
}
MIXPREC_MATH uint16_t float_to_bfloat(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x0040u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

void widen(const uint16_t* x, DType dtype, float* out, int64_t n) {
  int64_t i = 0;
  if (dtype == DType::kBFloat16) {
#pragma GCC ivdep
    for (; i < n; ++i) out[i] = bfloat_to_float(x[i]);
    return;
  }
#if defined(__AVX512F__)
  constexpr __mmask16 kAll = 0xffff;
  for (; i + 16 <= n; i += 16) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    _mm512_storeu_ps(out + i, _mm512_maskz_cvtph_ps(kAll, half));
  }
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
  }
#endif
#pragma GCC ivdep
  for (; i < n; ++i) out[i] = half_to_float(x[i]);
}

void narrow(const float* x, uint16_t* out, DType dtype, int64_t n) {
  int64_t i = 0;
  if (dtype == DType::kBFloat16) {
#pragma GCC ivdep
    for (; i < n; ++i) out[i] = float_to_bfloat(x[i]);
    return;
  }
#if defined(__AVX512F__)
  constexpr __mmask16 kAll = 0xffff;
  for (; i + 16 <= n; i += 16) {
    const __m256i half = _mm512_maskz_cvtps_ph(kAll, _mm512_loadu_ps(x + i),
                                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), half);
  }
#elif defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), half);
  }
#endif
#pragma GCC ivdep
  for (; i < n; ++i) out[i] = float_to_half(x[i]);
}

MIXPREC_MATH const char* element(const void* data, DType dtype, int64_t index) {
  return static_cast<const char*>(data) + index * static_cast<int64_t>(item_size(dtype));
}
MIXPREC_MATH char* element(void* data, DType dtype, int64_t index) {
  return static_cast<char*>(data) + index * static_cast<int64_t>(item_size(dtype));
}

void convert(const void* source, DType source_dtype, void* out, DType out_dtype, int64_t n) {
  if (source_dtype == out_dtype && source_dtype != DType::kBool) {
    if (n > 0) __builtin_memmove(out, source, static_cast<size_t>(n) * item_size(out_dtype));
    return;
  }
  const bool widens = is_half_width(source_dtype);
  const bool narrows = is_half_width(out_dtype);
  if (widens && out_dtype == DType::kFloat32) {
    return widen(static_cast<const uint16_t*>(source), source_dtype, static_cast<float*>(out), n);
  }
  if (narrows && source_dtype == DType::kFloat32) {
    return narrow(static_cast<const float*>(source), static_cast<uint16_t*>(out), out_dtype, n);
  }
  if (widens || narrows) {
    float chunk[kChunk];
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t count = n - i < kChunk ? n - i : kChunk;
      convert(element(source, source_dtype, i), source_dtype, chunk, DType::kFloat32, count);
      convert(chunk, DType::kFloat32, element(out, out_dtype, i), out_dtype, count);
    }
    return;
  }
  by_dtype(source_dtype, [&]<class From>(Type<From>) MIXPREC_INLINED {
    by_dtype(out_dtype, [&]<class To>(Type<To>) MIXPREC_INLINED {
      convert_elements(static_cast<const From*>(source), static_cast<To*>(out), n);
    });
  });
}

}  // namespace
}  // namespace mixprec::cpu
