// What the emulator keeps in a TensorMap, and the boxes that copies move.
#pragma once

#include "cuda/runtime/tensor_map.h"

namespace mixprec::cuda::emulator {

struct TensorLayout {
  uint64_t mark = 0;
  uint64_t data = 0;
  uint64_t strides[4] = {};  // bytes, of dimensions 1 to 4
  uint64_t extents[5] = {};
  uint16_t box[5] = {};
  uint8_t element_bytes = 0;
  uint8_t rank = 0;
  Swizzle swizzle = Swizzle::kNone;
  bool as_tf32 = false;

  uint32_t row_bytes() const { return uint32_t{box[0]} * element_bytes; }
  uint32_t rows() const { return uint32_t{box[1]} * box[2] * box[3] * box[4]; }
  uint32_t box_bytes() const { return row_bytes() * rows(); }
};

// The layout in a map; null if nothing was encoded in it.
const TensorLayout* layout_of(const TensorMap& map);

// A row of a box: `bytes` bytes at `address` of global memory are inside the tensor, and lie
// `skipped` bytes into the row. All of the row is outside if `bytes` is 0.
struct BoxRow {
  uintptr_t address = 0;
  uint32_t skipped = 0;
  uint32_t bytes = 0;
};
BoxRow box_row(const TensorLayout& layout, const int32_t (&corner)[5], uint32_t row);

}  // namespace mixprec::cuda::emulator
