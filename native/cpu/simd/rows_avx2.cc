// Row kernels for AVX2 with FMA and F16C.
#include "rows_impl.h"

namespace mixprec::cpu {

const RowKernels& rows_avx2() { return kRowKernels; }

}  // namespace mixprec::cpu
