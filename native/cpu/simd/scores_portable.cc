// Score kernels for the baseline of the target processor.
#include "scores_impl.h"

namespace mixprec::cpu {

const ScoreKernels& scores_portable() { return kScoreKernels; }

}  // namespace mixprec::cpu
