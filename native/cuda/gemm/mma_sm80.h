// Matrix products by mma.sync, on every GPU from sm_80 on.
#pragma once

#include "cuda/cuda_backend.h"
#include "mma_tiles.h"
#include "select.h"

namespace mixprec::cuda {

// For products that mma_supports() says yes to, in the tile kMmaTiles[config.variant]. Operands may
// have any strides and alignment. Column sums are not made.
void mma_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config);

}  // namespace mixprec::cuda
