// Vectors of 8 floats and 4 doubles for AVX2 with FMA and F16C. Included by one source file only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mixprec::cpu {
namespace {

struct VectorF32 {
  using Scalar = float;
  using Reg = __m256;
  static constexpr int kWidth = 8;
  // 12 accumulators, 2 vectors of rhs and 1 broadcast of lhs leave one of 16 registers.
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 2;

  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg broadcast(float value) { return _mm256_set1_ps(value); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Reg r) { _mm256_storeu_ps(p, r); }
  static __m256i first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Reg load_first(const float* p, int count) { return _mm256_maskload_ps(p, first(count)); }
  static void store_first(float* p, Reg r, int count) { _mm256_maskstore_ps(p, first(count), r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static float sum(Reg r) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(r), _mm256_extractf128_ps(r, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  static void transpose(Reg (&r)[8]) {
    Reg t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      const Reg low = r[i];
      const Reg high = r[i + 4];
      r[i] = _mm256_permute2f128_ps(low, high, 0x20);
      r[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
  }
};

struct VectorF64 {
  using Scalar = double;
  using Reg = __m256d;
  static constexpr int kWidth = 4;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 2;

  static Reg zero() { return _mm256_setzero_pd(); }
  static Reg broadcast(double value) { return _mm256_set1_pd(value); }
  static Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, Reg r) { _mm256_storeu_pd(p, r); }
  static __m256i first(int count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static Reg load_first(const double* p, int count) { return _mm256_maskload_pd(p, first(count)); }
  static void store_first(double* p, Reg r, int count) { _mm256_maskstore_pd(p, first(count), r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  static double sum(Reg r) {
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(r), _mm256_extractf128_pd(r, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }

  static void transpose(Reg (&r)[4]) {
    const Reg t0 = _mm256_unpacklo_pd(r[0], r[1]);
    const Reg t1 = _mm256_unpackhi_pd(r[0], r[1]);
    const Reg t2 = _mm256_unpacklo_pd(r[2], r[3]);
    const Reg t3 = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(t0, t2, 0x20);
    r[1] = _mm256_permute2f128_pd(t1, t3, 0x20);
    r[2] = _mm256_permute2f128_pd(t0, t2, 0x31);
    r[3] = _mm256_permute2f128_pd(t1, t3, 0x31);
  }
};

struct ElementF64 {
  using Storage = double;
  static __m256d load(const double* p) { return VectorF64::load(p); }
  static __m256d load_first(const double* p, int count) { return VectorF64::load_first(p, count); }
  static void store(double* p, __m256d r) { VectorF64::store(p, r); }
  static void store_first(double* p, __m256d r, int count) { VectorF64::store_first(p, r, count); }
};

struct ElementF32 {
  using Storage = float;
  static __m256 load(const float* p) { return VectorF32::load(p); }
  static __m256 load_first(const float* p, int count) { return VectorF32::load_first(p, count); }
  static void store(float* p, __m256 r) { VectorF32::store(p, r); }
  static void store_first(float* p, __m256 r, int count) { VectorF32::store_first(p, r, count); }
};

// There are no masks for 16-bit elements: the last few of a row go through memory.
inline __m128i load_halves(const uint16_t* p, int count) {
  alignas(16) uint16_t buffer[8] = {};
  for (int i = 0; i < count; ++i) buffer[i] = p[i];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(buffer));
}
inline void store_halves(uint16_t* p, __m128i halves, int count) {
  alignas(16) uint16_t buffer[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), halves);
  for (int i = 0; i < count; ++i) p[i] = buffer[i];
}

struct ElementF16 {
  using Storage = uint16_t;
  static __m256 load(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static __m256 load_first(const uint16_t* p, int count) {
    return _mm256_cvtph_ps(load_halves(p, count));
  }
  static void store(uint16_t* p, __m256 r) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(r));
  }
  static void store_first(uint16_t* p, __m256 r, int count) { store_halves(p, narrow(r), count); }

 private:
  static __m128i narrow(__m256 r) {
    return _mm256_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

struct ElementBF16 {
  using Storage = uint16_t;
  static __m256 load(const uint16_t* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static __m256 load_first(const uint16_t* p, int count) { return widen(load_halves(p, count)); }
  static void store(uint16_t* p, __m256 r) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(r));
  }
  static void store_first(uint16_t* p, __m256 r, int count) { store_halves(p, narrow(r), count); }
  // The upper halves of the rounded bit patterns, the lower ones left as they fall.
  static __m256i rounded_bits(__m256 r) {
    const __m256i bits = _mm256_castps_si256(r);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(r, r, _CMP_UNORD_Q));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    return _mm256_blendv_epi8(rounded, quiet, nan);
  }

 private:
  static __m256 widen(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static __m128i narrow(__m256 r) {
    const __m256i upper = _mm256_srli_epi32(rounded_bits(r), 16);
    const __m256i packed = _mm256_packus_epi32(upper, upper);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
  }
};

struct ElementF32AsBF16 {
  using Storage = float;
  static __m256 load(const float* p) { return round(VectorF32::load(p)); }
  static __m256 load_first(const float* p, int count) {
    return round(VectorF32::load_first(p, count));
  }

 private:
  static __m256 round(__m256 r) {
    return _mm256_castsi256_ps(_mm256_and_si256(ElementBF16::rounded_bits(r),
                                                _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};

struct ElementF32AsTf32 {
  using Storage = float;
  static __m256 load(const float* p) { return round(VectorF32::load(p)); }
  static __m256 load_first(const float* p, int count) {
    return round(VectorF32::load_first(p, count));
  }

 private:
  static __m256 round(__m256 r) {
    const __m256i bits = _mm256_castps_si256(r);
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    const __m256i rounded = _mm256_and_si256(_mm256_add_epi32(bits, _mm256_set1_epi32(0x1000)),
                                             _mm256_set1_epi32(static_cast<int>(0xffffe000u)));
    const __m256i special = _mm256_cmpeq_epi32(_mm256_and_si256(bits, exponent), exponent);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(rounded, bits, special));
  }
};

}  // namespace
}  // namespace mixprec::cpu
