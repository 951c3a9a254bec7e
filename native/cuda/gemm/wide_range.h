// float32 products whose operands planes cannot hold (planes.h): infinities, NaN, or magnitudes too
// far apart for three bfloat16.
#pragma once

#include "planes.h"

namespace mixprec::cuda {

// Queues the product by general arithmetic, with what float32 makes of such numbers. It is only
// made where ranges_fit() does not hold, which the device knows; the host need not wait for it.
// Of several `splits`, whose sums follow each other in out, the first gets all of K.
void multiply_wide_range(CudaBackend& backend, const GemmDesc& desc, int32_t splits,
                         const ProductRanges* ranges);

}  // namespace mixprec::cuda
