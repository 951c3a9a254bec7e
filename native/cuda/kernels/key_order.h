// Positions in the order of a key, equal keys in the order of their positions: what sums by index
// are made of, so that each is made in one place and in one order.
#pragma once

#include "cuda/tensors.h"

namespace mixprec::cuda {

// `count` keys from 0 to a bound, each with its position in the list.
class KeyOrder {
 public:
  KeyOrder(CudaBackend& backend, int64_t count);

  // To be filled, before sort().
  int64_t* keys() const { return keys_[0].as<int64_t>(); }

  // Sorts keys from 0 to `largest`.
  void sort(int64_t largest);

  int64_t count() const { return count_; }
  const int64_t* sorted_keys() const { return keys_[current_].as<int64_t>(); }
  const int32_t* positions() const { return positions_[current_].as<int32_t>(); }

 private:
  CudaBackend& backend_;
  const int64_t count_;
  // Sorted from one into the other.
  const Scratch keys_[2];
  const Scratch positions_[2];
  int current_ = 0;
};

}  // namespace mixprec::cuda
