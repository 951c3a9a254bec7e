// The way of sums to memory, the same for all kernels of products: alpha, beta, bias, and what the
// epilogue of GemmDesc asks for. Everything is a run-time value, uniform over the grid.
#pragma once

#include <algorithm>

#include "core/gemm_desc.h"
#include "core/pointwise.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/math.h"

namespace mixprec::cuda {

// `Acc` is the type of the sums: float, double or int64_t.
template <class Acc>
struct EpilogueArgs {
  void* out;
  DType out_dtype;
  DType bias_dtype;
  int64_t row_stride;
  int64_t batch_stride;
  int64_t outer_stride;
  const void* bias;
  Acc alpha;
  Acc beta;
  GemmActivation activation;
  bool derivative;
  bool is_plain;  // nothing but alpha, beta and bias
  void* aux;
  const void* multiplier;
  const void* residual;
};

template <class Acc>
EpilogueArgs<Acc> epilogue_args(const GemmDesc& desc) {
  EpilogueArgs<Acc> args{};
  args.out = desc.out;
  args.out_dtype = desc.out_dtype;
  args.bias_dtype = desc.bias_dtype;
  args.row_stride = desc.out_row_stride;
  args.batch_stride = desc.out_batch_stride;
  args.outer_stride = desc.out_outer_stride;
  args.bias = desc.bias;
  args.alpha = static_cast<Acc>(desc.alpha);
  args.beta = static_cast<Acc>(desc.beta);
  args.activation = desc.epilogue.activation;
  args.derivative = desc.epilogue.derivative;
  args.is_plain = desc.epilogue.is_plain();
  args.aux = desc.epilogue.aux;
  args.multiplier = desc.epilogue.multiplier;
  args.residual = desc.epilogue.residual;
  return args;
}

// Whether rows of out, and of what lies as it does, can be taken `count` neighbours at a time.
inline bool is_aligned_to(const GemmDesc& desc, int count) {
  const int64_t strides = desc.out_row_stride | desc.out_batch_stride | desc.out_outer_stride;
  const size_t bytes = std::min<size_t>(16, item_size(desc.out_dtype) * static_cast<size_t>(count));
  const GemmEpilogue& epilogue = desc.epilogue;
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(desc.out) |
                              reinterpret_cast<uintptr_t>(epilogue.aux) |
                              reinterpret_cast<uintptr_t>(epilogue.multiplier) |
                              reinterpret_cast<uintptr_t>(epilogue.residual);
  return strides % count == 0 && addresses % bytes == 0;
}

// Whole numbers wrap around, which only unsigned arithmetic promises.
template <class Acc>
MIXPREC_DEVICE Acc multiply_add(Acc a, Acc b, Acc sum) {
  if constexpr (std::is_integral_v<Acc>) {
    return static_cast<Acc>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b) +
                            static_cast<uint64_t>(sum));
  } else {
    return a * b + sum;
  }
}

namespace epilogue_detail {

// Elements [at, at + kCount) of a tensor that lies as out does; only the first `valid` are read.
template <class Acc, int kCount>
MIXPREC_DEVICE void load_row(const void* data, DType dtype, int64_t at, int valid, bool aligned,
                             Acc (&values)[kCount]) {
  if (aligned && valid == kCount) return load_elements<kCount>(data, dtype, at, values);
  MIXPREC_UNROLL
  for (int i = 0; i < kCount; ++i) {
    values[i] = i < valid ? load_vector_element<Acc>(data, dtype, at + i) : Acc(0);
  }
}

template <class Acc, int kCount>
MIXPREC_DEVICE void store_row(void* data, DType dtype, int64_t at, int valid, bool aligned,
                              const Acc (&values)[kCount]) {
  if (aligned && valid == kCount) return store_elements<kCount>(data, dtype, at, values);
  MIXPREC_UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (i < valid) store_vector_element(data, dtype, at + i, values[i]);
  }
}

template <class Acc>
MIXPREC_DEVICE Acc activated(GemmActivation activation, Acc x) {
  switch (activation) {
    case GemmActivation::kRelu:
      return unary_value<UnaryOp::relu, DeviceMath>(x);
    case GemmActivation::kGelu:
      return unary_value<UnaryOp::gelu_erf, DeviceMath>(x);
    case GemmActivation::kGeluTanh:
      return unary_value<UnaryOp::gelu_tanh, DeviceMath>(x);
    case GemmActivation::kSilu:
      return unary_value<UnaryOp::silu, DeviceMath>(x);
    case GemmActivation::kNone:
      break;
  }
  return x;
}

template <class Acc>
MIXPREC_DEVICE Acc times_derivative(GemmActivation activation, Acc g, Acc x) {
  switch (activation) {
    case GemmActivation::kRelu:
      return unary_grad_value<UnaryGradOp::relu, DeviceMath>(g, x);
    case GemmActivation::kGelu:
      return unary_grad_value<UnaryGradOp::gelu_erf, DeviceMath>(g, x);
    case GemmActivation::kGeluTanh:
      return unary_grad_value<UnaryGradOp::gelu_tanh, DeviceMath>(g, x);
    case GemmActivation::kSilu:
      return unary_grad_value<UnaryGradOp::silu, DeviceMath>(g, x);
    case GemmActivation::kNone:
      break;
  }
  return g;
}

}  // namespace epilogue_detail

// Finishes `valid` of kCount neighbouring sums of a row, the first of them in column `column` and
// at element `at` of out, and stores them. `aligned`: `at` is a multiple of kCount in memory that
// is aligned to kCount elements, and so is `column`.
template <class Acc, int kCount>
MIXPREC_DEVICE void store_finished(const EpilogueArgs<Acc>& args, Acc (&values)[kCount], int64_t at,
                                   int64_t column, int valid, bool aligned) {
  using namespace epilogue_detail;
  Acc other[kCount];
  MIXPREC_UNROLL
  for (int i = 0; i < kCount; ++i) values[i] = multiply_add(args.alpha, values[i], Acc(0));
  if (args.beta != Acc(0)) {
    load_row(args.out, args.out_dtype, at, valid, aligned, other);
    MIXPREC_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = multiply_add(args.beta, other[i], values[i]);
  }
  if (args.bias != nullptr) {
    load_row(args.bias, args.bias_dtype, column, valid, false, other);
    MIXPREC_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = multiply_add(Acc(1), other[i], values[i]);
  }
  if constexpr (std::is_floating_point_v<Acc>) {
    if (!args.is_plain) {
      if (args.derivative) {
        load_row(args.aux, args.out_dtype, at, valid, aligned, other);
        MIXPREC_UNROLL
        for (int i = 0; i < kCount; ++i) {
          values[i] = times_derivative(args.activation, values[i], other[i]);
        }
      } else {
        if (args.aux != nullptr) {
          store_row(args.aux, args.out_dtype, at, valid, aligned, values);
        }
        MIXPREC_UNROLL
        for (int i = 0; i < kCount; ++i) values[i] = activated(args.activation, values[i]);
      }
      if (args.multiplier != nullptr) {
        load_row(args.multiplier, args.out_dtype, at, valid, aligned, other);
        MIXPREC_UNROLL
        for (int i = 0; i < kCount; ++i) values[i] *= other[i];
      }
      if (args.residual != nullptr) {
        load_row(args.residual, args.out_dtype, at, valid, aligned, other);
        MIXPREC_UNROLL
        for (int i = 0; i < kCount; ++i) values[i] += other[i];
      }
    }
  }
  store_row(args.out, args.out_dtype, at, valid, aligned, values);
}

}  // namespace mixprec::cuda
