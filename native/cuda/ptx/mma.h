// Matrix products of a warp in registers (PTX ISA 9.7.14.5 mma.sync): d += a * b, with a of 16 rows
// by k, b of k by 8 columns. Fragments are PTX's; registers of 32 bits hold neighbours along k.
#pragma once

#include "core/dtype.h"
#include "warp.h"

#if defined(MIXPREC_CUDA_EMULATED)
#include "cuda/emulator/fragments.h"
#endif

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

template <emulator::OperandType kType, class Sum>
void meet_in_mma(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulator::MmaOperands mine{a, b, d};
  emulator::warp_meet(kFullMask, mine, [](emulator::MmaOperands* const* lanes) {
    emulator::mma_m16n8(kType, lanes);
  });
}

// T is Float16 or BFloat16.
template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>);
  meet_in_mma<std::is_same_v<T, Float16> ? emulator::OperandType::kFloat16
                                         : emulator::OperandType::kBFloat16>(d, a, b);
}
// Operands are float32 bits, of which the lowest 13 count for nothing: round_to_tf32 before.
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  meet_in_mma<emulator::OperandType::kTf32>(d, a, b);
}
inline void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  meet_in_mma<emulator::OperandType::kInt8>(d, a, b);
}
inline void mma_m8n8k4(double (&d)[2], double a, double b) {
  emulator::MmaOperandsF64 mine{&a, &b, d};
  emulator::warp_meet(kFullMask, mine, [](emulator::MmaOperandsF64* const* lanes) {
    emulator::mma_f64(8, 4, lanes);
  });
}
// sm_90.
inline void mma_m16n8k16(double (&d)[4], const double (&a)[8], const double (&b)[4]) {
  emulator::MmaOperandsF64 mine{a, b, d};
  emulator::warp_meet(kFullMask, mine, [](emulator::MmaOperandsF64* const* lanes) {
    emulator::mma_f64(16, 16, lanes);
  });
}

// cvt.rna.tf32: to nearest, ties away from zero.
inline uint32_t tf32_bits(float value) {
  const float rounded = round_to_tf32(value);
  uint32_t bits;
  std::memcpy(&bits, &rounded, sizeof(bits));
  return bits;
}

#else

template <class T>
MIXPREC_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>);
  if constexpr (std::is_same_v<T, Float16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}
MIXPREC_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
MIXPREC_DEVICE void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4],
                                    const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
MIXPREC_DEVICE void mma_m8n8k4(double (&d)[2], double a, double b) {
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(d[0]), "+d"(d[1])
               : "d"(a), "d"(b));
}
MIXPREC_DEVICE void mma_m16n8k16(double (&d)[4], const double (&a)[8], const double (&b)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7, %8, %9, %10, %11}, {%12, %13, %14, %15}, {%0, %1, %2, %3};"
      : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
      : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(a[4]), "d"(a[5]), "d"(a[6]), "d"(a[7]),
        "d"(b[0]), "d"(b[1]), "d"(b[2]), "d"(b[3]));
}

MIXPREC_DEVICE uint32_t tf32_bits(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

#endif

}  // namespace mixprec::cuda::ptx
