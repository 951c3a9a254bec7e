// From sums in scratch memory to the output of a product, for kernels that do not do it themselves:
// those that cut K into shares, and those without an epilogue of their own.
#pragma once

#include "core/gemm_desc.h"
#include "cuda/cuda_backend.h"

namespace mixprec::cuda {

// The dtype in which a product's sums are kept: float64, float32, int32 for products of bytes (that
// is what tensor cores give), else int64.
DType sum_dtype(const GemmDesc& desc);

// Bytes of the sums of `splits` shares of K.
size_t sums_bytes(const GemmDesc& desc, int splits);

// The bare product, into memory for the sums of one share.
GemmDesc product_into(const GemmDesc& desc, void* sums);

// Adds `partials`, dense [splits][outer * batch][M][N] of sum_dtype(desc), in the order of the
// splits, and stores what alpha, beta, bias and the epilogue make of the sums. Column sums apart.
void finish_sums(CudaBackend& backend, const GemmDesc& desc, const void* partials, int splits);

// As finish_sums, from the sums [outer * batch][N][M] of the transposed product.
void finish_transposed(CudaBackend& backend, const GemmDesc& desc, const void* sums);

// Fills desc.epilogue.column_sums from `out`. The same in every run.
void sum_columns(CudaBackend& backend, const GemmDesc& desc);

}  // namespace mixprec::cuda
