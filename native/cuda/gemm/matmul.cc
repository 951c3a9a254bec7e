// The matmul op, and the choice of the kernel for a product.

#include "core/matmul.h"

#include "choose.h"
#include "cuda/tensors.h"
#include "families.h"
#include "finish.h"
#include "gemm.h"

namespace mixprec::cuda {

void gemm(CudaBackend& backend, const GemmDesc& given) {
  if (given.M > 0 && given.N > 0 && given.batch > 0 && given.outer > 0) {
    const GemmDesc desc = with_batch_as_rows(given);
    run_gemm(backend, desc, choose_gemm(backend, desc));
  }
  if (given.epilogue.column_sums != nullptr) sum_columns(backend, given);
}

void CudaBackend::matmul(const OpCall& call) {
  run_matmul(
      call, [&](const Tensor& tensor) { return contiguous(*this, tensor); },
      [&](const GemmDesc& desc) { gemm(*this, desc); });
}

}  // namespace mixprec::cuda
