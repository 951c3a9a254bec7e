// What the kernels of mma.sync can multiply, and in which tiles: plain host code, without CUDA, for
// those who choose a kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "core/gemm_desc.h"
#include "cuda/runtime/api.h"

namespace mixprec::cuda {

enum class MmaKind : int32_t {
  kNone,
  kHalf,     // float16 or bfloat16
  kTf32,     // float32 rounded to TF32, or to bfloat16 (kHigh, kMedium)
  kFloat32,  // float32 in three planes of bfloat16 (kHighest)
  kFloat64,
  kInt8,
};

// A row of the table, which GemmConfig::variant is an index of.
struct MmaTile {
  MmaKind kind;
  int32_t m;
  int32_t n;
  int32_t depth;  // steps of k in a slot; splits of K are whole slots
  int32_t slots;  // of the ring of copies
  int32_t threads;
  int32_t element_bytes;

  constexpr int32_t shared_bytes() const { return slots * (m + n) * depth * element_bytes; }
};

inline constexpr MmaTile kMmaTiles[] = {
    {MmaKind::kHalf, 128, 128, 32, 4, 128, 2},    {MmaKind::kHalf, 128, 64, 32, 4, 128, 2},
    {MmaKind::kHalf, 64, 128, 32, 4, 128, 2},     {MmaKind::kHalf, 64, 64, 32, 4, 128, 2},
    {MmaKind::kTf32, 128, 128, 16, 4, 128, 4},    {MmaKind::kTf32, 64, 64, 16, 4, 128, 4},
    {MmaKind::kFloat32, 128, 128, 16, 4, 256, 4}, {MmaKind::kFloat32, 64, 64, 16, 4, 128, 4},
    {MmaKind::kFloat64, 128, 128, 16, 4, 256, 8}, {MmaKind::kFloat64, 64, 64, 16, 3, 128, 8},
    {MmaKind::kInt8, 128, 128, 64, 4, 128, 1},    {MmaKind::kInt8, 64, 64, 64, 4, 128, 1},
};
inline constexpr int32_t kMmaTileCount = static_cast<int32_t>(std::size(kMmaTiles));

// The kind of kernel for a product, by its dtypes alone.
constexpr MmaKind mma_kind(const GemmDesc& desc) {
  if (desc.lhs.dtype != desc.rhs.dtype) return MmaKind::kNone;
  const auto is_float = [](DType dtype) {
    return dtype == DType::kFloat32 || is_half_width(dtype);
  };
  const bool float_out =
      is_float(desc.out_dtype) && (desc.bias == nullptr || is_float(desc.bias_dtype));
  switch (desc.lhs.dtype) {
    case DType::kFloat16:
    case DType::kBFloat16:
      return float_out ? MmaKind::kHalf : MmaKind::kNone;
    case DType::kFloat32:
      if (!float_out) return MmaKind::kNone;
      return desc.precision == MatmulPrecision::kHighest ? MmaKind::kFloat32 : MmaKind::kTf32;
    case DType::kFloat64: {
      const bool fits = desc.out_dtype == DType::kFloat64 &&
                        (desc.bias == nullptr || desc.bias_dtype == DType::kFloat64);
      return fits ? MmaKind::kFloat64 : MmaKind::kNone;
    }
    case DType::kInt8: {
      // Sums wrap around at 32 bits, which a wider output would show.
      const bool fits = desc.out_dtype == DType::kInt32 &&
                        (desc.bias == nullptr || !is_floating(desc.bias_dtype));
      return fits ? MmaKind::kInt8 : MmaKind::kNone;
    }
    default:
      return MmaKind::kNone;
  }
}

// Whether the tile is one for the product, and the device has the memory for it.
constexpr bool mma_tile_fits(const MmaTile& tile, const GemmDesc& desc,
                             const api::DeviceProperties& properties) {
  return tile.kind == mma_kind(desc) &&
         static_cast<size_t>(tile.shared_bytes()) <= properties.shared_bytes_per_block;
}

// Whether any tile is. Layouts, strides, alignments and extents (from 1 on) all do.
constexpr bool mma_supports(const GemmDesc& desc, const api::DeviceProperties& properties) {
  if (properties.major < 8 || desc.M < 1 || desc.N < 1 || desc.K < 1) return false;
  // Every tile is a block, whose number has 31 bits.
  constexpr int64_t kMost = int64_t{1} << 31;
  const int64_t rows = (desc.M + 63) / 64;
  const int64_t columns = (desc.N + 63) / 64;
  if (rows >= kMost / columns || desc.batch >= kMost / (rows * columns) ||
      desc.outer >= kMost / (rows * columns * desc.batch)) {
    return false;
  }
  return std::any_of(std::begin(kMmaTiles), std::end(kMmaTiles),
                     [&](const MmaTile& tile) { return mma_tile_fits(tile, desc, properties); });
}

// How a kernel reads an operand from memory: by 16 bytes at once, by 4, or element by element. All
// give the same result; only the first is as fast as the memory.
enum class MmaAccess : int32_t { kWide, kWords, kElements };

struct MmaLayout {
  // Whether neighbours along k lie side by side in a tile, as they do in memory if they can.
  bool k_major = true;
  MmaAccess access = MmaAccess::kElements;
};

// How lhs, or rhs, is read.
inline MmaLayout mma_layout(const GemmDesc& desc, bool is_lhs) {
  const GemmOperand& operand = is_lhs ? desc.lhs : desc.rhs;
  const int64_t extent = is_lhs ? desc.M : desc.N;
  const int64_t extent_stride = is_lhs ? operand.row_stride : operand.col_stride;
  const int64_t k_stride = is_lhs ? operand.col_stride : operand.row_stride;
  const auto item = static_cast<int64_t>(item_size(operand.dtype));
  MmaLayout layout;
  // Bytes cannot be transposed on their way to the tensor cores, so that int8 is it while copied.
  layout.k_major = k_stride == 1 || desc.K == 1 || extent_stride != 1 || item == 1;
  if (layout.k_major ? k_stride != 1 && desc.K > 1 : extent_stride != 1) return layout;
  const int64_t lines = layout.k_major ? extent : desc.K;
  uint64_t places = reinterpret_cast<uintptr_t>(operand.data);
  const auto step = [&](int64_t stride, int64_t count) {
    if (count > 1) places |= static_cast<uint64_t>(stride * item);
  };
  step(layout.k_major ? extent_stride : k_stride, lines);
  step(operand.batch_stride, desc.batch);
  step(operand.outer_stride, desc.outer);
  if (places % 16 == 0) {
    layout.access = MmaAccess::kWide;
  } else if (places % 4 == 0 && item < 4) {
    layout.access = MmaAccess::kWords;
  }
  return layout;
}

}  // namespace mixprec::cuda
