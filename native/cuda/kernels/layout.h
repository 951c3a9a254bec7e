// Where the elements of several tensors lie that are walked through together: the shape of the
// output, with dimensions merged where all tensors allow it, and the strides of each.
#pragma once

#include <cstdint>

#include "core/errors.h"
#include "core/host_device.h"
#include "core/storage.h"

namespace mixprec::cuda {

// Division by a number that is known at the launch: a multiplication and a shift for dividends
// below 2^31 (Granlund and Montgomery, "Division by Invariant Integers using Multiplication",
// 1994).
struct Divider {
  uint32_t divisor = 1;
  uint32_t multiplier = 1;
  uint32_t shift = 0;

  Divider() = default;
  explicit Divider(uint32_t divisor_) : divisor(divisor_) {
    while (shift < 32 && (uint64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) /
                                       divisor) +
                 1;
  }
  MIXPREC_HD uint32_t divide(uint32_t dividend) const {
    const auto high = static_cast<uint32_t>((uint64_t{dividend} * multiplier) >> 32);
    return (high + dividend) >> shift;
  }
};

// `kCount` tensors over one shape; dimension 0 is the innermost. Strides count elements.
template <int kCount>
struct Layout {
  int64_t numel = 0;
  int32_t rank = 0;
  bool wide = false;  // numel is 2^31 or more, which the Divider cannot do
  Divider dividers[kMaxRank];
  int64_t extents[kMaxRank] = {};
  int64_t strides[kCount][kMaxRank] = {};

  // The element offsets of element `index`, counted in row-major order.
  MIXPREC_HD void offsets(int64_t index, int64_t (&out)[kCount]) const {
    for (int k = 0; k < kCount; ++k) out[k] = 0;
    for (int32_t dim = 0; dim < rank; ++dim) {
      int64_t rest = 0;
      if (dim + 1 < rank) {
        rest = wide ? index / extents[dim]
                    : static_cast<int64_t>(dividers[dim].divide(static_cast<uint32_t>(index)));
      }
      const int64_t position = index - rest * extents[dim];
      for (int k = 0; k < kCount; ++k) out[k] += position * strides[k][dim];
      index = rest;
    }
  }
};

// Adds the strides of one tensor at a time to a layout over `shape`.
template <int kCount>
class LayoutBuilder {
 public:
  LayoutBuilder(const int64_t* shape, int32_t rank) : shape_(shape), rank_(rank) {}

  // Tensor number `which`, which must broadcast to the shape; one that is not added lies at offset
  // 0.
  void add(int which, const Tensor& tensor);
  Layout<kCount> build() const;

 private:
  const int64_t* shape_;
  int32_t rank_;
  int64_t strides_[kCount][kMaxRank] = {};
};

template <int kCount>
void LayoutBuilder<kCount>::add(int which, const Tensor& tensor) {
  const int32_t lead = rank_ - tensor.rank;
  check(lead >= 0, "a tensor was broadcast to fewer dimensions");
  for (int32_t dim = lead; dim < rank_; ++dim) {
    const int64_t own = tensor.shape[dim - lead];
    check(own == shape_[dim] || own == 1, "a tensor does not broadcast to the shape asked for");
    strides_[which][dim] = own == 1 ? 0 : tensor.strides[dim - lead];
  }
}

template <int kCount>
Layout<kCount> LayoutBuilder<kCount>::build() const {
  Layout<kCount> layout;
  layout.numel = 1;
  for (int32_t dim = rank_ - 1; dim >= 0; --dim) {
    const int64_t extent = shape_[dim];
    layout.numel *= extent;
    if (extent == 1) continue;
    const int32_t inner = layout.rank - 1;
    bool merges = inner >= 0;
    for (int k = 0; k < kCount && merges; ++k) {
      merges = strides_[k][dim] == layout.strides[k][inner] * layout.extents[inner];
    }
    if (merges) {
      layout.extents[inner] *= extent;
      continue;
    }
    layout.extents[layout.rank] = extent;
    for (int k = 0; k < kCount; ++k) layout.strides[k][layout.rank] = strides_[k][dim];
    ++layout.rank;
  }
  if (layout.numel == 0) return Layout<kCount>();  // nothing to divide by
  layout.wide = layout.numel >= int64_t{1} << 31;
  for (int32_t dim = 0; dim < layout.rank && !layout.wide; ++dim) {
    layout.dividers[dim] = Divider(static_cast<uint32_t>(layout.extents[dim]));
  }
  return layout;
}

}  // namespace mixprec::cuda
