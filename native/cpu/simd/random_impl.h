// Random numbers and dropout, for the element-wise kernels; a part of kernels_impl.h.
#pragma once

#include "convert_impl.h"
#include "core/philox.h"
#include "math.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

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

}  // namespace
}  // namespace mixprec::cpu
