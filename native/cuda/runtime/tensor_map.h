// Tensor maps: what the bulk tensor copies of sm_90 (ptx/tma.h) know of a tensor in global memory.
// The host encodes one for each tensor and box, and passes it to the kernel as a
// MIXPREC_GRID_CONSTANT(TensorMap).
#pragma once

#include <cstdint>

#include "api.h"
#include "core/dtype.h"

namespace mixprec::cuda {

// How 16-byte units of a tile in shared memory change places, so that a column of them lies in
// different banks: bits 4 to 6 of an address (or fewer) are xored with bits 7 to 9. The numbers are
// those of matrix descriptors.
enum class Swizzle : uint8_t { kNone = 0, k128Bytes = 1, k64Bytes = 2, k32Bytes = 3 };

// Where the byte at `address` of shared memory goes.
constexpr uint32_t swizzled(uint32_t address, Swizzle swizzle) {
  const uint32_t mask = swizzle == Swizzle::k128Bytes  ? 0x70
                        : swizzle == Swizzle::k64Bytes ? 0x30
                        : swizzle == Swizzle::k32Bytes ? 0x10
                                                       : 0;
  return address ^ ((address >> 3) & mask);
}

// The bytes of a CUtensorMap, or of what the emulator puts in its place.
struct alignas(64) TensorMap {
  uint64_t opaque[16] = {};
};

// A tensor of up to five dimensions, the innermost first, which is dense, and the box of it that
// one copy moves. What lies outside the tensor reads as zero and is not written.
struct TensorMapDesc {
  DType dtype = DType::kBFloat16;
  bool as_tf32 = false;  // float32 that is converted while it is copied
  int rank = 2;
  const void* data = nullptr;        // aligned to 16 bytes
  uint64_t extents[5] = {};          // in elements, up to 2^32
  uint64_t byte_strides[5] = {};     // of all but the innermost: multiples of 16, below 2^40
  uint32_t box[5] = {};              // in elements, up to 256; innermost a multiple of 16 bytes
  Swizzle swizzle = Swizzle::kNone;  // the box's innermost extent is at most its bytes
};

namespace api {

// kInvalidValue where the description breaks a rule above.
Code encode_tensor_map(TensorMap* map, const TensorMapDesc& desc);

}  // namespace api
}  // namespace mixprec::cuda
