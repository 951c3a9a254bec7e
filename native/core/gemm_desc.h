// What a matrix product is, for every backend: out = alpha * lhs x rhs + beta * out (+ bias), then
// what its epilogue says, batched in two levels. Row-major throughout; a transposed operand is
// expressed by its strides.
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
  int64_t outer_stride = 0;  // likewise over the batches
};

enum class GemmActivation : int32_t { kNone, kRelu, kGelu, kGeluTanh, kSilu };

// What follows a product before it is rounded to out's dtype, in this order and in the dtype of the
// sums, with value = alpha * sum + beta * out + bias. Its tensors have the dtype and the strides of
// out, and none of them overlaps it.
struct GemmEpilogue {
  GemmActivation activation = GemmActivation::kNone;  // value = activation(value), or
  bool derivative = false;  // value *= activation'(aux), with aux the earlier input of it
  void* aux = nullptr;      // without `derivative`: the input of the activation is kept here
  const void* multiplier = nullptr;  // value *= multiplier
  const void* residual = nullptr;    // value += residual
  // [N], float32 (float64 for a float64 product), or null: the sums over all rows, and batches, of
  // what was stored in out; overwritten.
  void* column_sums = nullptr;

  // The same for an out that begins `offset` bytes later.
  GemmEpilogue moved(int64_t offset) const {
    GemmEpilogue result = *this;
    if (aux != nullptr) result.aux = static_cast<char*>(aux) + offset;
    if (multiplier != nullptr) result.multiplier = static_cast<const char*>(multiplier) + offset;
    if (residual != nullptr) result.residual = static_cast<const char*>(residual) + offset;
    return result;
  }

  // Whether values are stored as they are.
  bool is_plain() const {
    return activation == GemmActivation::kNone && aux == nullptr && multiplier == nullptr &&
           residual == nullptr;
  }
};

struct GemmDesc {
  int64_t M = 0, N = 0, K = 0;
  int64_t batch = 1;
  int64_t outer = 1;    // batches, each of `batch` products
  GemmOperand lhs;      // [outer, batch, M, K]
  GemmOperand rhs;      // [outer, batch, K, N]
  void* out = nullptr;  // [outer, batch, M, N], columns contiguous
  DType out_dtype = DType::kFloat32;
  int64_t out_row_stride = 0;
  int64_t out_batch_stride = 0;
  int64_t out_outer_stride = 0;
  const void* bias = nullptr;  // [N], or null; added after alpha, before rounding to out_dtype
  DType bias_dtype = DType::kFloat32;
  double alpha = 1.0;
  double beta = 0.0;  // 0 does not read `out`
  MatmulPrecision precision = MatmulPrecision::kHighest;
  GemmEpilogue epilogue;
};

// One rhs for a batch of lhs that lie one below the other is a single, taller product.
inline GemmDesc with_batch_as_rows(const GemmDesc& desc) {
  const bool stacked = desc.rhs.batch_stride == 0 &&
                       desc.lhs.batch_stride == desc.M * desc.lhs.row_stride &&
                       desc.out_batch_stride == desc.M * desc.out_row_stride;
  if (desc.batch == 1 || !stacked) return desc;
  GemmDesc tall = desc;
  tall.M *= desc.batch;
  tall.batch = 1;
  return tall;
}

}  // namespace mixprec
