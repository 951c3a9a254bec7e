// The kernels of mma.sync by what they multiply; one unit each.
#pragma once

#include "mma_sm80_product.h"

namespace mixprec::cuda::mma_sm80 {

void half_product(CudaBackend& backend, const ProductArgs<float>& args, const MmaTile& tile,
                  int32_t splits);
void tf32_product(CudaBackend& backend, const ProductArgs<float>& args, const MmaTile& tile,
                  int32_t splits);
void float32_product(CudaBackend& backend, const ProductArgs<float>& args, const MmaTile& tile,
                     int32_t splits);
void float64_product(CudaBackend& backend, const ProductArgs<double>& args, const MmaTile& tile,
                     int32_t splits);
void int8_product(CudaBackend& backend, const ProductArgs<int64_t>& args, const MmaTile& tile,
                  int32_t splits);

}  // namespace mixprec::cuda::mma_sm80
