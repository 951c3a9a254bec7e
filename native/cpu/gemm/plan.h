// What the float paths of GEMM share: the problem in terms of the kernels, and scratch memory.
#pragma once

#include <cstdint>
#include <memory>

#include "core/gemm_desc.h"
#include "kernels.h"

namespace mixprec::cpu {

// A GemmDesc with operands as the kernels see them; both are [extent, K] here.
template <class Acc>
struct GemmPlan {
  int64_t M, N, K;
  int64_t batch;
  PanelSource lhs;
  PanelSource rhs;
  int64_t lhs_batch_stride;  // bytes, as the next two
  int64_t rhs_batch_stride;
  int64_t out_batch_stride;
  StoreTarget<Acc> target;
  // What follows, or null where values are stored as they are; its tensors lie as target.out does.
  const GemmEpilogue* epilogue = nullptr;
};

// A product by packed panels, for any shape with K > 0.
template <class Acc>
void multiply_blocked(const GemmPlan<Acc>& plan);

// A product with a vector, M = 1, which reads every element of rhs once, where it lies. One stride
// of rhs must be 1.
template <class Acc>
void multiply_vector(const GemmPlan<Acc>& plan);

// Memory of one thread that lasts from call to call and grows as asked, aligned to cache lines.
class GemmScratch {
 public:
  void* get(int64_t bytes);

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> memory_;
  int64_t bytes_ = 0;
};

}  // namespace mixprec::cpu
