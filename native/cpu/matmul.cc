// The matmul op.
#include "core/matmul.h"

#include "cpu_backend.h"
#include "gemm/gemm.h"
#include "strided.h"

namespace mixprec::cpu {

void CpuBackend::matmul(const OpCall& call) {
  run_matmul(
      call, [&](const Tensor& tensor) { return contiguous(*this, tensor); },
      [](const GemmDesc& desc) { gemm(desc); });
}

}  // namespace mixprec::cpu
