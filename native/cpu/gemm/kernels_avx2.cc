// The kernels of GEMM for AVX2 with FMA and F16C.
#include "kernels_impl.h"

namespace mixprec::cpu {

template <>
const KernelTable<float>& gemm_kernels_avx2<float>() {
  return kTable<VectorF32>;
}
template <>
const KernelTable<double>& gemm_kernels_avx2<double>() {
  return kTable<VectorF64>;
}

}  // namespace mixprec::cpu
