// Matrix products on a CUDA device.
#pragma once

#include "core/gemm_desc.h"
#include "cuda/cuda_backend.h"

namespace mixprec::cuda {

// float32, float16 and bfloat16 operands (in any mix) accumulate in float32 and round once on the
// store; float64 accumulates in float64; integers wrap modulo 2^64, with alpha and beta truncated.
// The order in which an element adds its products depends on the shape alone. K = 0 gives
// beta * out + bias. Queues kernels; nothing is waited for.
void gemm(CudaBackend& backend, const GemmDesc& desc);

// The tiled kernel on the general arithmetic units: right for every dtype, layout and shape.
void simt_gemm(CudaBackend& backend, const GemmDesc& desc);

}  // namespace mixprec::cuda
