#include "tensors.h"

namespace mixprec::cuda {

Tensor allocate_tensor(CudaBackend& backend, DType dtype, const int64_t* shape, int32_t rank) {
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.rank = rank;
  int64_t stride = 1;
  for (int32_t dim = rank - 1; dim >= 0; --dim) {
    tensor.shape[dim] = shape[dim];
    tensor.strides[dim] = stride;
    stride *= shape[dim];
  }
  const size_t bytes = static_cast<size_t>(tensor.numel()) * item_size(dtype);
  tensor.storage = StorageRef(new Storage(&backend, backend.allocate(bytes), bytes));
  tensor.data = tensor.storage->data();
  return tensor;
}

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
