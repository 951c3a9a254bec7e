// Score kernels for AVX2, FMA and F16C.
#include "scores_impl.h"

namespace mixprec::cpu {

const ScoreKernels& scores_avx2() { return kScoreKernels; }

}  // namespace mixprec::cpu
