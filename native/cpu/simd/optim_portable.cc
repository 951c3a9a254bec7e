// Kernels of the optimizers for any processor.
#include "optim_impl.h"

namespace mixprec::cpu {

const OptimKernels& optim_portable() { return kOptimKernels; }

}  // namespace mixprec::cpu
