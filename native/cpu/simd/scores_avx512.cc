// Score kernels for AVX-512 F, BW, DQ and VL.
#include "scores_impl.h"

namespace mixprec::cpu {

const ScoreKernels& scores_avx512() { return kScoreKernels; }

}  // namespace mixprec::cpu
