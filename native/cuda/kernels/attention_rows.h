// Rows of attention's scores: what happens to them between the products.
#pragma once

#include "cuda/cuda_backend.h"

namespace mixprec::cuda {

struct RowsArgs {
  void* scores;      // [B * H, rows, S], multiplied with the scale; becomes what comes out
  void* grads;       // backward: likewise, of the weights; becomes that of the scores
  void* logsumexp;   // [B, H, L]
  const void* mask;  // null for none
  DType mask_dtype;
  int64_t mask_strides[4];
  int64_t H, L, S;
  int64_t first;  // row of the block
  int64_t rows;   // of the block
  bool causal;
  bool drops;
  uint64_t threshold;  // of the words that dropout keeps
  double keep;         // their factor
  uint64_t seed;
  uint64_t offset;
};

// Scores to weights that add up to 1, then dropout; and logsumexp. For `heads` (B * H) times
// args.rows rows, of float or, with `is_double`, double.
void weigh_rows(const CudaBackend& backend, const RowsArgs& args, int64_t heads, bool is_double);

// Scores become the weights after dropout, the gradient of those that of the scores.
void unweigh_rows(const CudaBackend& backend, const RowsArgs& args, int64_t heads, bool is_double);

}  // namespace mixprec::cuda
