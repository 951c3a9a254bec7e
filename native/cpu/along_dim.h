// Indices along a dimension, and elements that are only moved.
#pragma once

#include <cstdint>

#include "core/along_dim.h"
#include "core/backend.h"

namespace mixprec::cpu {

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
