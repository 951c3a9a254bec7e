// Kernels of the optimizers for AVX-512 F, BW, DQ and VL.
#include "optim_impl.h"

namespace mixprec::cpu {

const OptimKernels& optim_avx512() { return kOptimKernels; }

}  // namespace mixprec::cpu
