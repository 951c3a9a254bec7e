// Conversions between float32 and the 16-bit floats (PTX ISA 9.7.9.21 cvt): round to nearest, ties
// to even. NaN stays NaN; its payload is the hardware's affair.
#pragma once

#include "core/dtype.h"
#include "kernel.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

inline float widen(Float16 value) { return to_float(value); }
inline Float16 narrow_f16(float value) { return to_float16(value); }
inline BFloat16 narrow_bf16(float value) { return to_bfloat16(value); }
inline uint32_t narrow_bf16_pair(float low, float high) {
  return to_bfloat16(low).bits | static_cast<uint32_t>(to_bfloat16(high).bits) << 16;
}

#else

MIXPREC_DEVICE float widen(Float16 value) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
}
MIXPREC_DEVICE Float16 narrow_f16(float value) {
  Float16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
}
MIXPREC_DEVICE BFloat16 narrow_bf16(float value) {
  BFloat16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
}
// Two in one register, as tensor cores take them.
MIXPREC_DEVICE uint32_t narrow_bf16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

#endif

MIXPREC_DEVICE float widen(BFloat16 value) {
#if defined(MIXPREC_CUDA_EMULATED)
  return to_float(value);
#else
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
#endif
}

}  // namespace mixprec::cuda::ptx
