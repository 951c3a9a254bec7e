// Element-wise kernels for AVX-512 (F, BW, DQ, VL).
#include "kernels_impl.h"

namespace mixprec::cpu {

const PointwiseKernels& kernels_avx512() { return kPointwiseKernels; }

}  // namespace mixprec::cpu
