#include "offers.h"

#include <algorithm>

#include "gemv.h"
#include "mma_tiles.h"
#include "simt_tile.h"
#include "wgmma_tiles.h"

namespace mixprec::cuda {
namespace {

constexpr int32_t kMostSplits = 64;

std::string dtypes_of(const GemmDesc& desc) {
  std::string text = dtype_name(desc.lhs.dtype);
  if (desc.rhs.dtype != desc.lhs.dtype) text += std::string(" and ") + dtype_name(desc.rhs.dtype);
  return text + " to " + dtype_name(desc.out_dtype);
}

bool is_empty(const GemmDesc& desc) { return std::min({desc.M, desc.N, desc.K}) < 1; }

void reject(GemmOffer& offer, GemmFamily family, std::string reason, int32_t variant = -1) {
  offer.rejections.push_back({family, variant, std::move(reason)});
}

}  // namespace

void offer_simt(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer) {
  GemmTile tile;
  tile.family = GemmFamily::kSimt;
  tile.m = tile.n = simt_tile(desc, device);
  tile.depth = tile.m == 128 ? 8 : 16;
  tile.resident = tile.m == 128 ? 1 : 2;
  // A thread of the large tile has 64 sums to 16 values that it reads, of the others 16 to 8.
  tile.flops_per_clock = gemm_rates(desc, device).simt * (tile.m == 128 ? 0.6 : 0.35);
  tile.start_seconds = 1.5e-6;
  offer.tiles.push_back(tile);
}

void offer_gemv(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer) {
  constexpr GemmFamily kFamily = GemmFamily::kGemv;
  if (is_empty(desc)) return reject(offer, kFamily, "nothing to multiply");
  if (desc.N != 1 && desc.M > kMostGemvRows) {
    return reject(offer, kFamily, "more than " + std::to_string(kMostGemvRows) + " rows");
  }
  if (!gemv_supports(desc)) return reject(offer, kFamily, "no kernel from " + dtypes_of(desc));
  const bool one_column = desc.N == 1;
  const GemmOperand& matrix = one_column ? desc.lhs : desc.rhs;
  const bool along_k = (one_column ? matrix.col_stride : matrix.row_stride) == 1;
  // Kernels are for 1, 4 or 16 vectors.
  const int64_t vectors = one_column ? 1 : desc.M;
  const int64_t held = vectors == 1 ? 1 : (vectors <= 4 ? 4 : 16);
  const auto chunk = static_cast<int32_t>(16 / item_size(matrix.dtype));
  GemmTile tile;
  tile.family = kFamily;
  tile.n = along_k ? (held == 16 ? 2 : 4) : 4 * chunk;
  tile.depth = 32 * chunk;
  tile.max_splits = kMostSplits;
  tile.flops_per_clock = gemm_rates(desc, device).simt * 0.35 * static_cast<double>(vectors) /
                         static_cast<double>(held);
  offer.tiles.push_back(tile);
}

void offer_mma(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer) {
  constexpr GemmFamily kFamily = GemmFamily::kMmaSm80;
  if (device.major < 8) return reject(offer, kFamily, "the device is older than sm_80");
  if (is_empty(desc)) return reject(offer, kFamily, "nothing to multiply");
  if (mma_kind(desc) == MmaKind::kNone) {
    return reject(offer, kFamily, "no kernel from " + dtypes_of(desc));
  }
  const double rate = gemm_rates(desc, device).mma;
  if (rate == 0) return reject(offer, kFamily, "no such tensor cores");
  if (!mma_supports(desc, device)) return reject(offer, kFamily, "too many tiles");
  // Narrower copies take more instructions, which the tensor cores wait for.
  double access = 1;
  for (const bool is_lhs : {true, false}) {
    const MmaAccess found = mma_layout(desc, is_lhs).access;
    if (found == MmaAccess::kWords) access = std::min(access, 0.6);
    if (found == MmaAccess::kElements) access = std::min(access, 0.35);
  }
  for (int32_t variant = 0; variant < kMmaTileCount; ++variant) {
    const MmaTile& row = kMmaTiles[variant];
    if (row.kind != mma_kind(desc)) continue;
    if (!mma_tile_fits(row, desc, device)) {
      reject(offer, kFamily, "needs more shared memory than there is", variant);
      continue;
    }
    GemmTile tile;
    tile.family = kFamily;
    tile.variant = variant;
    tile.m = row.m;
    tile.n = row.n;
    tile.depth = row.depth;
    // As many blocks as there are registers and shared memory for.
    const int32_t by_registers = (row.m * row.n > 64 * 64 ? 256 : 512) / row.threads;
    const auto by_memory = static_cast<int32_t>(device.shared_bytes_per_block /
                                                static_cast<size_t>(row.shared_bytes()));
    tile.resident = std::max(1, std::min(by_registers, by_memory));
    tile.max_splits = kMostSplits;
    tile.can_swap = true;
    tile.flops_per_clock = tile_share(row.m, row.n, rate, 15) * access;
    tile.start_seconds = 1.5e-6;
    offer.tiles.push_back(tile);
  }
}

void offer_wgmma(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer) {
  constexpr GemmFamily kFamily = GemmFamily::kWgmmaSm90;
  if (device.major != 9 || device.minor != 0) {
    return reject(offer, kFamily, "the device is not of sm_90");
  }
  if (is_empty(desc)) return reject(offer, kFamily, "nothing to multiply");
  if (wgmma_kind(desc) == WgmmaKind::kNone) {
    return reject(offer, kFamily, "no kernel from " + dtypes_of(desc));
  }
  if (!wgmma_supports(desc, device)) return reject(offer, kFamily, "too large for 32 bits");
  const double rate = gemm_rates(desc, device).wgmma;
  for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
    if (!wgmma_tile_fits(variant, desc)) {
      reject(offer, kFamily, "not for planes of float32", variant);
      continue;
    }
    const WgmmaTile& row = kWgmmaTiles[variant];
    GemmTile tile;
    tile.family = kFamily;
    tile.variant = variant;
    tile.m = row.m;
    tile.n = row.n;
    tile.depth = wgmma_depth(desc.lhs.dtype);
    tile.cluster = wgmma_cluster(row, desc.M);
    tile.max_splits = kMostSplits;
    tile.can_swap = true;
    tile.flops_per_clock = tile_share(row.m, row.n, rate, 25);
    // Consumers that take turns hide each other's epilogues.
    tile.start_seconds = row.ping_pong ? 0.6e-6 : 1.2e-6;
    tile.copied_bytes = wgmma_copied_bytes(desc);
    offer.tiles.push_back(tile);
  }
}

}  // namespace mixprec::cuda
