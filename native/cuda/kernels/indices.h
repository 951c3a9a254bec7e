// What ops with indices share.
#pragma once

#include "cuda/cuda_backend.h"
#include "element.h"
#include "report.h"

namespace mixprec::cuda {

inline constexpr int kIndexThreads = 256;

MIXPREC_DEVICE int64_t thread_of_grid() {
  return int64_t{blockIdx.x} * kIndexThreads + threadIdx.x;
}
MIXPREC_DEVICE int64_t threads_of_grid() { return int64_t{gridDim.x} * kIndexThreads; }

// Reports an index outside [0, bound).
MIXPREC_DEVICE bool index_is_good(int64_t index, int64_t position, int64_t bound,
                                  const ReportSlot& slot) {
  if (static_cast<uint64_t>(index) < static_cast<uint64_t>(bound)) return true;
  report(slot, ReportKind::kIndex, index, position, bound);
  return false;
}

// `tensor` with the shape of an index: every place along the dim is its first, elsewhere there may
// be fewer.
inline Tensor seen_by_index(const Tensor& tensor, const Tensor& index, int32_t dim) {
  check(index.dtype == DType::kInt64, "indices must be int64");
  check(index.rank == tensor.rank || index.rank == 0 || tensor.rank == 0,
        "an index of another number of dimensions");
  Tensor seen = tensor;
  seen.rank = index.rank;
  for (int32_t d = 0; d < index.rank; ++d) {
    seen.shape[d] = index.shape[d];
    if (d == dim || tensor.rank == 0) {
      seen.strides[d] = 0;
    } else {
      check(index.shape[d] <= tensor.shape[d], "an index larger than its tensor");
    }
  }
  return seen;
}

}  // namespace mixprec::cuda
