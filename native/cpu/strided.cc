#include "strided.h"

#include <algorithm>
#include <cstring>

#include "simd/kernels.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kCopyGrain = 1 << 15;
constexpr int64_t kBlock = 1024;

template <class T>
void gather_run(const char* source, int64_t stride, int64_t count, char* out) {
  const T* from = reinterpret_cast<const T*>(source);
  T* to = reinterpret_cast<T*>(out);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
}

template <class T>
void scatter_run(char* destination, int64_t stride, int64_t count, const char* source) {
  const T* from = reinterpret_cast<const T*>(source);
  T* to = reinterpret_cast<T*>(destination);
  for (int64_t i = 0; i < count; ++i) to[i * stride] = from[i];
}

// Calls body with a value of an integer type of `item` bytes.
template <class Body>
void by_item_size(size_t item, const Body& body) {
  switch (item) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

}  // namespace

StridedRange::StridedRange(const Tensor& tensor, const int64_t* shape, int32_t rank)
    : data_(static_cast<char*>(tensor.data)), dtype_(tensor.dtype), item_(item_size(tensor.dtype)) {
  const int32_t lead = rank - tensor.rank;
  check(lead >= 0, "a tensor was broadcast to fewer dimensions");
  for (int32_t dim = 0; dim < rank; ++dim) {
    const int64_t extent = shape[dim];
    if (extent == 1) continue;
    int64_t stride = 0;
    if (dim >= lead) {
      const int64_t own = tensor.shape[dim - lead];
      check(own == extent || own == 1, "a tensor does not broadcast to the shape asked for");
      if (own != 1) stride = tensor.strides[dim - lead];
    }
    if (rank_ > 0 && strides_[rank_ - 1] == stride * extent) {
      shape_[rank_ - 1] *= extent;
      strides_[rank_ - 1] = stride;
    } else {
      shape_[rank_] = extent;
      strides_[rank_] = stride;
      ++rank_;
    }
  }
}

void StridedRange::read(int64_t begin, int64_t count, void* out) const {
  auto* to = static_cast<char*>(out);
  for_each_run(begin, count, [&](const char* source, int64_t stride, int64_t run) {
    if (stride == 1) {
      std::memcpy(to, source, static_cast<size_t>(run) * item_);
    } else {
      by_item_size(item_, [&]<class T>(T) { gather_run<T>(source, stride, run, to); });
    }
    to += static_cast<size_t>(run) * item_;
  });
}

void StridedRange::write(int64_t begin, int64_t count, const void* source) const {
  const auto* from = static_cast<const char*>(source);
  for_each_run(begin, count, [&](char* destination, int64_t stride, int64_t run) {
    if (stride == 1) {
      std::memcpy(destination, from, static_cast<size_t>(run) * item_);
    } else {
      by_item_size(item_, [&]<class T>(T) { scatter_run<T>(destination, stride, run, from); });
    }
    from += static_cast<size_t>(run) * item_;
  });
}

Tensor contiguous(Backend& backend, const Tensor& tensor) {
  return contiguous_as(backend, tensor, tensor.dtype);
}

Tensor contiguous_as(Backend& backend, const Tensor& tensor, DType dtype) {
  if (tensor.dtype == dtype && tensor.is_contiguous()) return tensor;
  Tensor copy = allocate_tensor(backend, dtype, tensor.shape, tensor.rank);
  copy_elements(copy, tensor);
  return copy;
}

void copy_elements(const Tensor& destination, const Tensor& source) {
  const StridedRange to(destination);
  const StridedRange from(source, destination.shape, destination.rank);
  const DType to_dtype = destination.dtype;
  const DType from_dtype = source.dtype;
  parallel_for(destination.numel(), kCopyGrain, [&](int64_t begin, int64_t end) {
    alignas(64) char gathered[kBlock * 8];
    alignas(64) char converted[kBlock * 8];
    const bool same = to_dtype == from_dtype;
    if (to.dense() && same) {
      from.read(begin, end - begin, const_cast<char*>(to.at(begin)));
      return;
    }
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      const void* block = from.dense() ? from.at(at) : gathered;
      if (!from.dense()) from.read(at, count, gathered);
      if (to.dense()) {
        simd().convert(block, from_dtype, const_cast<char*>(to.at(at)), to_dtype, count);
      } else if (same) {
        to.write(at, count, block);
      } else {
        simd().convert(block, from_dtype, converted, to_dtype, count);
        to.write(at, count, converted);
      }
    }
  });
}

}  // namespace mixprec::cpu
