// The families of kernels. Adding one is a row here and what it offers in offers.h.
#pragma once

#include <span>

#include "cuda/cuda_backend.h"
#include "offers.h"

namespace mixprec::cuda {

struct GemmFamilyEntry {
  GemmFamily family;
  GemmOfferFunction offer;
  void (*run)(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config);
};

std::span<const GemmFamilyEntry> gemm_families();

// Everything that can make the product.
GemmOffer gemm_offer(const GemmDesc& desc, const api::DeviceProperties& device);

// Makes it as `config` says, column sums apart. Extents are from 1 up.
void run_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config);

}  // namespace mixprec::cuda
