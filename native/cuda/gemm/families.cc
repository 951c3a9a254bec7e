#include "families.h"

#include "core/errors.h"
#include "cuda/tensors.h"
#include "finish.h"
#include "gemm.h"
#include "gemv.h"
#include "mma_sm80.h"
#include "wgmma_sm90.h"

namespace mixprec::cuda {
namespace {

void run_simt(CudaBackend& backend, const GemmDesc& desc, const GemmConfig&) {
  simt_gemm(backend, desc);
}

constexpr GemmFamilyEntry kFamilies[] = {
    {GemmFamily::kSimt, offer_simt, run_simt},
    {GemmFamily::kGemv, offer_gemv, gemv_gemm},
    {GemmFamily::kMmaSm80, offer_mma, mma_gemm},
    {GemmFamily::kWgmmaSm90, offer_wgmma, wgmma_gemm},
};

}  // namespace

std::span<const GemmFamilyEntry> gemm_families() { return kFamilies; }

GemmOffer gemm_offer(const GemmDesc& desc, const api::DeviceProperties& device) {
  GemmOffer offer;
  for (const GemmFamilyEntry& entry : kFamilies) entry.offer(desc, device, offer);
  return offer;
}

void run_gemm(CudaBackend& backend, const GemmDesc& desc, const GemmConfig& config) {
  for (const GemmFamilyEntry& entry : kFamilies) {
    if (entry.family != config.family) continue;
    if (!config.swapped) return entry.run(backend, desc, config);
    const Scratch sums(backend, sums_bytes(desc, 1));
    entry.run(backend, product_into(swapped(desc), sums.data()), config);
    return finish_transposed(backend, desc, sums.data());
  }
  throw Error(ErrorCode::kInternal, "a product is to be made by kernels that are not there");
}

}  // namespace mixprec::cuda
