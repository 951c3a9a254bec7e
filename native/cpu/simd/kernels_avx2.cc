// Element-wise kernels for AVX2 with FMA and F16C.
#include "kernels_impl.h"

namespace mixprec::cpu {

const PointwiseKernels& kernels_avx2() { return kPointwiseKernels; }

}  // namespace mixprec::cpu
