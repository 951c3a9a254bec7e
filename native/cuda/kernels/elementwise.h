// Element-wise kernels over strided and broadcast tensors of mixed dtypes. A functor of one to
// three numbers of a computed type (float, double, int64_t) is all that an op has to bring:
//
//   Elementwise<float, 2> work(backend, out);
//   work.input(0, lhs, common_dtype);
//   work.scalar(1, 2.0f);
//   work.run(AddFunctor{});
//
// There are two kernels. The vectorized one takes several neighbours a thread with 16-byte
// accesses: for tensors whose innermost dimension is dense or broadcast. The general one takes any
// strides and dtypes, an element a thread. A functor is compiled into both; run_vectorized() and
// run_general() take one each, so that an op with many functions can keep the second to one kernel.
#pragma once

#include "cuda/cuda_backend.h"
#include "cuda/runtime/launch.h"
#include "element.h"
#include "layout.h"

namespace mixprec::cuda {

// Elements a thread of the vectorized kernel: 16 bytes of the narrower dtypes. Double has none: its
// accesses fill the memory's transactions one element a thread, and its functions many registers.
template <class Compute>
inline constexpr int kVectorWidth = sizeof(Compute) == 4 ? 8 : 4;
template <class Compute>
inline constexpr bool kHasVectorized = !std::is_same_v<Compute, double>;
inline constexpr int kElementwiseThreads = 256;

// An operand: a tensor, or a number where `data` is null.
template <class Compute>
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  // Rounded to this 16-bit dtype first, where promotion narrows it; otherwise equal to `dtype`.
  DType rounded_to = DType::kFloat32;
  Compute number{};
};

template <class Compute, int kInputs>
struct ElementwiseArgs {
  Operand<Compute> inputs[kInputs];
  void* out = nullptr;
  DType out_dtype = DType::kFloat32;
  Layout<kInputs + 1> layout;  // of the output, then of the inputs
};

template <class Functor, class Compute, int kInputs>
MIXPREC_DEVICE auto apply_functor(const Functor& functor, const Compute (&in)[kInputs]) {
  if constexpr (kInputs == 1) {
    return functor(in[0]);
  } else if constexpr (kInputs == 2) {
    return functor(in[0], in[1]);
  } else {
    return functor(in[0], in[1], in[2]);
  }
}

template <class Compute>
MIXPREC_DEVICE Compute load_operand(const Operand<Compute>& operand, int64_t offset) {
  if (operand.data == nullptr) return operand.number;
  const Compute value = load_element<Compute>(operand.data, operand.dtype, offset);
  if (operand.rounded_to == operand.dtype) return value;
  if (operand.rounded_to == DType::kFloat16) return widened<Compute>(stored<Float16>(value));
  return widened<Compute>(stored<BFloat16>(value));
}

template <class Compute>
MIXPREC_DEVICE Compute load_vector_operand(const Operand<Compute>& operand, int64_t offset) {
  if (operand.data == nullptr) return operand.number;
  return load_vector_element<Compute>(operand.data, operand.dtype, offset);
}

template <class Functor, class Compute, int kInputs>
__global__ void __launch_bounds__(kElementwiseThreads)
    elementwise_general(const Functor functor,
                        MIXPREC_GRID_CONSTANT(ElementwiseArgs<Compute, kInputs>) args) {
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads;
  for (int64_t at = int64_t{blockIdx.x} * kElementwiseThreads + threadIdx.x; at < args.layout.numel;
       at += step) {
    int64_t offsets[kInputs + 1];
    args.layout.offsets(at, offsets);
    Compute in[kInputs];
    MIXPREC_UNROLL
    for (int k = 0; k < kInputs; ++k) in[k] = load_operand(args.inputs[k], offsets[k + 1]);
    const auto result = static_cast<Compute>(apply_functor(functor, in));
    store_element(args.out, args.out_dtype, offsets[0], result);
  }
}

template <class Functor, class Compute, int kInputs>
__global__ void __launch_bounds__(kElementwiseThreads)
    elementwise_vectorized(const Functor functor,
                           MIXPREC_GRID_CONSTANT(ElementwiseArgs<Compute, kInputs>) args) {
  constexpr int kWidth = kVectorWidth<Compute>;
  const int64_t step = int64_t{gridDim.x} * kElementwiseThreads * kWidth;
  for (int64_t at = (int64_t{blockIdx.x} * kElementwiseThreads + threadIdx.x) * kWidth;
       at < args.layout.numel; at += step) {
    int64_t offsets[kInputs + 1];
    args.layout.offsets(at, offsets);
    if (at + kWidth > args.layout.numel) {
      // The ragged end; here all tensors are dense or broadcast as a whole.
      for (int64_t i = 0; at + i < args.layout.numel; ++i) {
        Compute in[kInputs];
        MIXPREC_UNROLL
        for (int k = 0; k < kInputs; ++k) {
          const int64_t stride = args.layout.strides[k + 1][0];
          in[k] = load_vector_operand(args.inputs[k], offsets[k + 1] + i * stride);
        }
        const auto result = static_cast<Compute>(apply_functor(functor, in));
        store_vector_element(args.out, args.out_dtype, offsets[0] + i, result);
      }
      return;
    }
    Compute in[kInputs][kWidth];
    MIXPREC_UNROLL
    for (int k = 0; k < kInputs; ++k) {
      const Operand<Compute>& operand = args.inputs[k];
      if (operand.data == nullptr || args.layout.strides[k + 1][0] == 0) {
        const Compute value = load_vector_operand(operand, offsets[k + 1]);
        MIXPREC_UNROLL
        for (int i = 0; i < kWidth; ++i) in[k][i] = value;
      } else {
        load_elements<kWidth>(operand.data, operand.dtype, offsets[k + 1], in[k]);
      }
    }
    Compute out[kWidth];
    MIXPREC_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      Compute element[kInputs];
      MIXPREC_UNROLL
      for (int k = 0; k < kInputs; ++k) element[k] = in[k][i];
      out[i] = static_cast<Compute>(apply_functor(functor, element));
    }
    store_elements<kWidth>(args.out, args.out_dtype, offsets[0], out);
  }
}

// One element-wise piece of work: the output and its operands.
template <class Compute, int kInputs>
class Elementwise {
 public:
  // `out` may have any strides, but must not overlap an input unless it is that input.
  Elementwise(CudaBackend& backend, const Tensor& out)
      : backend_(backend), builder_(out.shape, out.rank) {
    args_.out = out.data;
    args_.out_dtype = out.dtype;
    builder_.add(0, out);
  }

  // A tensor that broadcasts to the output; `common` is the dtype in which the operands meet.
  void input(int which, const Tensor& tensor, DType common) {
    Operand<Compute>& operand = args_.inputs[which];
    operand.data = tensor.data;
    operand.dtype = tensor.dtype;
    const bool narrows =
        is_floating(tensor.dtype) && tensor.dtype != common && is_half_width(common);
    operand.rounded_to = narrows ? common : tensor.dtype;
    builder_.add(which + 1, tensor);
  }
  void scalar(int which, Compute number) { args_.inputs[which].number = number; }

  template <class Functor>
  void run(const Functor& functor) {
    if constexpr (kHasVectorized<Compute>) {
      if (vectorizes()) return run_vectorized(functor);
    }
    run_general(functor);
  }

  // Whether run_vectorized() may be called.
  bool vectorizes() {
    if (!kHasVectorized<Compute>) return false;
    prepare();
    constexpr int kWidth = kVectorWidth<Compute>;
    const Layout<kInputs + 1>& layout = args_.layout;
    if (layout.rank > 1 && layout.extents[0] % kWidth != 0) return false;
    if (!dense_rows<kWidth>(0, args_.out, args_.out_dtype)) return false;
    for (int k = 0; k < kInputs; ++k) {
      const Operand<Compute>& operand = args_.inputs[k];
      if (operand.data == nullptr) continue;
      if (operand.rounded_to != operand.dtype || !is_vector_dtype<Compute>(operand.dtype)) {
        return false;
      }
      // Broadcast along the rows, it is loaded one element at a time.
      if (layout.rank > 0 && layout.strides[k + 1][0] == 0) continue;
      if (!dense_rows<kWidth>(k + 1, operand.data, operand.dtype)) return false;
    }
    return true;
  }

  template <class Functor>
  void run_vectorized(const Functor& functor) {
    static_assert(kHasVectorized<Compute>);
    prepare();
    const int64_t vectors =
        (args_.layout.numel + kVectorWidth<Compute> - 1) / kVectorWidth<Compute>;
    if (vectors == 0) return;
    launch<elementwise_vectorized<Functor, Compute, kInputs>>(
        backend_.config(vectors, kElementwiseThreads), functor, args_);
  }

  template <class Functor>
  void run_general(const Functor& functor) {
    prepare();
    if (args_.layout.numel == 0) return;
    launch<elementwise_general<Functor, Compute, kInputs>>(
        backend_.config(args_.layout.numel, kElementwiseThreads), functor, args_);
  }

 private:
  void prepare() {
    if (prepared_) return;
    args_.layout = builder_.build();
    prepared_ = true;
  }

  // Whether tensor number `which` can be accessed kWidth elements at a time.
  template <int kWidth>
  bool dense_rows(int which, const void* data, DType dtype) const {
    const Layout<kInputs + 1>& layout = args_.layout;
    if (!is_vector_dtype<Compute>(dtype)) return false;
    if (layout.rank > 0 && layout.strides[which][0] != 1) return false;
    for (int32_t dim = 1; dim < layout.rank; ++dim) {
      if (layout.strides[which][dim] % kWidth != 0) return false;
    }
    const size_t bytes = item_size(dtype) * kWidth;
    return reinterpret_cast<uintptr_t>(data) % (bytes < 16 ? bytes : 16) == 0;
  }

  CudaBackend& backend_;
  LayoutBuilder<kInputs + 1> builder_;
  ElementwiseArgs<Compute, kInputs> args_;
  bool prepared_ = false;
};

// Calls body with a TypeTag of the type that a dtype is computed in.
template <class Body>
void by_compute_type(DType dtype, const Body& body) {
  if (dtype == DType::kFloat64) return body(TypeTag<double>{});
  if (is_floating(dtype)) return body(TypeTag<float>{});
  body(TypeTag<int64_t>{});
}

}  // namespace mixprec::cuda
