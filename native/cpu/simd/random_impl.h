// Random numbers and dropout, for the element-wise kernels; a part of kernels_impl.h.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "convert_impl.h"
#include "core/philox.h"
#include "math.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

constexpr int kCounters = 32;

#if defined(__AVX2__)
// Words in lanes of 64 bits: products are of their lower halves, so what the upper ones hold does
// not matter.
#if defined(__AVX512F__)
typedef uint64_t Words __attribute__((vector_size(64)));
MIXPREC_MATH Words product(Words a, Words b) {
  // The form with a mask: GCC 12 warns of its own header in the plain one.
  return reinterpret_cast<Words>(
      _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
// a[0], b[0], a[1], b[1] and so on.
MIXPREC_MATH void store_interleaved(Words a, Words b, uint32_t* out) {
  const __m512i low = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0);
  const __m512i high = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
  const auto first = reinterpret_cast<__m512i>(a);
  const auto second = reinterpret_cast<__m512i>(b);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64(first, low, second));
  _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(first, high, second));
}
#else
typedef uint64_t Words __attribute__((vector_size(32)));
MIXPREC_MATH Words product(Words a, Words b) {
  return reinterpret_cast<Words>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
MIXPREC_MATH void store_interleaved(Words a, Words b, uint32_t* out) {
  const auto first = reinterpret_cast<__m256i>(a);
  const auto second = reinterpret_cast<__m256i>(b);
  const __m256i even = _mm256_unpacklo_epi64(first, second);
  const __m256i odd = _mm256_unpackhi_epi64(first, second);
  auto* to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
}
#endif

// The words of kCounters counters.
void philox_batch(uint64_t seed, uint64_t counter, uint32_t* out) {
  constexpr int kLanes = sizeof(Words) / sizeof(uint64_t);
  constexpr int kVectors = kCounters / kLanes;
  Words c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    for (int lane = 0; lane < kLanes; ++lane) {
      c0[v][lane] = counter + static_cast<uint64_t>(v * kLanes + lane);
    }
    c1[v] = c0[v] >> 32;
    c2[v] = c3[v] = Words{};
  }
  const Words first_factor = Words{} + 0xd2511f53u;
  const Words second_factor = Words{} + 0xcd9e8d57u;
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Words first = product(c0[v], first_factor);
      const Words second = product(c2[v], second_factor);
      c0[v] = (second >> 32) ^ c1[v] ^ uint64_t { k0 };
      c2[v] = (first >> 32) ^ c3[v] ^ uint64_t { k1 };
      c1[v] = second;
      c3[v] = first;
    }
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    store_interleaved((c0[v] & 0xffffffffu) | (c1[v] << 32), (c2[v] & 0xffffffffu) | (c3[v] << 32),
                      out + 4 * kLanes * v);
  }
}
#else
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
#endif

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

}  // namespace
}  // namespace mixprec::cpu
