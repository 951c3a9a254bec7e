// Counting bits (PTX ISA 9.7.1.15 popc).
#pragma once

#include <bit>

#include "kernel.h"

namespace mixprec::cuda::ptx {

#if defined(MIXPREC_CUDA_EMULATED)
inline int count_bits(uint32_t word) { return std::popcount(word); }
#else
MIXPREC_DEVICE int count_bits(uint32_t word) { return __popc(word); }
#endif

}  // namespace mixprec::cuda::ptx
