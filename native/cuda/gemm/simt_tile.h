// The tile of the general kernel, for those who choose a kernel and for the kernel itself.
#pragma once

#include "core/gemm_desc.h"
#include "cuda/runtime/api.h"

namespace mixprec::cuda {

// Both sides of the tile: large ones read less, but have to be enough to keep the device busy.
constexpr int32_t simt_tile(const GemmDesc& desc, const api::DeviceProperties& device) {
  if (!is_floating(desc.out_dtype)) return 32;
  const int64_t tiles = ((desc.M + 127) / 128) * ((desc.N + 127) / 128) * desc.batch * desc.outer;
  const bool large = desc.out_dtype != DType::kFloat64 && desc.M > 64 && desc.N > 64 &&
                     tiles >= device.multiprocessors;
  return large ? 128 : 64;
}

}  // namespace mixprec::cuda
