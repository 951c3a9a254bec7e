// The kernels of GEMM for AVX-512 (F, BW, DQ, VL).
#include "kernels_impl.h"

namespace mixprec::cpu {

template <>
const KernelTable<float>& gemm_kernels_avx512<float>() {
  return kTable<VectorF32>;
}
template <>
const KernelTable<double>& gemm_kernels_avx512<double>() {
  return kTable<VectorF64>;
}

}  // namespace mixprec::cpu
