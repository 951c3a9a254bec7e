// A shape seen around one of its dimensions.
#pragma once

#include <cstdint>

#include "errors.h"
#include "storage.h"

namespace mixprec {

// [outer, extent, inner] around a dimension; a scalar counts as one element.
struct AlongDim {
  int64_t outer = 1;
  int64_t extent = 1;
  int64_t inner = 1;

  AlongDim(const Tensor& tensor, int32_t dim) {
    if (tensor.rank == 0) return;
    check(dim >= 0 && dim < tensor.rank, "an op along a dimension that does not exist");
    extent = tensor.shape[dim];
    for (int32_t d = 0; d < dim; ++d) outer *= tensor.shape[d];
    for (int32_t d = dim + 1; d < tensor.rank; ++d) inner *= tensor.shape[d];
  }
};

}  // namespace mixprec
