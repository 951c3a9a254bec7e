// Rows of the op list that have no kernels yet. A row leaves this list when its method is written,
// and the file goes with the last one.
#include "cuda_backend.h"

namespace mixprec::cuda {

#define MIXPREC_PENDING(name)                                                              \
  void CudaBackend::name(const OpCall&) {                                                  \
    throw Error(ErrorCode::kDevice, #name " is not implemented on cuda yet; use \"cpu\""); \
  }

MIXPREC_PENDING(random_uniform)
MIXPREC_PENDING(random_normal)
MIXPREC_PENDING(random_int)
MIXPREC_PENDING(dropout)
MIXPREC_PENDING(cumsum)
MIXPREC_PENDING(sort)
MIXPREC_PENDING(topk)
MIXPREC_PENDING(multinomial)
MIXPREC_PENDING(unfold)
MIXPREC_PENDING(fold)
MIXPREC_PENDING(attention)
MIXPREC_PENDING(attention_grad)

}  // namespace mixprec::cuda
