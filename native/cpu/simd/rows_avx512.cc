// Row kernels for AVX-512 F, BW, DQ and VL.
#include "rows_impl.h"

namespace mixprec::cpu {

const RowKernels& rows_avx512() { return kRowKernels; }

}  // namespace mixprec::cpu
