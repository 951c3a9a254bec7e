// Choice of the element-wise kernels.
#include "kernels.h"

#include "cpu/isa.h"

namespace mixprec::cpu {

const PointwiseKernels& simd() {
#if MIXPREC_X86
  static const PointwiseKernels& chosen = isa() == Isa::kAvx512 ? kernels_avx512()
                                          : isa() == Isa::kAvx2 ? kernels_avx2()
                                                                : kernels_portable();
  return chosen;
#else
  return kernels_portable();
#endif
}

}  // namespace mixprec::cpu
