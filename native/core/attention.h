// What a call of attention holds, for every backend.
#pragma once

#include "backend.h"
#include "gemm_desc.h"

namespace mixprec {

// Extents of q [B, H, L, D] and of k and v [B, H, S, D], and the attributes.
struct AttentionProblem {
  int64_t B, H, L, S, D;
  double scale;
  bool causal;
  double dropout;
  uint64_t seed;
  uint64_t offset;
  MatmulPrecision precision;

  AttentionProblem(const OpCall& call, const Tensor& q, const Tensor& k)
      : scale(call.attr(0)),
        causal(call.flag(1)),
        dropout(call.attr(2)),
        seed(static_cast<uint64_t>(call.int_attr(3))),
        offset(static_cast<uint64_t>(call.int_attr(4))),
        precision(static_cast<MatmulPrecision>(call.int_attr(6))) {
    check(q.rank == 4 && k.rank == 4, "attention takes [B, H, L, D]");
    B = q.shape[0];
    H = q.shape[1];
    L = q.shape[2];
    S = k.shape[2];
    D = q.shape[3];
  }
};

}  // namespace mixprec
