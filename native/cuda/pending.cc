// Rows of the op list that have no kernels yet. A row leaves this list when its method is written,
// and the file goes with the last one.
#include "cuda_backend.h"

namespace mixprec::cuda {

#define MIXPREC_PENDING(name)                                                              \
  void CudaBackend::name(const OpCall&) {                                                  \
    throw Error(ErrorCode::kDevice, #name " is not implemented on cuda yet; use \"cpu\""); \
  }

MIXPREC_PENDING(attention)
MIXPREC_PENDING(attention_grad)

}  // namespace mixprec::cuda
