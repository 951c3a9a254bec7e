// The matmul op, and the choice of the kernel for a product.

#include "core/matmul.h"

#include "cuda/tensors.h"
#include "finish.h"
#include "gemm.h"

namespace mixprec::cuda {

void gemm(CudaBackend& backend, const GemmDesc& desc) {
  const bool empty = desc.M == 0 || desc.N == 0 || desc.batch == 0 || desc.outer == 0;
  if (!empty) simt_gemm(backend, with_batch_as_rows(desc));
  if (desc.epilogue.column_sums != nullptr) sum_columns(backend, desc);
}

void CudaBackend::matmul(const OpCall& call) {
  run_matmul(
      call, [&](const Tensor& tensor) { return contiguous(*this, tensor); },
      [&](const GemmDesc& desc) { gemm(*this, desc); });
}

}  // namespace mixprec::cuda
