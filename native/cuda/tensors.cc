#include "tensors.h"

namespace mixprec::cuda {

Tensor contiguous(CudaBackend& backend, const Tensor& tensor) {
  return contiguous_as(backend, tensor, tensor.dtype);
}

Tensor contiguous_as(CudaBackend& backend, const Tensor& tensor, DType dtype) {
  if (tensor.dtype == dtype && tensor.is_contiguous()) return tensor;
  Tensor copy = allocate_tensor(backend, dtype, tensor.shape, tensor.rank);
  copy_elements(backend, copy, tensor);
  return copy;
}

}  // namespace mixprec::cuda
