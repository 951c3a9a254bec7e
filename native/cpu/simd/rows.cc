// Choice of the row kernels.
#include "rows.h"

#include "cpu/isa.h"

namespace mixprec::cpu {

const RowKernels& rows() {
#if MIXPREC_X86
  static const RowKernels& chosen = isa() == Isa::kAvx512 ? rows_avx512()
                                    : isa() == Isa::kAvx2 ? rows_avx2()
                                                          : rows_portable();
  return chosen;
#else
  return rows_portable();
#endif
}

}  // namespace mixprec::cpu
