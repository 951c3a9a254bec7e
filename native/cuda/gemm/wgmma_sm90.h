// Matrix products on Hopper's tensor cores, by TMA and wgmma. wgmma_tiles.h says of which
// products, and in which tiles.
#pragma once

#include "core/gemm_desc.h"
#include "cuda/cuda_backend.h"
#include "select.h"

namespace mixprec::cuda {

// Queues a product that wgmma_supports(), in tiles that wgmma_tile_fits(). float32 of the highest
// precision whose range planes do not hold is made by simt_gemm, which the device decides.
void wgmma_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config);

}  // namespace mixprec::cuda
