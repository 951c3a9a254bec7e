// What the Hopper kernels of products can make, and in which tiles: pure host code, for the choice
// of a kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "core/gemm_desc.h"
#include "cuda/runtime/api.h"

namespace mixprec::cuda {

// A block makes one tile of the output after the other.
struct WgmmaTile {
  int32_t m, n;
  int32_t cluster;  // blocks, one below the other, that share what they load of rhs
  bool ping_pong;   // the two consumers make a tile each, and not one together
};

// GemmConfig::variant is a row of this. The units wgmma_sm90_*.cu hold an instance for each.
inline constexpr WgmmaTile kWgmmaTiles[] = {
    {128, 256, 2, false}, {128, 192, 2, false}, {128, 128, 2, true},
    {128, 128, 2, false}, {64, 128, 1, true},   {64, 64, 1, true},
};
inline constexpr int32_t kWgmmaTileCount = std::size(kWgmmaTiles);
// The only row that makes float32 products of the highest precision, whose sums are kept twice.
inline constexpr int32_t kWgmmaPlanesTile = 3;

// Elements of k to a slot of the ring: 128 bytes of each row.
constexpr int32_t wgmma_depth(DType operand) {
  return 128 / static_cast<int32_t>(item_size(operand));
}

// How operands reach the tensor cores.
enum class WgmmaKind : int32_t {
  kNone,     // not at all
  kHalf,     // float16 or bfloat16, copied only where they are not aligned
  kMedium,   // float32 by way of a copy in bfloat16
  kTf32,     // float32, copied where k is not next to k or not aligned
  kPlanes,   // float32 as three planes of bfloat16 (planes.h)
  kInteger,  // int8, likewise; sums are int32 and wrap modulo 2^32 (not before K is 2^17)
};

inline WgmmaKind wgmma_kind(const GemmDesc& desc) {
  const DType dtype = desc.lhs.dtype;
  if (dtype != desc.rhs.dtype) return WgmmaKind::kNone;
  const auto is_float = [](DType of) { return of == DType::kFloat32 || is_half_width(of); };
  if (dtype == DType::kInt8) {
    const bool integer = desc.out_dtype == DType::kInt32 && desc.epilogue.is_plain() &&
                         (desc.bias == nullptr || !is_floating(desc.bias_dtype));
    return integer ? WgmmaKind::kInteger : WgmmaKind::kNone;
  }
  if (!is_float(desc.out_dtype) || (desc.bias != nullptr && !is_float(desc.bias_dtype))) {
    return WgmmaKind::kNone;
  }
  if (is_half_width(dtype)) return WgmmaKind::kHalf;
  if (dtype != DType::kFloat32) return WgmmaKind::kNone;
  switch (desc.precision) {
    case MatmulPrecision::kHighest:
      return WgmmaKind::kPlanes;
    case MatmulPrecision::kHigh:
      return WgmmaKind::kTf32;
    case MatmulPrecision::kMedium:
      return WgmmaKind::kMedium;
  }
  return WgmmaKind::kNone;
}

namespace wgmma_detail {

inline bool is_multiple(int64_t stride, int64_t of) { return stride > 0 && stride % of == 0; }

// Whether a tensor map can describe the operand: 16-byte aligned but for the dense dimension.
inline bool has_tensor_map(const GemmOperand& operand, int64_t rows, int64_t cols,
                           const GemmDesc& desc) {
  const auto unit = static_cast<int64_t>(16 / item_size(operand.dtype));
  const bool by_rows =
      operand.col_stride == 1 && (rows == 1 || is_multiple(operand.row_stride, unit));
  const bool by_cols =
      operand.row_stride == 1 && (cols == 1 || is_multiple(operand.col_stride, unit));
  const auto steps = [&](int64_t count, int64_t stride) {
    return count == 1 || stride == 0 || is_multiple(stride, unit);
  };
  return (by_rows || by_cols) && reinterpret_cast<uintptr_t>(operand.data) % 16 == 0 &&
         steps(desc.batch, operand.batch_stride) && steps(desc.outer, operand.outer_stride);
}

}  // namespace wgmma_detail

// Whether wgmma_gemm makes the product on such a device, in at least one kind of tile.
inline bool wgmma_supports(const GemmDesc& desc, const api::DeviceProperties& device) {
  using namespace wgmma_detail;
  if (device.major != 9 || device.minor != 0) return false;
  const WgmmaKind kind = wgmma_kind(desc);
  if (kind == WgmmaKind::kNone || std::min({desc.M, desc.N, desc.K}) < 1) return false;
  // Coordinates and numbers of tiles have 32 bits.
  constexpr int64_t kMost = int64_t{1} << 30;
  if (std::max({desc.M, desc.N, desc.K}) > kMost || desc.batch > kMost / desc.outer) return false;
  const int64_t tiles = ((desc.M + 63) / 64) * ((desc.N + 63) / 64);
  if (tiles > kMost / (desc.batch * desc.outer) / 64) return false;
  return true;
}

// Bytes that copies of the operands read and write before the product itself begins, for estimates
// of its cost: none for operands of 16 bits that are aligned.
inline int64_t wgmma_copied_bytes(const GemmDesc& desc) {
  using namespace wgmma_detail;
  const WgmmaKind kind = wgmma_kind(desc);
  const auto copied = [&](const GemmOperand& operand, int64_t rows, int64_t cols, bool k_dense) {
    const bool mapped = has_tensor_map(operand, rows, cols, desc);
    if (mapped && kind == WgmmaKind::kHalf) return int64_t{0};
    const bool as_it_lies = kind == WgmmaKind::kTf32 || kind == WgmmaKind::kInteger;
    if (mapped && as_it_lies && k_dense) return int64_t{0};
    const int64_t elements = rows * cols * (operand.batch_stride == 0 ? 1 : desc.batch) *
                             (operand.outer_stride == 0 ? 1 : desc.outer);
    const auto item = static_cast<int64_t>(item_size(operand.dtype));
    switch (kind) {
      case WgmmaKind::kPlanes:
        return elements * (4 + 4 + 6);
      case WgmmaKind::kMedium:
        return elements * (4 + 2);
      default:
        return elements * 2 * item;
    }
  };
  return copied(desc.lhs, desc.M, desc.K, desc.lhs.col_stride == 1) +
         copied(desc.rhs, desc.K, desc.N, desc.rhs.row_stride == 1);
}

// Whether the row of kWgmmaTiles makes a product that is supported.
inline bool wgmma_tile_fits(int32_t variant, const GemmDesc& desc) {
  return variant >= 0 && variant < kWgmmaTileCount &&
         (wgmma_kind(desc) != WgmmaKind::kPlanes || variant == kWgmmaPlanesTile);
}

// Blocks to a cluster: one where too many would have no rows of the output.
inline int32_t wgmma_cluster(const WgmmaTile& tile, int64_t M) {
  const int64_t rows = (M + tile.m - 1) / tile.m;
  return rows % tile.cluster == 0 || rows > 4 ? tile.cluster : 1;
}

}  // namespace mixprec::cuda
