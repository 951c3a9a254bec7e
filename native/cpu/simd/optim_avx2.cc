// Kernels of the optimizers for AVX2 with FMA and F16C.
#include "optim_impl.h"

namespace mixprec::cpu {

const OptimKernels& optim_avx2() { return kOptimKernels; }

}  // namespace mixprec::cpu
