// Element-wise ops that choose: classification, where and clamp.

#include "core/pointwise.h"
#include "elementwise.h"
#include "math.h"

namespace mixprec::cuda {
namespace {

struct Classify {
  bool finite;
  template <class T>
  MIXPREC_DEVICE bool operator()(T x) const {
    if constexpr (std::is_integral_v<T>) return finite;
    // A difference with itself is 0 exactly for finite values.
    return finite ? x - x == T(0) : x != x;
  }
};

struct Select {
  template <class T>
  MIXPREC_DEVICE T operator()(T condition, T a, T b) const {
    return condition != T(0) ? a : b;
  }
};

template <class T>
struct Clamp {
  bool has_min, has_max;
  T min, max;
  MIXPREC_DEVICE T operator()(T x) const {
    // maximum and minimum let NaN through, as clamp has to.
    if (has_min) x = binary_value<BinaryOp::maximum, DeviceMath>(x, min);
    if (has_max) x = binary_value<BinaryOp::minimum, DeviceMath>(x, max);
    return x;
  }
};

}  // namespace

void CudaBackend::classify(const OpCall& call) {
  check(call.out().dtype == DType::kBool, "classify gives bool");
  by_compute_type(call.in(0).dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise<T, 1> work(*this, call.out());
    work.input(0, call.in(0), call.in(0).dtype);
    work.run(Classify{call.int_attr(0) == 1});
  });
}

void CudaBackend::where(const OpCall& call) {
  const Tensor& out = call.out();
  const bool a_is_scalar = call.flag(0);
  const bool b_is_scalar = call.flag(2);
  check(call.in(0).dtype == DType::kBool, "where needs a bool condition");
  by_compute_type(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise<T, 3> work(*this, out);
    work.input(0, call.in(0), DType::kBool);
    if (a_is_scalar) {
      work.scalar(1, static_cast<T>(call.attr(1)));
    } else {
      work.input(1, call.in(1), out.dtype);
    }
    if (b_is_scalar) {
      work.scalar(2, static_cast<T>(call.attr(3)));
    } else {
      work.input(2, call.in(a_is_scalar ? 1 : 2), out.dtype);
    }
    work.run(Select{});
  });
}

void CudaBackend::clamp(const OpCall& call) {
  const Tensor& out = call.out();
  by_compute_type(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise<T, 1> work(*this, out);
    work.input(0, call.in(0), out.dtype);
    work.run(Clamp<T>{call.flag(0), call.flag(2), static_cast<T>(call.attr(1)),
                      static_cast<T>(call.attr(3))});
  });
}

}  // namespace mixprec::cuda
