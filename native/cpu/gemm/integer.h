// Integer products, for gemm.cc.
#pragma once

#include "core/gemm_desc.h"

namespace mixprec::cpu {

// Sums modulo 2^64 of integers and bools; `out` takes the low bits, a bool whether it is not 0.
void multiply_integers(const GemmDesc& desc);

}  // namespace mixprec::cpu
