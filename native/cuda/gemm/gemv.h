// Products of a large matrix with a few vectors, which are as fast as the memory is.
#pragma once

#include <algorithm>

#include "core/gemm_desc.h"
#include "cuda/cuda_backend.h"
#include "select.h"

namespace mixprec::cuda {

// The most rows of lhs (then rhs is the large matrix).
inline constexpr int64_t kMostGemvRows = 16;

// Whether gemv_gemm makes the product, on any device: at most kMostGemvRows rows, or one column,
// of float32, float16 or bfloat16 in any layout. For more than eight rows the matrix is read twice.
constexpr bool gemv_supports(const GemmDesc& desc) {
  const auto is_float = [](DType dtype) {
    return dtype == DType::kFloat32 || is_half_width(dtype);
  };
  return desc.lhs.dtype == desc.rhs.dtype && is_float(desc.lhs.dtype) && is_float(desc.out_dtype) &&
         (desc.bias == nullptr || is_float(desc.bias_dtype)) &&
         (desc.N == 1 || desc.M <= kMostGemvRows) && std::min({desc.M, desc.N, desc.K}) >= 1;
}

// With config.splits shares of K, which are added up afterwards; config.variant counts for nothing.
// Column sums are not made.
void gemv_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config);

}  // namespace mixprec::cuda
