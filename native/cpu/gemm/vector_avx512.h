// Vectors of 16 floats and 8 doubles for AVX-512 (F, BW, DQ, VL). Included by one source file only.
#pragma once

// GCC 12 takes the undefined vectors inside its own intrinsics for mistakes (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>

namespace mixprec::cpu {
namespace {

struct VectorF32 {
  using Scalar = float;
  using Reg = __m512;
  static constexpr int kWidth = 16;
  // 28 accumulators, 2 vectors of rhs and 1 broadcast of lhs leave one of 32 registers.
  static constexpr int kTileRows = 14;
  static constexpr int kTileVectors = 2;

  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg broadcast(float value) { return _mm512_set1_ps(value); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Reg r) { _mm512_storeu_ps(p, r); }
  static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1u); }
  static Reg load_first(const float* p, int count) {
    return _mm512_maskz_loadu_ps(first(count), p);
  }
  static void store_first(float* p, Reg r, int count) { _mm512_mask_storeu_ps(p, first(count), r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static float sum(Reg r) { return _mm512_reduce_add_ps(r); }

  static void transpose(Reg (&r)[16]) {
    Reg t[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      r[i] = low_pairs(t[i], t[i + 2]);
      r[i + 1] = high_pairs(t[i], t[i + 2]);
      r[i + 2] = low_pairs(t[i + 1], t[i + 3]);
      r[i + 3] = high_pairs(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
      t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
      t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
      t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; ++i) {
      r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
      r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
  }

 private:
  static Reg low_pairs(Reg a, Reg b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  static Reg high_pairs(Reg a, Reg b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
};

struct VectorF64 {
  using Scalar = double;
  using Reg = __m512d;
  static constexpr int kWidth = 8;
  static constexpr int kTileRows = 14;
  static constexpr int kTileVectors = 2;

  static Reg zero() { return _mm512_setzero_pd(); }
  static Reg broadcast(double value) { return _mm512_set1_pd(value); }
  static Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, Reg r) { _mm512_storeu_pd(p, r); }
  static __mmask8 first(int count) { return static_cast<__mmask8>((1u << count) - 1u); }
  static Reg load_first(const double* p, int count) {
    return _mm512_maskz_loadu_pd(first(count), p);
  }
  static void store_first(double* p, Reg r, int count) {
    _mm512_mask_storeu_pd(p, first(count), r);
  }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  static double sum(Reg r) { return _mm512_reduce_add_pd(r); }

  static void transpose(Reg (&r)[8]) {
    Reg t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      r[i] = _mm512_shuffle_f64x2(t[i], t[i + 2], 0x88);
      r[i + 2] = _mm512_shuffle_f64x2(t[i], t[i + 2], 0xdd);
      r[i + 4] = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0x88);
      r[i + 6] = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_f64x2(r[i], r[i + 4], 0x88);
      t[i + 4] = _mm512_shuffle_f64x2(r[i], r[i + 4], 0xdd);
    }
    for (int i = 0; i < 8; ++i) r[i] = t[i];
  }
};

struct ElementF64 {
  using Storage = double;
  static __m512d load(const double* p) { return _mm512_loadu_pd(p); }
  static __m512d load_first(const double* p, int count) { return VectorF64::load_first(p, count); }
  static void store(double* p, __m512d r) { _mm512_storeu_pd(p, r); }
  static void store_first(double* p, __m512d r, int count) { VectorF64::store_first(p, r, count); }
};

struct ElementF32 {
  using Storage = float;
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static __m512 load_first(const float* p, int count) { return VectorF32::load_first(p, count); }
  static void store(float* p, __m512 r) { _mm512_storeu_ps(p, r); }
  static void store_first(float* p, __m512 r, int count) { VectorF32::store_first(p, r, count); }
};

struct ElementF16 {
  using Storage = uint16_t;
  static __m512 load(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 load_first(const uint16_t* p, int count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(VectorF32::first(count), p));
  }
  static void store(uint16_t* p, __m512 r) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(r));
  }
  static void store_first(uint16_t* p, __m512 r, int count) {
    _mm256_mask_storeu_epi16(p, VectorF32::first(count), narrow(r));
  }

 private:
  static __m256i narrow(__m512 r) {
    return _mm512_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

struct ElementBF16 {
  using Storage = uint16_t;
  static __m512 load(const uint16_t* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 load_first(const uint16_t* p, int count) {
    return widen(_mm256_maskz_loadu_epi16(VectorF32::first(count), p));
  }
  static void store(uint16_t* p, __m512 r) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(r));
  }
  static void store_first(uint16_t* p, __m512 r, int count) {
    _mm256_mask_storeu_epi16(p, VectorF32::first(count), narrow(r));
  }
  // The upper halves of the rounded bit patterns, the lower ones left as they fall.
  static __m512i rounded_bits(__m512 r) {
    const __m512i bits = _mm512_castps_si512(r);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(r, r, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x00400000));
  }

 private:
  static __m512 widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static __m256i narrow(__m512 r) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_bits(r), 16));
  }
};

struct ElementF32AsBF16 {
  using Storage = float;
  static __m512 load(const float* p) { return round(_mm512_loadu_ps(p)); }
  static __m512 load_first(const float* p, int count) {
    return round(VectorF32::load_first(p, count));
  }

 private:
  static __m512 round(__m512 r) {
    return _mm512_castsi512_ps(_mm512_and_si512(ElementBF16::rounded_bits(r),
                                                _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};

struct ElementF32AsTf32 {
  using Storage = float;
  static __m512 load(const float* p) { return round(_mm512_loadu_ps(p)); }
  static __m512 load_first(const float* p, int count) {
    return round(VectorF32::load_first(p, count));
  }

 private:
  static __m512 round(__m512 r) {
    const __m512i bits = _mm512_castps_si512(r);
    const __m512i exponent = _mm512_set1_epi32(0x7f800000);
    const __m512i rounded = _mm512_and_si512(_mm512_add_epi32(bits, _mm512_set1_epi32(0x1000)),
                                             _mm512_set1_epi32(static_cast<int>(0xffffe000u)));
    const __mmask16 special = _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, exponent), exponent);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(rounded, special, bits));
  }
};

}  // namespace
}  // namespace mixprec::cpu
