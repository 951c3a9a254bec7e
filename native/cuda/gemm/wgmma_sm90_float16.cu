// Products of float16.
#include "wgmma_instances.h"

namespace mixprec::cuda {

void wgmma_float16(const WgmmaLaunch& launch, WgmmaArgs<float>& args) {
  launch_layout<Float16>(launch, args);
}

}  // namespace mixprec::cuda
