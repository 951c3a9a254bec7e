// Sums and products that the compiler must not fuse (PTX ISA 9.7.3 add.rn, mul.rn): for what has to
// be equal to the CPU's result bit by bit. The host is compiled without fusing.
#pragma once

#include "kernel.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)

inline float add_rn(float a, float b) { return a + b; }
inline double add_rn(double a, double b) { return a + b; }
inline float mul_rn(float a, float b) { return a * b; }
inline double mul_rn(double a, double b) { return a * b; }

#else

MIXPREC_DEVICE float add_rn(float a, float b) { return __fadd_rn(a, b); }
MIXPREC_DEVICE double add_rn(double a, double b) { return __dadd_rn(a, b); }
MIXPREC_DEVICE float mul_rn(float a, float b) { return __fmul_rn(a, b); }
MIXPREC_DEVICE double mul_rn(double a, double b) { return __dmul_rn(a, b); }

#endif

}  // namespace mixprec::cuda::ptx
