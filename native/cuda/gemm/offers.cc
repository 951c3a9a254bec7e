#include "offers.h"

#include <algorithm>

#include "gemv.h"
#include "mma_tiles.h"
#include "simt_tile.h"
#include "wgmma_tiles.h"

namespace mixprec::cuda {
namespace {

constexpr int32_t kMostSplits = 32;

void reject(GemmOffer& offer, GemmFamily family, const char* reason) {
  offer.rejections.push_back({family, -1, reason});
}

// How much of its rate a kernel of mma.sync keeps for the way in which it reads an operand.
double access_share(MmaAccess access) {
  switch (access) {
    case MmaAccess::kWide:
      return 1;
    case MmaAccess::kWords:
      return 0.6;
    case MmaAccess::kElements:
      break;
  }
  return 0.3;
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
  if (!gemv_supports(desc)) {
    return reject(offer, GemmFamily::kGemv,
                  "takes up to 16 rows, or one column, of one floating dtype but float64");
  }
  const bool one_column = desc.N == 1;
  const auto item = static_cast<int32_t>(item_size(desc.lhs.dtype));
  const int64_t k_stride = one_column ? desc.lhs.col_stride : desc.rhs.row_stride;
  const auto vectors = static_cast<int32_t>(one_column ? 1 : desc.M);
  // Rows of the large matrix to a block, at the least.
  const int32_t rows = k_stride == 1 ? 4 : 64 / item;
  GemmTile tile;
  tile.family = GemmFamily::kGemv;
  tile.m = one_column ? rows : vectors;
  tile.n = one_column ? 1 : rows;
  tile.depth = 256;
  tile.resident = 8;
  tile.max_splits = kMostSplits;
  // As fast as a multiprocessor gets the matrix, 24 bytes a clock, or multiplies.
  tile.flops_per_clock = std::min(2.0 * vectors * 24 / item, gemm_rates(desc, device).simt * 0.5);
  tile.start_seconds = 1e-6;
  offer.tiles.push_back(tile);
}

void offer_mma(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer) {
  if (device.major < 8) return reject(offer, GemmFamily::kMmaSm80, "needs compute capability 8.0");
  if (mma_kind(desc) == MmaKind::kNone) {
    return reject(offer, GemmFamily::kMmaSm80,
                  "there is no such tensor-core product of the dtypes");
  }
  if (!mma_supports(desc, device)) {
    return reject(offer, GemmFamily::kMmaSm80, "the extents are 0, or too many tiles");
  }
  const double access = std::min(access_share(mma_layout(desc, true).access),
                                 access_share(mma_layout(desc, false).access));
  for (int32_t variant = 0; variant < kMmaTileCount; ++variant) {
    const MmaTile& row = kMmaTiles[variant];
    if (!mma_tile_fits(row, desc, device)) continue;
    GemmTile tile;
    tile.family = GemmFamily::kMmaSm80;
    tile.variant = variant;
    tile.m = row.m;
    tile.n = row.n;
    tile.depth = row.depth;
    tile.max_splits = kMostSplits;
    // As many blocks as there are registers and shared memory for.
    const int32_t by_registers = (row.m * row.n > 64 * 64 ? 256 : 512) / row.threads;
    const auto by_memory = static_cast<int32_t>(device.shared_bytes_per_block /
                                                static_cast<size_t>(row.shared_bytes()));
    tile.resident = std::max(1, std::min(by_registers, by_memory));
    tile.flops_per_clock =
        gemm_rates(desc, device).mma * tile_share(row.m, row.n, 0.92, 16) * access;
    tile.start_seconds = 1.5e-6;
    offer.tiles.push_back(tile);
  }
}

void offer_wgmma(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer) {
  if (device.major != 9 || device.minor != 0) {
    return reject(offer, GemmFamily::kWgmmaSm90, "needs compute capability 9.0");
  }
  if (wgmma_kind(desc) == WgmmaKind::kNone) {
    return reject(offer, GemmFamily::kWgmmaSm90, "there is no such wgmma product of the dtypes");
  }
  if (!wgmma_supports(desc, device)) {
    return reject(offer, GemmFamily::kWgmmaSm90, "the extents are 0, or too many tiles");
  }
  for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
    if (!wgmma_tile_fits(variant, desc)) continue;
    const WgmmaTile& row = kWgmmaTiles[variant];
    GemmTile tile;
    tile.family = GemmFamily::kWgmmaSm90;
    tile.variant = variant;
    tile.m = row.m;
    tile.n = row.n;
    tile.depth = wgmma_depth(desc.lhs.dtype);
    tile.cluster = wgmma_cluster(row, desc.M);
    tile.max_splits = kMostSplits;
    tile.flops_per_clock = gemm_rates(desc, device).wgmma * tile_share(row.m, row.n, 0.92, 16);
    // Two consumers that take turns hide what the one stores.
    tile.start_seconds = row.ping_pong ? 0.4e-6 : 1.2e-6;
    tile.copied_bytes = wgmma_copied_bytes(desc);
    offer.tiles.push_back(tile);
  }
}

}  // namespace mixprec::cuda
