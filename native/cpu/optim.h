// What the optimizers' ops share: many tensors worked through as one range of elements, in blocks
// that are dense and in the dtype of the arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/optim.h"
#include "row_io.h"
#include "thread_pool.h"

namespace mixprec::cpu {

// Elements of a block: the handful of arrays that an update works on stay in the first-level cache.
inline constexpr int64_t kOptimBlock = 1024;
// The least share of work worth a thread.
inline constexpr int64_t kOptimGrain = int64_t{1} << 15;

// A tensor whose blocks are read, changed and written back.
template <class T>
class BlockView {
 public:
  explicit BlockView(const Tensor& tensor)
      : range_(tensor), direct_(range_.dense() && tensor.dtype == kArithmeticDType<T>) {}

  // Elements [begin, begin + count), count <= kOptimBlock: the tensor's own where they are dense
  // and of type T, else a copy in `scratch`.
  T* load(int64_t begin, int64_t count, T* scratch) const {
    if (direct_) return reinterpret_cast<T*>(const_cast<char*>(range_.at(begin)));
    alignas(64) char gathered[kOptimBlock * 8];
    const void* source = range_.at(begin);
    if (!range_.dense()) {
      range_.read(begin, count, gathered);
      source = gathered;
    }
    simd().convert(source, range_.dtype(), scratch, kArithmeticDType<T>, count);
    return scratch;
  }

  // Puts a block that load() gave back in its place, rounded to the tensor's dtype.
  void store(int64_t begin, int64_t count, const T* block) const {
    if (!direct_) write(begin, count, block);
  }

  // As store(), and rounds the block itself.
  void round(int64_t begin, int64_t count, T* block) const {
    if (direct_) return;
    write(begin, count, block);
    if (range_.dtype() != kArithmeticDType<T>) load(begin, count, block);
  }

  // Writes `count` <= kOptimBlock elements from anywhere.
  void write(int64_t begin, int64_t count, const T* values) const {
    if (range_.dense()) {
      char* target = const_cast<char*>(range_.at(begin));
      simd().convert(values, kArithmeticDType<T>, target, range_.dtype(), count);
      return;
    }
    alignas(64) char narrowed[kOptimBlock * 8];
    simd().convert(values, kArithmeticDType<T>, narrowed, range_.dtype(), count);
    range_.write(begin, count, narrowed);
  }

 private:
  StridedRange range_;
  bool direct_;
};

// Calls body(tensor index, begin, end) for ranges of elements that make up all of `count` tensors,
// from several threads: a result must not depend on where a range begins.
template <class Body>
void for_each_range(const Tensor* tensors, int64_t count, const Body& body) {
  std::vector<int64_t> starts(static_cast<size_t>(count) + 1, 0);
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    starts[i + 1] = starts[i] + tensors[i].numel();
  }
  parallel_for(starts.back(), kOptimGrain, [&](int64_t begin, int64_t end) {
    auto i = static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), begin) -
                                 starts.begin() - 1);
    for (; begin < end; ++i) {
      const int64_t stop = std::min(end, starts[i + 1]);
      if (begin < stop) body(static_cast<int64_t>(i), begin - starts[i], stop - starts[i]);
      begin = stop;
    }
  });
}

// Calls body(first element, count <= kOptimBlock) for the blocks of a range.
template <class Body>
void for_each_block(int64_t begin, int64_t end, const Body& body) {
  for (int64_t at = begin; at < end; at += kOptimBlock) {
    body(at, std::min(kOptimBlock, end - at));
  }
}

// The one element of a float32 tensor.
inline float& scalar_of(const Tensor& tensor) {
  check_float_scalar(tensor);
  return *tensor.as<float>();
}

}  // namespace mixprec::cpu
