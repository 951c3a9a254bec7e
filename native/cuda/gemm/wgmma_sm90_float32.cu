// Products of float32: rounded to TF32, or in three planes of bfloat16.
#include "wgmma_instances.h"

namespace mixprec::cuda {

void wgmma_tf32(const WgmmaLaunch& launch, WgmmaArgs<float>& args) {
  launch_tile<Tf32, Major::kK, Major::kK>(launch, args);
}

void wgmma_planes(const WgmmaLaunch& launch, WgmmaArgs<float>& args) {
  launch_variant<BFloat16, Major::kK, Major::kK, kWgmmaPlanesTile, kPlaneCount>(launch, args);
}

}  // namespace mixprec::cuda
