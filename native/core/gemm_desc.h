// What a matrix product is, for every backend: out = alpha * lhs x rhs + beta * out (+ bias),
// batched. Row-major throughout; a transposed operand is expressed by its strides.
#pragma once

#include <cstdint>

#include "dtype.h"

namespace mixprec {

// How float32 inputs are rounded before they are multiplied; accumulation is float32 in all three.
enum class MatmulPrecision : int32_t { kHighest = 0, kHigh = 1, kMedium = 2 };

// An operand of `rows` x `cols` elements per batch; strides count elements. For every operand one
// of row_stride and col_stride is 1 or the fast path does not apply; any other pair is still right.
struct GemmOperand {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t row_stride = 0;
  int64_t col_stride = 0;
  int64_t batch_stride = 0;  // 0 broadcasts one matrix over the batch
};

struct GemmDesc {
  int64_t M = 0, N = 0, K = 0;
  int64_t batch = 1;
  GemmOperand lhs;      // [batch, M, K]
  GemmOperand rhs;      // [batch, K, N]
  void* out = nullptr;  // [batch, M, N], columns contiguous
  DType out_dtype = DType::kFloat32;
  int64_t out_row_stride = 0;
  int64_t out_batch_stride = 0;
  const void* bias = nullptr;  // [N], or null; added after alpha, before rounding to out_dtype
  DType bias_dtype = DType::kFloat32;
  double alpha = 1.0;
  double beta = 0.0;  // 0 does not read `out`
  MatmulPrecision precision = MatmulPrecision::kHighest;
};

}  // namespace mixprec
