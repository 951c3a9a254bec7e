// What each family of kernels offers for a product: rows for select.h, or why it has none. Pure
// host code. A family is a function here and a row in families.h.
#pragma once

#include "select.h"

namespace mixprec::cuda {

using GemmOfferFunction = void (*)(const GemmDesc& desc, const api::DeviceProperties& device,
                                   GemmOffer& offer);

void offer_simt(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer);
void offer_gemv(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer);
void offer_mma(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer);
void offer_wgmma(const GemmDesc& desc, const api::DeviceProperties& device, GemmOffer& offer);

// The part of the tensor cores' rate that a tile can have: what it reads for each product grows as
// it shrinks. `cost`: how much that weighs with the family.
constexpr double tile_share(double m, double n, double most, double cost) {
  return most / (1 + cost * (1 / m + 1 / n));
}

}  // namespace mixprec::cuda
