// Matrix products on the CPU: packed, blocked and register-tiled, for every dtype and layout.
#pragma once

#include "core/gemm_desc.h"

namespace mixprec::cpu {

// float32, float16 and bfloat16 operands (in any mix) accumulate in float32 and round once on the
// store; float64 accumulates in float64; integers wrap modulo 2^64, with alpha and beta truncated.
// Each element adds its K products in an order that depends on the shape alone: the result is the
// same bit for bit for any number of threads. K = 0 gives beta * out + bias.
void gemm(const GemmDesc& desc);

// How gemm() makes a product: by packed panels, as a row or column times a matrix that is read
// where it lies, of whole numbers, or not at all.
enum class GemmPath { kBlocked, kVector, kInteger, kNone };
GemmPath gemm_path(const GemmDesc& desc);

}  // namespace mixprec::cpu
