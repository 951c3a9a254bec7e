#include "tensor_map.h"

#include <algorithm>
#include <cstring>

namespace mixprec::cuda {
namespace emulator {
namespace {

constexpr uint64_t kMark = 0x70616d726f736e74;

}  // namespace

const TensorLayout* layout_of(const TensorMap& map) {
  static_assert(sizeof(TensorLayout) <= sizeof(TensorMap));
  const auto* layout = reinterpret_cast<const TensorLayout*>(map.opaque);
  return layout->mark == kMark ? layout : nullptr;
}

BoxRow box_row(const TensorLayout& layout, const int32_t (&corner)[5], uint32_t row) {
  BoxRow result;
  uintptr_t address = layout.data;
  for (int dim = 1; dim < layout.rank; ++dim) {
    const int64_t at = int64_t{corner[dim]} + row % layout.box[dim];
    row /= layout.box[dim];
    if (at < 0 || at >= static_cast<int64_t>(layout.extents[dim])) return result;
    address += static_cast<uint64_t>(at) * layout.strides[dim - 1];
  }
  const int64_t first = std::max<int64_t>(0, corner[0]);
  const int64_t last = std::min<int64_t>(static_cast<int64_t>(layout.extents[0]),
                                         int64_t{corner[0]} + layout.box[0]);
  if (first >= last) return result;
  result.skipped = static_cast<uint32_t>((first - corner[0]) * layout.element_bytes);
  result.bytes = static_cast<uint32_t>((last - first) * layout.element_bytes);
  result.address = address + static_cast<uint64_t>(first) * layout.element_bytes;
  return result;
}

}  // namespace emulator

namespace api {

// The rules of cuTensorMapEncodeTiled.
Code encode_tensor_map(TensorMap* map, const TensorMapDesc& desc) {
  const uint64_t bytes = item_size(desc.dtype);
  if (desc.rank < 1 || desc.rank > 5) return kInvalidValue;
  if (desc.data == nullptr || reinterpret_cast<uintptr_t>(desc.data) % 16 != 0) {
    return kInvalidValue;
  }
  if (desc.as_tf32 && desc.dtype != DType::kFloat32) return kInvalidValue;
  emulator::TensorLayout layout;
  layout.mark = emulator::kMark;
  layout.data = reinterpret_cast<uintptr_t>(desc.data);
  layout.element_bytes = static_cast<uint8_t>(bytes);
  layout.rank = static_cast<uint8_t>(desc.rank);
  layout.swizzle = desc.swizzle;
  layout.as_tf32 = desc.as_tf32;
  for (int dim = 0; dim < 5; ++dim) {
    layout.extents[dim] = layout.box[dim] = 1;
    if (dim >= desc.rank) continue;
    if (desc.extents[dim] == 0 || desc.extents[dim] > uint64_t{1} << 32) return kInvalidValue;
    if (desc.box[dim] == 0 || desc.box[dim] > 256) return kInvalidValue;
    layout.extents[dim] = desc.extents[dim];
    layout.box[dim] = static_cast<uint16_t>(desc.box[dim]);
    if (dim == 0) continue;
    const uint64_t stride = desc.byte_strides[dim];
    if (stride == 0 || stride % 16 != 0 || stride >= uint64_t{1} << 40) return kInvalidValue;
    layout.strides[dim - 1] = stride;
  }
  if (layout.row_bytes() % 16 != 0) return kInvalidValue;
  const uint32_t most = desc.swizzle == Swizzle::k128Bytes  ? 128
                        : desc.swizzle == Swizzle::k64Bytes ? 64
                        : desc.swizzle == Swizzle::k32Bytes ? 32
                                                            : ~0u;
  if (layout.row_bytes() > most) return kInvalidValue;
  std::memcpy(map->opaque, &layout, sizeof(layout));
  return kSuccess;
}

}  // namespace api
}  // namespace mixprec::cuda
