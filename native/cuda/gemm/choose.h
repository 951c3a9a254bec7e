// The kernel for a product on a device: the best of the model, or of a measurement where
// MIXPREC_GEMM_AUTOTUNE=1, and remembered.
#pragma once

#include <functional>
#include <vector>

#include "cuda/cuda_backend.h"
#include "select.h"

namespace mixprec::cuda {

GemmConfig choose_gemm(CudaBackend& backend, const GemmDesc& desc);

// Whether products are measured before they are made for the first time. Never in the emulator,
// whose times say nothing.
bool autotunes();

// The fastest of the first few of `ranked`: each is measured several times, one after the other in
// turns, and its least time counts. Equal ones keep their order.
GemmConfig fastest(const std::vector<GemmRanked>& ranked,
                   const std::function<double(const GemmConfig&)>& seconds);

}  // namespace mixprec::cuda
