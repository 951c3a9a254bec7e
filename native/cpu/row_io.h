// Rows of a tensor as the row kernels want them: dense and in the dtype of the arithmetic. A row
// that is so in memory already is used in place; any other goes through scratch memory of the
// thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "simd/kernels.h"
#include "strided.h"

namespace mixprec::cpu {

template <class T>
inline constexpr DType kArithmeticDType = std::is_same_v<T, double>    ? DType::kFloat64
                                          : std::is_same_v<T, int64_t> ? DType::kInt64
                                                                       : DType::kFloat32;

// Calls body with a value of the type that a floating dtype is computed in.
template <class Body>
void by_arithmetic(DType dtype, const Body& body) {
  check(is_floating(dtype), "a row op got a dtype that is not floating point");
  if (dtype == DType::kFloat64) {
    body(double{});
  } else {
    body(float{});
  }
}

// Memory of this thread for `count` elements, kept between calls; `slot` tells apart those in use
// at the same time.
template <class T>
T* row_scratch(int slot, int64_t count) {
  thread_local std::vector<T> slots[6];
  std::vector<T>& values = slots[slot];
  if (static_cast<int64_t>(values.size()) < count) values.resize(static_cast<size_t>(count));
  return values.data();
}

// Rows that make up about 16 Ki elements: the smallest share of work worth a thread.
inline int64_t row_grain(int64_t row_length) {
  return std::max<int64_t>(1, (int64_t{1} << 14) / std::max<int64_t>(row_length, 1));
}

// The tensor with dimension `dim` moved to the end.
inline Tensor with_last_dim(const Tensor& tensor, int32_t dim) {
  Tensor moved = tensor;
  for (int32_t at = dim; at + 1 < tensor.rank; ++at) {
    std::swap(moved.shape[at], moved.shape[at + 1]);
    std::swap(moved.strides[at], moved.strides[at + 1]);
  }
  return moved;
}

template <class T>
class RowReader {
 public:
  RowReader(const Tensor& tensor, int64_t length) : range_(tensor), length_(length) {}

  // Row `index`, valid until the next call with the same slot.
  const T* row(int64_t index, int slot) const {
    const char* address = nullptr;
    const int64_t begin = index * length_;
    if (range_.dense()) {
      address = range_.at(begin);
    } else {
      range_.for_each_run(begin, length_, [&](const char* run, int64_t stride, int64_t count) {
        if (count == length_ && (stride == 1 || count == 1)) address = run;
      });
    }
    const bool same = range_.dtype() == kArithmeticDType<T>;
    if (same && address != nullptr) return reinterpret_cast<const T*>(address);
    T* row = row_scratch<T>(slot, length_);
    if (address == nullptr && same) {
      range_.read(begin, length_, row);
      return row;
    }
    if (address == nullptr) {
      char* gathered = row_scratch<char>(slot, length_ * 8);
      range_.read(begin, length_, gathered);
      address = gathered;
    }
    simd().convert(address, range_.dtype(), row, kArithmeticDType<T>, length_);
    return row;
  }

 private:
  StridedRange range_;
  int64_t length_;
};

template <class T>
class RowWriter {
 public:
  RowWriter(const Tensor& tensor, int64_t length) : range_(tensor), length_(length) {}

  // Where to compute row `index`; commit() then puts it in its place.
  T* row(int64_t index, int slot) const {
    if (direct()) return reinterpret_cast<T*>(const_cast<char*>(range_.at(index * length_)));
    return row_scratch<T>(slot, length_);
  }
  void commit(int64_t index, const T* row, int slot) const {
    if (direct()) return;
    if (range_.dense()) {
      char* target = const_cast<char*>(range_.at(index * length_));
      simd().convert(row, kArithmeticDType<T>, target, range_.dtype(), length_);
      return;
    }
    const void* source = row;
    if (range_.dtype() != kArithmeticDType<T>) {
      char* narrowed = row_scratch<char>(slot, length_ * 8);
      simd().convert(row, kArithmeticDType<T>, narrowed, range_.dtype(), length_);
      source = narrowed;
    }
    range_.write(index * length_, length_, source);
  }

 private:
  bool direct() const { return range_.dense() && range_.dtype() == kArithmeticDType<T>; }

  StridedRange range_;
  int64_t length_;
};

}  // namespace mixprec::cpu
