// The kernels of GEMM for any processor.
#include "kernels_impl.h"

namespace mixprec::cpu {

template <>
const KernelTable<float>& gemm_kernels_portable<float>() {
  return kTable<VectorF32>;
}
template <>
const KernelTable<double>& gemm_kernels_portable<double>() {
  return kTable<VectorF64>;
}

}  // namespace mixprec::cpu
