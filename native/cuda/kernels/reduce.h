// Reductions over any dimensions of tensors of any strides.
#pragma once

#include "cuda/cuda_backend.h"

namespace mixprec::cuda {

// out = factor * sum of x over the dimensions of the bit mask `dims`, computed in float32, or in
// the dtype of `out` where that is float64 or whole. `out` is dense. The same in every run.
void reduce_sum(CudaBackend& backend, const Tensor& x, int64_t dims, double factor,
                const Tensor& out);

}  // namespace mixprec::cuda
