// Choice of the score kernels.
#include "scores.h"

#include "cpu/isa.h"

namespace mixprec::cpu {

const ScoreKernels& scores() {
#if MIXPREC_X86
  static const ScoreKernels& chosen = isa() == Isa::kAvx512 ? scores_avx512()
                                      : isa() == Isa::kAvx2 ? scores_avx2()
                                                            : scores_portable();
  return chosen;
#else
  return scores_portable();
#endif
}

}  // namespace mixprec::cpu
