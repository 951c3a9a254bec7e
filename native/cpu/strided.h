// Strided tensors seen as dense runs: what lets every kernel be written for dense memory only.
#pragma once

#include <cstdint>

#include "core/backend.h"
#include "core/storage.h"

namespace mixprec::cpu {

// A tensor looked at through `shape`, to which it must broadcast, with dimensions merged where they
// lie one after the other.
class StridedRange {
 public:
  StridedRange(const Tensor& tensor, const int64_t* shape, int32_t rank);
  explicit StridedRange(const Tensor& tensor) : StridedRange(tensor, tensor.shape, tensor.rank) {}

  // Whether element i is at data + i.
  bool dense() const { return rank_ == 0 || (rank_ == 1 && strides_[0] == 1); }
  DType dtype() const { return dtype_; }
  const char* at(int64_t index) const { return data_ + index * static_cast<int64_t>(item_); }

  // Copies elements [begin, begin + count), in row-major order, to or from dense memory.
  void read(int64_t begin, int64_t count, void* out) const;
  void write(int64_t begin, int64_t count, const void* source) const;

  // Calls body(address, stride, run length) for the runs that make up [begin, begin + count).
  template <class Body>
  void for_each_run(int64_t begin, int64_t count, const Body& body) const;

 private:
  char* data_;
  DType dtype_;
  size_t item_;
  int32_t rank_ = 0;
  int64_t shape_[kMaxRank];
  int64_t strides_[kMaxRank];
};

template <class Body>
void StridedRange::for_each_run(int64_t begin, int64_t count, const Body& body) const {
  if (count <= 0) return;
  if (rank_ == 0) {
    body(data_, int64_t{1}, int64_t{1});
    return;
  }
  int64_t index[kMaxRank];
  int64_t offset = 0;
  for (int32_t dim = rank_ - 1; dim >= 0; --dim) {
    index[dim] = begin % shape_[dim];
    begin /= shape_[dim];
    offset += index[dim] * strides_[dim];
  }
  const int32_t inner = rank_ - 1;
  while (true) {
    const int64_t run = shape_[inner] - index[inner] < count ? shape_[inner] - index[inner] : count;
    body(data_ + offset * static_cast<int64_t>(item_), strides_[inner], run);
    count -= run;
    if (count == 0) return;
    offset -= index[inner] * strides_[inner];
    index[inner] = 0;
    for (int32_t dim = inner - 1; dim >= 0; --dim) {
      offset += strides_[dim];
      if (++index[dim] < shape_[dim]) break;
      offset -= shape_[dim] * strides_[dim];
      index[dim] = 0;
    }
  }
}

// The tensor itself where it is dense (and of `dtype`), else a dense copy (converted).
Tensor contiguous(Backend& backend, const Tensor& tensor);
Tensor contiguous_as(Backend& backend, const Tensor& tensor, DType dtype);

// Copies `source`, cast, into `destination`, both of the same shape and any strides.
void copy_elements(const Tensor& destination, const Tensor& source);

}  // namespace mixprec::cpu
