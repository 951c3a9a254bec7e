// Elements that are moved and not computed with: as many bytes at a time as their places allow.
#pragma once

#include <initializer_list>

#include "element.h"

namespace mixprec::cuda {

using Unit16 = Pack<uint64_t, 2>;

// Calls body with a TypeTag of a type of `bytes` bytes: 1, 2, 4, 8 or 16.
template <class Body>
void by_unit(size_t bytes, const Body& body) {
  switch (bytes) {
    case 1:
      return body(TypeTag<uint8_t>{});
    case 2:
      return body(TypeTag<uint16_t>{});
    case 4:
      return body(TypeTag<uint32_t>{});
    case 8:
      return body(TypeTag<uint64_t>{});
    default:
      return body(TypeTag<Unit16>{});
  }
}

// The widest unit, of whole elements, that rows of `row_bytes` are made of which follow each other
// from each of the addresses on.
inline size_t widest_unit(size_t item, int64_t row_bytes,
                          std::initializer_list<const void*> addresses) {
  size_t places = static_cast<size_t>(row_bytes);
  for (const void* address : addresses) places |= reinterpret_cast<uintptr_t>(address);
  size_t unit = 16;
  while (unit > item && places % unit != 0) unit /= 2;
  return unit;
}

}  // namespace mixprec::cuda
