#include "reduction.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace mixprec::cpu {

ReduceLayout::ReduceLayout(const Tensor& x, int64_t dims) {
  reduced.dtype = x.dtype;
  reduced.data = x.data;
  int64_t smallest_reduced = std::numeric_limits<int64_t>::max();
  int64_t smallest_kept = smallest_reduced;
  for (int32_t dim = 0; dim < x.rank; ++dim) {
    if (((dims >> dim) & 1) == 0) outputs *= x.shape[dim];
  }
  int64_t result_stride = outputs;
  for (int32_t dim = 0; dim < x.rank; ++dim) {
    const int64_t extent = x.shape[dim];
    const int64_t stride = x.strides[dim];
    if (((dims >> dim) & 1) != 0) {
      count *= extent;
      if (extent == 1) continue;
      // Outermost first, so that memory is read in its order.
      int32_t at = reduced.rank++;
      for (; at > 0 && reduced.strides[at - 1] < stride; --at) {
        reduced.shape[at] = reduced.shape[at - 1];
        reduced.strides[at] = reduced.strides[at - 1];
      }
      reduced.shape[at] = extent;
      reduced.strides[at] = stride;
      smallest_reduced = std::min(smallest_reduced, stride);
      continue;
    }
    if (extent != 0) result_stride /= extent;
    if (extent == 1) continue;
    smallest_kept = std::min(smallest_kept, stride);
    const int32_t last = kept_rank - 1;
    if (kept_rank > 0 && kept_strides[last] == stride * extent &&
        result_strides[last] == result_stride * extent) {
      kept_shape[last] *= extent;
      kept_strides[last] = stride;
      result_strides[last] = result_stride;
    } else {
      kept_shape[kept_rank] = extent;
      kept_strides[kept_rank] = stride;
      result_strides[kept_rank++] = result_stride;
    }
  }
  columns = kept_rank > 0 && count > 1 && smallest_reduced != 1 &&
            (smallest_kept == 1 || smallest_kept < smallest_reduced);
  if (columns) choose_columns();
}

void ReduceLayout::choose_columns() {
  int32_t best = kept_rank - 1;
  for (int32_t dim = 0; dim < kept_rank; ++dim) {
    if (kept_strides[dim] == 1) best = dim;
  }
  for (int32_t dim = best; dim + 1 < kept_rank; ++dim) {
    std::swap(kept_shape[dim], kept_shape[dim + 1]);
    std::swap(kept_strides[dim], kept_strides[dim + 1]);
    std::swap(result_strides[dim], result_strides[dim + 1]);
  }
}

}  // namespace mixprec::cpu
