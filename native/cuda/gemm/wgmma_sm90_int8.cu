// Products of int8, summed in int32.
#include "wgmma_instances.h"

namespace mixprec::cuda {

void wgmma_int8(const WgmmaLaunch& launch, WgmmaArgs<int64_t>& args) {
  launch_tile<int8_t, Major::kK, Major::kK>(launch, args);
}

}  // namespace mixprec::cuda
