// Element-wise kernels over dense memory, compiled once per instruction set: conversions, functions
// of one and two operands, selection and random numbers. No alignment is asked for, n may be 0, and
// `out` may be an input itself. Results are the same at every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/pointwise_kinds.h"

namespace mixprec::cpu {

struct PointwiseKernels {
  // Every dtype to every other. Floats become integers by truncation, and bool by != 0; 16-bit
  // floats are rounded to nearest even, from float64 by way of float32 (as torch does).
  void (*convert)(const void* source, DType source_dtype, void* out, DType out_dtype, int64_t n);

  // `compute` is float32, float64 or int64, the type of the operands and of the result.
  void (*unary)(UnaryOp op, DType compute, const void* x, void* out, int64_t n);
  void (*unary_grad)(UnaryGradOp op, DType compute, const void* grad_output, const void* saved,
                     void* out, int64_t n);

  // Of any dtype: 16-bit floats are computed in float32, integers narrower than int64 in int64. An
  // operand that is a scalar is one element. Integers wrap around; integer division truncates, and
  // x / 0 is 0.
  void (*binary)(BinaryOp op, DType dtype, const void* lhs, bool lhs_is_scalar, const void* rhs,
                 bool rhs_is_scalar, void* out, int64_t n);
  // `compute` as in unary. Every relation but `ne` is false where an operand is NaN.
  void (*compare)(CompareOp op, DType compute, const void* lhs, bool lhs_is_scalar, const void* rhs,
                  bool rhs_is_scalar, uint8_t* out, int64_t n);
  // out[i] = mask[i] ? a[i] : b[i], for elements of 1, 2, 4 or 8 bytes.
  void (*where)(const uint8_t* mask, const void* a, const void* b, void* out, size_t item_size,
                int64_t n);

  // Elements [first, first + n) of the random sequences that core/philox.h defines.
  void (*random_words)(uint64_t seed, uint64_t offset, int64_t first, uint32_t* out, int64_t n);
  // Standard normal, in pairs (2i, 2i + 1) made of words 2i and 2i + 1; `first` is even.
  void (*random_normal)(uint64_t seed, uint64_t offset, int64_t first, float* out, int64_t n);
  // 1 where dropout with probability p keeps the element, else 0.
  void (*dropout_mask)(uint64_t seed, uint64_t offset, int64_t first, double p, uint8_t* kept,
                       int64_t n);
  // out = kept ? x * scale : 0; `dtype` is floating point.
  void (*apply_mask)(DType dtype, const void* x, const uint8_t* kept, double scale, void* out,
                     int64_t n);
};

const PointwiseKernels& kernels_portable();
const PointwiseKernels& kernels_avx2();    // x86-64 only
const PointwiseKernels& kernels_avx512();  // x86-64 only

// The kernels for isa().
const PointwiseKernels& simd();

}  // namespace mixprec::cpu
