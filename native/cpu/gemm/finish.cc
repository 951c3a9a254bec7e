// Epilogues, by the kernels of the element-wise ops: an activation behind a product has the bits of
// the op, applied to sums that were not rounded.
#include "finish.h"

#include <algorithm>

#include "core/errors.h"
#include "cpu/reduction.h"
#include "cpu/simd/kernels.h"

namespace mixprec::cpu {
namespace {

// Elements that are finished at a time, so that all they pass through stays in the nearest cache.
constexpr int64_t kChunk = 1024;

UnaryOp value_of(GemmActivation activation) {
  switch (activation) {
    case GemmActivation::kRelu:
      return UnaryOp::relu;
    case GemmActivation::kGelu:
      return UnaryOp::gelu_erf;
    case GemmActivation::kGeluTanh:
      return UnaryOp::gelu_tanh;
    case GemmActivation::kSilu:
      return UnaryOp::silu;
    case GemmActivation::kNone:
      break;
  }
  throw Error(ErrorCode::kInternal, "gemm got an activation that does not exist");
}

UnaryGradOp derivative_of(GemmActivation activation) {
  switch (activation) {
    case GemmActivation::kRelu:
      return UnaryGradOp::relu;
    case GemmActivation::kGelu:
      return UnaryGradOp::gelu_erf;
    case GemmActivation::kGeluTanh:
      return UnaryGradOp::gelu_tanh;
    case GemmActivation::kSilu:
      return UnaryGradOp::silu;
    case GemmActivation::kNone:
      break;
  }
  throw Error(ErrorCode::kInternal, "gemm got an activation that does not exist");
}

// `count` values as the epilogue leaves them; `offset`: where they are in out, in bytes.
template <class Acc>
void apply(const GemmEpilogue& epilogue, DType dtype, int64_t offset, Acc* values, int64_t count) {
  constexpr DType kCompute = kArithmeticDType<Acc>;
  const PointwiseKernels& kernels = simd();
  alignas(64) Acc other[kChunk];
  const auto read = [&](const void* tensor) {
    kernels.convert(static_cast<const char*>(tensor) + offset, dtype, other, kCompute, count);
  };
  if (epilogue.derivative) {
    if (epilogue.activation != GemmActivation::kNone) {
      read(epilogue.aux);
      kernels.unary_grad(derivative_of(epilogue.activation), kCompute, values, other, values,
                         count);
    }
  } else {
    if (epilogue.aux != nullptr) {
      kernels.convert(values, kCompute, static_cast<char*>(epilogue.aux) + offset, dtype, count);
    }
    if (epilogue.activation != GemmActivation::kNone) {
      kernels.unary(value_of(epilogue.activation), kCompute, values, values, count);
    }
  }
  if (epilogue.multiplier != nullptr) {
    read(epilogue.multiplier);
    kernels.binary(BinaryOp::mul, kCompute, values, false, other, false, values, count);
  }
  if (epilogue.residual != nullptr) {
    read(epilogue.residual);
    kernels.binary(BinaryOp::add, kCompute, values, false, other, false, values, count);
  }
}

}  // namespace

template <class Acc>
void store_rows(const GemmPlan<Acc>& plan, const StoreTarget<Acc>& target, int64_t rows,
                int64_t cols, const Acc* acc, int64_t acc_row_stride) {
  const KernelTable<Acc>& kernels = gemm_kernels<Acc>();
  if (plan.epilogue == nullptr) return kernels.store(target, rows, cols, acc, acc_row_stride);
  alignas(64) Acc values[kChunk];
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; col += kChunk) {
      const int64_t count = std::min(kChunk, cols - col);
      StoreTarget<Acc> part = target.at(row, col);
      char* const out = part.out;
      if (part.beta != 0) {
        simd().convert(out, target.dtype, values, kArithmeticDType<Acc>, count);
      }
      part.out = reinterpret_cast<char*>(values);
      part.dtype = kArithmeticDType<Acc>;
      kernels.store(part, 1, count, acc + row * acc_row_stride + col, acc_row_stride);
      apply(*plan.epilogue, target.dtype, out - plan.target.out, values, count);
      simd().convert(values, kArithmeticDType<Acc>, out, target.dtype, count);
    }
  }
}

template void store_rows(const GemmPlan<float>&, const StoreTarget<float>&, int64_t, int64_t,
                         const float*, int64_t);
template void store_rows(const GemmPlan<double>&, const StoreTarget<double>&, int64_t, int64_t,
                         const double*, int64_t);

void sum_columns(const GemmDesc& desc) {
  Tensor out;
  out.data = desc.out;
  out.dtype = desc.out_dtype;
  out.rank = 4;
  const int64_t shape[] = {desc.outer, desc.batch, desc.M, desc.N};
  const int64_t strides[] = {desc.out_outer_stride, desc.out_batch_stride, desc.out_row_stride, 1};
  std::copy_n(shape, 4, out.shape);
  std::copy_n(strides, 4, out.strides);
  by_arithmetic(out.dtype, [&]<class T>(T) {
    const ReduceLayout layout(out, 0b0111);
    reduce(layout, rows().table<T>().sum, static_cast<const T*>(nullptr),
           static_cast<T*>(desc.epilogue.column_sums));
  });
}

}  // namespace mixprec::cpu
