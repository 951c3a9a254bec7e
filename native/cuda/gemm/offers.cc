#include "offers.h"

#include "simt_tile.h"

namespace mixprec::cuda {

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

}  // namespace mixprec::cuda
