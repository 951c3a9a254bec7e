// Products of float16 and bfloat16 by mma.sync.
#include "mma_sm80_half.h"

#include "mma_sm80_kinds.h"

namespace mixprec::cuda::mma_sm80 {

void half_product(CudaBackend& backend, const ProductArgs<float>& args, const MmaTile& tile,
                  int32_t splits) {
  if (tile.m == 128 && tile.n == 128) {
    launch_product<HalfPolicy<128, 128, 64, 64>>(backend, args, tile, splits);
  } else if (tile.m == 128) {
    launch_product<HalfPolicy<128, 64, 64, 32>>(backend, args, tile, splits);
  } else if (tile.n == 128) {
    launch_product<HalfPolicy<64, 128, 32, 64>>(backend, args, tile, splits);
  } else {
    launch_product<HalfPolicy<64, 64, 32, 32>>(backend, args, tile, splits);
  }
}

}  // namespace mixprec::cuda::mma_sm80
