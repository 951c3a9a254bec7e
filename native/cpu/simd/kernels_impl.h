// The element-wise kernels, written once as loops that the compiler vectorizes and compiled for
// each instruction set by kernels_*.cc. `ivdep`: the output may be an input itself, never overlap
// one partly.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "core/philox.h"
#include "core/pointwise.h"
#include "kernels.h"
#include "math.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

#define MIXPREC_INLINED __attribute__((always_inline))

constexpr int64_t kChunk = 512;

// ---- Conversions ----

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

// ---- Functions ----

// Calls body with the type of the arithmetic.
template <class Body>
MIXPREC_MATH void by_compute(DType compute, const Body& body) {
  switch (compute) {
    case DType::kFloat64:
      return body(Type<double>{});
    case DType::kFloat32:
      return body(Type<float>{});
    default:
      return body(Type<int64_t>{});
  }
}

template <UnaryOp op, class T>
void unary_loop(const T* x, T* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = unary_value<op, CpuMath>(x[i]);
}

void unary(UnaryOp op, DType compute, const void* x, void* out, int64_t n) {
  by_compute(compute, [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(out);
    switch (op) {
#define MIXPREC_CASE(name) \
  case UnaryOp::name:      \
    return unary_loop<UnaryOp::name>(from, to, n);
      MIXPREC_UNARY_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  });
}

template <UnaryGradOp op, class T>
void unary_grad_loop(const T* grad_output, const T* saved, T* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    out[i] = unary_grad_value<op, CpuMath>(grad_output[i], saved[i]);
  }
}

void unary_grad(UnaryGradOp op, DType compute, const void* grad_output, const void* saved,
                void* out, int64_t n) {
  const auto run = [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* g = static_cast<const T*>(grad_output);
    const auto* values = static_cast<const T*>(saved);
    auto* to = static_cast<T*>(out);
    switch (op) {
#define MIXPREC_CASE(name) \
  case UnaryGradOp::name:  \
    return unary_grad_loop<UnaryGradOp::name>(g, values, to, n);
      MIXPREC_UNARY_GRAD_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  };
  if (compute == DType::kFloat64) {
    run(Type<double>{});
  } else {
    run(Type<float>{});
  }
}

// Calls loop(lhs, rhs) with functions from an index to an operand.
template <class T, class Loop>
MIXPREC_MATH void with_operands(const T* lhs, bool lhs_is_scalar, const T* rhs, bool rhs_is_scalar,
                                const Loop& loop) {
  const auto left = [=](int64_t i) MIXPREC_INLINED { return lhs[i]; };
  const auto right = [=](int64_t i) MIXPREC_INLINED { return rhs[i]; };
  if (lhs_is_scalar) {
    const T value = *lhs;
    loop([=](int64_t) MIXPREC_INLINED { return value; }, right);
  } else if (rhs_is_scalar) {
    const T value = *rhs;
    loop(left, [=](int64_t) MIXPREC_INLINED { return value; });
  } else {
    loop(left, right);
  }
}

template <BinaryOp op, class T>
void binary_loop(const T* lhs, bool lhs_is_scalar, const T* rhs, bool rhs_is_scalar, T* out,
                 int64_t n) {
  if (lhs_is_scalar && rhs_is_scalar) {
    const T value = binary_value<op, CpuMath>(*lhs, *rhs);
    for (int64_t i = 0; i < n; ++i) out[i] = value;
    return;
  }
  if constexpr (op == BinaryOp::pow && !std::is_same_v<T, int64_t>) {
    // The common square, without a call of libm.
    if (rhs_is_scalar && *rhs == T{2}) {
      return binary_loop<BinaryOp::mul>(lhs, false, lhs, false, out, n);
    }
  }
  with_operands(lhs, lhs_is_scalar, rhs, rhs_is_scalar,
                [&](const auto& a, const auto& b) MIXPREC_INLINED {
#pragma GCC ivdep
                  for (int64_t i = 0; i < n; ++i) out[i] = binary_value<op, CpuMath>(a(i), b(i));
                });
}

void binary(BinaryOp op, DType dtype, const void* lhs, bool lhs_is_scalar, const void* rhs,
            bool rhs_is_scalar, void* out, int64_t n) {
  const DType compute = dtype == DType::kFloat64 ? dtype
                        : is_floating(dtype)     ? DType::kFloat32
                                                 : DType::kInt64;
  if (dtype != compute) {
    alignas(64) int64_t left[kChunk];
    alignas(64) int64_t right[kChunk];
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t count = n - i < kChunk ? n - i : kChunk;
      convert(element(lhs, dtype, lhs_is_scalar ? 0 : i), dtype, left, compute,
              lhs_is_scalar ? 1 : count);
      convert(element(rhs, dtype, rhs_is_scalar ? 0 : i), dtype, right, compute,
              rhs_is_scalar ? 1 : count);
      // The result replaces an operand that is no scalar, or fills the chunk of two that are.
      binary(op, compute, left, lhs_is_scalar, right, rhs_is_scalar, lhs_is_scalar ? right : left,
             count);
      convert(lhs_is_scalar ? right : left, compute, element(out, dtype, i), dtype, count);
    }
    return;
  }
  by_compute(compute, [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* a = static_cast<const T*>(lhs);
    const auto* b = static_cast<const T*>(rhs);
    auto* to = static_cast<T*>(out);
    switch (op) {
#define MIXPREC_CASE(name) \
  case BinaryOp::name:     \
    return binary_loop<BinaryOp::name>(a, lhs_is_scalar, b, rhs_is_scalar, to, n);
      MIXPREC_BINARY_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  });
}

template <CompareOp op, class T>
void compare_loop(const T* lhs, bool lhs_is_scalar, const T* rhs, bool rhs_is_scalar, uint8_t* out,
                  int64_t n) {
  if (lhs_is_scalar && rhs_is_scalar) {
    const bool value = compare_value<op, CpuMath>(*lhs, *rhs);
    for (int64_t i = 0; i < n; ++i) out[i] = value;
    return;
  }
  with_operands(lhs, lhs_is_scalar, rhs, rhs_is_scalar,
                [&](const auto& a, const auto& b) MIXPREC_INLINED {
#pragma GCC ivdep
                  for (int64_t i = 0; i < n; ++i) out[i] = compare_value<op, CpuMath>(a(i), b(i));
                });
}

void compare(CompareOp op, DType compute, const void* lhs, bool lhs_is_scalar, const void* rhs,
             bool rhs_is_scalar, uint8_t* out, int64_t n) {
  by_compute(compute, [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* a = static_cast<const T*>(lhs);
    const auto* b = static_cast<const T*>(rhs);
    switch (op) {
#define MIXPREC_CASE(name) \
  case CompareOp::name:    \
    return compare_loop<CompareOp::name>(a, lhs_is_scalar, b, rhs_is_scalar, out, n);
      MIXPREC_COMPARE_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  });
}

template <class T>
void where_loop(const uint8_t* mask, const void* a, const void* b, void* out, int64_t n) {
  const T* yes = static_cast<const T*>(a);
  const T* no = static_cast<const T*>(b);
  T* to = static_cast<T*>(out);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T first = yes[i];
    const T second = no[i];
    to[i] = mask[i] != 0 ? first : second;
  }
}

void where(const uint8_t* mask, const void* a, const void* b, void* out, size_t item, int64_t n) {
  switch (item) {
    case 1:
      return where_loop<uint8_t>(mask, a, b, out, n);
    case 2:
      return where_loop<uint16_t>(mask, a, b, out, n);
    case 4:
      return where_loop<uint32_t>(mask, a, b, out, n);
    default:
      return where_loop<uint64_t>(mask, a, b, out, n);
  }
}

// ---- Random numbers ----

constexpr int kCounters = 32;

// The words of kCounters counters. The lanes of each round are independent.
void philox_batch(uint64_t seed, uint64_t counter, uint32_t* out) {
  uint32_t c0[kCounters], c1[kCounters], c2[kCounters], c3[kCounters];
  for (int lane = 0; lane < kCounters; ++lane) {
    const uint64_t own = counter + static_cast<uint64_t>(lane);
    c0[lane] = static_cast<uint32_t>(own);
    c1[lane] = static_cast<uint32_t>(own >> 32);
    c2[lane] = 0;
    c3[lane] = 0;
  }
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma GCC ivdep
    for (int lane = 0; lane < kCounters; ++lane) {
      const uint64_t first = static_cast<uint64_t>(c0[lane]) * 0xd2511f53u;
      const uint64_t second = static_cast<uint64_t>(c2[lane]) * 0xcd9e8d57u;
      c0[lane] = static_cast<uint32_t>(second >> 32) ^ c1[lane] ^ k0;
      c2[lane] = static_cast<uint32_t>(first >> 32) ^ c3[lane] ^ k1;
      c1[lane] = static_cast<uint32_t>(second);
      c3[lane] = static_cast<uint32_t>(first);
    }
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
#pragma GCC ivdep
  for (int lane = 0; lane < kCounters; ++lane) {
    out[4 * lane] = c0[lane];
    out[4 * lane + 1] = c1[lane];
    out[4 * lane + 2] = c2[lane];
    out[4 * lane + 3] = c3[lane];
  }
}

void random_words(uint64_t seed, uint64_t offset, int64_t first, uint32_t* out, int64_t n) {
  constexpr int64_t kWords = 4 * kCounters;
  uint32_t batch[kWords];
  uint64_t counter = offset + static_cast<uint64_t>(first) / 4;
  int64_t skip = first % 4;
  for (int64_t i = 0; i < n; counter += kCounters) {
    if (skip == 0 && n - i >= kWords) {
      philox_batch(seed, counter, out + i);
      i += kWords;
      continue;
    }
    philox_batch(seed, counter, batch);
    const int64_t count = n - i < kWords - skip ? n - i : kWords - skip;
    __builtin_memcpy(out + i, batch + skip, static_cast<size_t>(count) * sizeof(uint32_t));
    i += count;
    skip = 0;
  }
}

// Box-Muller: a radius from the first word of a pair, a direction from the second.
void random_normal(uint64_t seed, uint64_t offset, int64_t first, float* out, int64_t n) {
  uint32_t words[kChunk];
  float pairs[kChunk];
  for (int64_t i = 0; i < n; i += kChunk) {
    const int64_t count = n - i < kChunk ? n - i : kChunk;
    const int64_t whole = (count + 1) / 2;
    random_words(seed, offset, first + i, words, 2 * whole);
#pragma GCC ivdep
    for (int64_t j = 0; j < whole; ++j) {
      const auto above_zero = static_cast<int32_t>(words[2 * j] >> 8) + 1;
      const auto turns = static_cast<int32_t>(words[2 * j + 1] >> 8);
      constexpr float kUnit = 5.9604644775390625e-8f;
      const float radius = CpuMath::sqrt(-2.0f * log_f32(static_cast<float>(above_zero) * kUnit));
      const CosSin direction = cos_sin_turns(static_cast<float>(turns) * kUnit);
      pairs[2 * j] = radius * direction.cos;
      pairs[2 * j + 1] = radius * direction.sin;
    }
    __builtin_memcpy(out + i, pairs, static_cast<size_t>(count) * sizeof(float));
  }
}

void dropout_mask(uint64_t seed, uint64_t offset, int64_t first, double p, uint8_t* kept,
                  int64_t n) {
  const auto threshold64 = dropout_threshold(p);
  if (threshold64 == 0 || threshold64 > 0xffffffffu) {
    if (n > 0) __builtin_memset(kept, threshold64 == 0 ? 1 : 0, static_cast<size_t>(n));
    return;
  }
  const auto threshold = static_cast<uint32_t>(threshold64);
  uint32_t words[kChunk];
  for (int64_t i = 0; i < n; i += kChunk) {
    const int64_t count = n - i < kChunk ? n - i : kChunk;
    random_words(seed, offset, first + i, words, count);
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) kept[i + j] = words[j] >= threshold;
  }
}

template <class T>
void apply_mask_loop(const T* x, const uint8_t* kept, T scale, T* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T scaled = x[i] * scale;
    out[i] = kept[i] != 0 ? scaled : T{0};
  }
}

void apply_mask(DType dtype, const void* x, const uint8_t* kept, double scale, void* out,
                int64_t n) {
  if (dtype == DType::kFloat64) {
    return apply_mask_loop(static_cast<const double*>(x), kept, scale, static_cast<double*>(out),
                           n);
  }
  const auto factor = static_cast<float>(scale);
  if (dtype == DType::kFloat32) {
    return apply_mask_loop(static_cast<const float*>(x), kept, factor, static_cast<float*>(out), n);
  }
  float chunk[kChunk];
  for (int64_t i = 0; i < n; i += kChunk) {
    const int64_t count = n - i < kChunk ? n - i : kChunk;
    convert(element(x, dtype, i), dtype, chunk, DType::kFloat32, count);
    apply_mask_loop(chunk, kept + i, factor, chunk, count);
    convert(chunk, DType::kFloat32, element(out, dtype, i), dtype, count);
  }
}

constexpr PointwiseKernels kPointwiseKernels = {
    convert, unary,        unary_grad,    binary,       compare,
    where,   random_words, random_normal, dropout_mask, apply_mask};

}  // namespace
}  // namespace mixprec::cpu
