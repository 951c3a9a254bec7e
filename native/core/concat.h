// The cat op, for every backend: each input is copied into its part of the output.
#pragma once

#include "backend.h"

namespace mixprec {

// copy(part, input) copies between tensors of one shape and any strides.
template <class Copy>
void run_cat(const OpCall& call, const Copy& copy) {
  const auto dim = static_cast<int32_t>(call.int_attr(0));
  Tensor part = call.out();
  check(dim >= 0 && dim < part.rank, "cat along a dimension that does not exist");
  int64_t position = 0;
  for (int32_t i = 0; i < call.num_inputs; ++i) {
    const Tensor& x = call.in(i);
    if (x.numel() == 0) continue;
    check(x.rank == part.rank, "cat got tensors of different rank");
    part.shape[dim] = x.shape[dim];
    check(position + x.shape[dim] <= call.out().shape[dim], "cat got an output that is too small");
    part.data = call.out().as<char>() +
                position * part.strides[dim] * static_cast<int64_t>(item_size(part.dtype));
    copy(part, x);
    position += x.shape[dim];
  }
  check(call.out().numel() == 0 || position == call.out().shape[dim],
        "cat got an output that is too large");
}

}  // namespace mixprec
