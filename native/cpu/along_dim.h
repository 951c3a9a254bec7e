// Tensors seen around one dimension, and indices along it.
#pragma once

#include <cstdint>

#include "core/backend.h"

namespace mixprec::cpu {

// A shape seen as [outer, extent, inner] around one dimension; a scalar counts as one element.
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

// The indices, dense. One outside [0, bound) is an ArgumentError that names it.
Tensor checked_indices(Backend& backend, const Tensor& index, int64_t bound);

// Calls body with a value of an unsigned type of the dtype's size: for moving elements.
template <class Body>
void by_size(DType dtype, const Body& body) {
  switch (item_size(dtype)) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

}  // namespace mixprec::cpu
