// Copies between tensors on a device, dense ones, and scratch memory of an op.
#pragma once

#include "cuda_backend.h"

namespace mixprec::cuda {

// Copies `source`, cast, into `destination`, both of the same shape and any strides.
void copy_elements(CudaBackend& backend, const Tensor& destination, const Tensor& source);

// The tensor itself where it is dense (and of `dtype`), else a dense copy (converted).
Tensor contiguous(CudaBackend& backend, const Tensor& tensor);
Tensor contiguous_as(CudaBackend& backend, const Tensor& tensor, DType dtype);

// Device memory for the kernels of one op. Freed at the end of the scope, which is safe although
// they are only queued then: what uses the memory next is queued behind them.
class Scratch {
 public:
  Scratch(CudaBackend& backend, size_t bytes)
      : backend_(backend), data_(backend.allocate(bytes)), bytes_(bytes) {}
  ~Scratch() { backend_.deallocate(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  CudaBackend& backend_;
  void* data_;
  size_t bytes_;
};

}  // namespace mixprec::cuda
