// Element-wise kernels for any processor.
#include "kernels_impl.h"

namespace mixprec::cpu {

const PointwiseKernels& kernels_portable() { return kPointwiseKernels; }

}  // namespace mixprec::cpu
