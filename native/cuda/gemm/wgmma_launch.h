// The instances of the Hopper kernels, a unit of compilation for each type of operand.
#pragma once

#include "cuda/cuda_backend.h"
#include "wgmma_args.h"

namespace mixprec::cuda {

struct WgmmaLaunch {
  CudaBackend& backend;
  int32_t variant;
  // Of both operands; all but those of 16 bits have k next to k.
  Major lhs, rhs;
};

void wgmma_float16(const WgmmaLaunch& launch, WgmmaArgs<float>& args);
void wgmma_bfloat16(const WgmmaLaunch& launch, WgmmaArgs<float>& args);
void wgmma_tf32(const WgmmaLaunch& launch, WgmmaArgs<float>& args);
void wgmma_planes(const WgmmaLaunch& launch, WgmmaArgs<float>& args);
// Whether bulk copies of float32 as TF32 round to nearest on this device, which is not documented;
// tried out, and waited for, at the first call.
bool tensor_maps_round_to_tf32(CudaBackend& backend);
void wgmma_int8(const WgmmaLaunch& launch, WgmmaArgs<int64_t>& args);

}  // namespace mixprec::cuda
