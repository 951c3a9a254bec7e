// Choice of the optimizers' kernels.
#include "optim.h"

#include "cpu/isa.h"

namespace mixprec::cpu {

const OptimKernels& optim_kernels() {
#if MIXPREC_X86
  static const OptimKernels& chosen = isa() == Isa::kAvx512 ? optim_avx512()
                                      : isa() == Isa::kAvx2 ? optim_avx2()
                                                            : optim_portable();
  return chosen;
#else
  return optim_portable();
#endif
}

}  // namespace mixprec::cpu
