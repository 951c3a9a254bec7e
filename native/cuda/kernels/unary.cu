// Functions of one number, and their gradients: functors over the formulas of core/pointwise.h. The
// vectorized kernels are told the function at compile time, the general ones as a number.

#include "core/pointwise.h"
#include "elementwise.h"
#include "math.h"

namespace mixprec::cuda {
namespace {

template <UnaryOp op>
struct UnaryFunctor {
  template <class T>
  MIXPREC_DEVICE T operator()(T x) const {
    return unary_value<op, DeviceMath>(x);
  }
};

struct AnyUnary {
  UnaryOp op;
  template <class T>
  MIXPREC_DEVICE T operator()(T x) const {
#define MIXPREC_CASE(name) \
  case UnaryOp::name:      \
    return unary_value<UnaryOp::name, DeviceMath>(x);
    switch (op) { MIXPREC_UNARY_KINDS(MIXPREC_CASE) }
#undef MIXPREC_CASE
    return x;
  }
};

template <UnaryGradOp op>
struct UnaryGradFunctor {
  template <class T>
  MIXPREC_DEVICE T operator()(T grad, T saved) const {
    return unary_grad_value<op, DeviceMath>(grad, saved);
  }
};

struct AnyUnaryGrad {
  UnaryGradOp op;
  template <class T>
  MIXPREC_DEVICE T operator()(T grad, T saved) const {
#define MIXPREC_CASE(name) \
  case UnaryGradOp::name:  \
    return unary_grad_value<UnaryGradOp::name, DeviceMath>(grad, saved);
    switch (op) { MIXPREC_UNARY_GRAD_KINDS(MIXPREC_CASE) }
#undef MIXPREC_CASE
    return grad;
  }
};

template <class T>
void run_unary(Elementwise<T, 1>& work, UnaryOp op) {
  if (!work.vectorizes()) return work.run_general(AnyUnary{op});
  if constexpr (kHasVectorized<T>) {
    switch (op) {
#define MIXPREC_CASE(name)                                                   \
  case UnaryOp::name:                                                        \
    if constexpr (!std::is_integral_v<T> || has_integer_form(UnaryOp::name)) \
      work.run_vectorized(UnaryFunctor<UnaryOp::name>{});                    \
    break;
      MIXPREC_UNARY_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  }
}

template <class T>
void run_unary_grad(Elementwise<T, 2>& work, UnaryGradOp op) {
  if (!work.vectorizes()) return work.run_general(AnyUnaryGrad{op});
  if constexpr (kHasVectorized<T>) {
    switch (op) {
#define MIXPREC_CASE(name) \
  case UnaryGradOp::name:  \
    return work.run_vectorized(UnaryGradFunctor<UnaryGradOp::name>{});
      MIXPREC_UNARY_GRAD_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  }
}

}  // namespace

void CudaBackend::unary(const OpCall& call) {
  const Tensor& out = call.out();
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kUnaryCount, "a function that does not exist");
  const auto op = static_cast<UnaryOp>(call.int_attr(0));
  check(is_floating(out.dtype) || has_integer_form(op), "unary: a function of integers");
  by_compute_type(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise<T, 1> work(*this, out);
    work.input(0, call.in(0), out.dtype);
    run_unary(work, op);
  });
}

void CudaBackend::unary_grad(const OpCall& call) {
  const Tensor& out = call.out();
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kUnaryGradCount,
        "a function that does not exist");
  check(is_floating(out.dtype), "unary_grad gives floating point");
  by_compute_type(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_floating_point_v<T>) {
      Elementwise<T, 2> work(*this, out);
      work.input(0, call.in(0), out.dtype);
      work.input(1, call.in(1), out.dtype);
      run_unary_grad(work, static_cast<UnaryGradOp>(call.int_attr(0)));
    }
  });
}

}  // namespace mixprec::cuda
