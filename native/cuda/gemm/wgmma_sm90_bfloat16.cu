// Products of bfloat16.
#include "wgmma_instances.h"

namespace mixprec::cuda {

void wgmma_bfloat16(const WgmmaLaunch& launch, WgmmaArgs<float>& args) {
  launch_layout<BFloat16>(launch, args);
}

}  // namespace mixprec::cuda
