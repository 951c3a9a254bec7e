// The element-wise kernels, written once as loops that the compiler vectorizes and compiled for
// each instruction set by kernels_*.cc. `ivdep`: the output may be an input itself, never overlap
// one partly.
#pragma once

#include "convert_impl.h"
#include "core/pointwise.h"
#include "kernels.h"
#include "math.h"
#include "random_impl.h"

// Everything here is internal to the unit that includes it, so that no code for one instruction set
// is ever linked in place of another's.
namespace mixprec::cpu {
namespace {

// Calls body with the type of the arithmetic.
template <class Body>
MIXPREC_MATH void by_compute(DType compute, const Body& body) {
  switch (compute) {
    case DType::kFloat64:
      return body(Type<double>{});
    case DType::kFloat32:
      return body(Type<float>{});
    default:
      return body(Type<int64_t>{});
  }
}

template <UnaryOp op, class T>
void unary_loop(const T* x, T* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = unary_value<op, CpuMath>(x[i]);
}

void unary(UnaryOp op, DType compute, const void* x, void* out, int64_t n) {
  by_compute(compute, [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(out);
    switch (op) {
#define MIXPREC_CASE(name) \
  case UnaryOp::name:      \
    return unary_loop<UnaryOp::name>(from, to, n);
      MIXPREC_UNARY_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  });
}

template <UnaryGradOp op, class T>
void unary_grad_loop(const T* grad_output, const T* saved, T* out, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    out[i] = unary_grad_value<op, CpuMath>(grad_output[i], saved[i]);
  }
}

void unary_grad(UnaryGradOp op, DType compute, const void* grad_output, const void* saved,
                void* out, int64_t n) {
  const auto run = [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* g = static_cast<const T*>(grad_output);
    const auto* values = static_cast<const T*>(saved);
    auto* to = static_cast<T*>(out);
    switch (op) {
#define MIXPREC_CASE(name) \
  case UnaryGradOp::name:  \
    return unary_grad_loop<UnaryGradOp::name>(g, values, to, n);
      MIXPREC_UNARY_GRAD_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  };
  if (compute == DType::kFloat64) {
    run(Type<double>{});
  } else {
    run(Type<float>{});
  }
}

// Calls loop(lhs, rhs) with functions from an index to an operand.
template <class T, class Loop>
MIXPREC_MATH void with_operands(const T* lhs, bool lhs_is_scalar, const T* rhs, bool rhs_is_scalar,
                                const Loop& loop) {
  const auto left = [=](int64_t i) MIXPREC_INLINED { return lhs[i]; };
  const auto right = [=](int64_t i) MIXPREC_INLINED { return rhs[i]; };
  if (lhs_is_scalar) {
    const T value = *lhs;
    loop([=](int64_t) MIXPREC_INLINED { return value; }, right);
  } else if (rhs_is_scalar) {
    const T value = *rhs;
    loop(left, [=](int64_t) MIXPREC_INLINED { return value; });
  } else {
    loop(left, right);
  }
}

template <BinaryOp op, class T>
void binary_loop(const T* lhs, bool lhs_is_scalar, const T* rhs, bool rhs_is_scalar, T* out,
                 int64_t n) {
  if (lhs_is_scalar && rhs_is_scalar) {
    const T value = binary_value<op, CpuMath>(*lhs, *rhs);
    for (int64_t i = 0; i < n; ++i) out[i] = value;
    return;
  }
  if constexpr (op == BinaryOp::pow && !std::is_same_v<T, int64_t>) {
    // The common square, without a call of libm.
    if (rhs_is_scalar && *rhs == T{2}) {
      return binary_loop<BinaryOp::mul>(lhs, false, lhs, false, out, n);
    }
  }
  with_operands(lhs, lhs_is_scalar, rhs, rhs_is_scalar,
                [&](const auto& a, const auto& b) MIXPREC_INLINED {
#pragma GCC ivdep
                  for (int64_t i = 0; i < n; ++i) out[i] = binary_value<op, CpuMath>(a(i), b(i));
                });
}

void binary(BinaryOp op, DType dtype, const void* lhs, bool lhs_is_scalar, const void* rhs,
            bool rhs_is_scalar, void* out, int64_t n) {
  const DType compute = dtype == DType::kFloat64 ? dtype
                        : is_floating(dtype)     ? DType::kFloat32
                                                 : DType::kInt64;
  if (dtype != compute) {
    alignas(64) int64_t left[kChunk];
    alignas(64) int64_t right[kChunk];
    for (int64_t i = 0; i < n; i += kChunk) {
      const int64_t count = n - i < kChunk ? n - i : kChunk;
      convert(element(lhs, dtype, lhs_is_scalar ? 0 : i), dtype, left, compute,
              lhs_is_scalar ? 1 : count);
      convert(element(rhs, dtype, rhs_is_scalar ? 0 : i), dtype, right, compute,
              rhs_is_scalar ? 1 : count);
      // The result replaces an operand that is no scalar, or fills the chunk of two that are.
      binary(op, compute, left, lhs_is_scalar, right, rhs_is_scalar, lhs_is_scalar ? right : left,
             count);
      convert(lhs_is_scalar ? right : left, compute, element(out, dtype, i), dtype, count);
    }
    return;
  }
  by_compute(compute, [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* a = static_cast<const T*>(lhs);
    const auto* b = static_cast<const T*>(rhs);
    auto* to = static_cast<T*>(out);
    switch (op) {
#define MIXPREC_CASE(name) \
  case BinaryOp::name:     \
    return binary_loop<BinaryOp::name>(a, lhs_is_scalar, b, rhs_is_scalar, to, n);
      MIXPREC_BINARY_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  });
}

template <CompareOp op, class T>
void compare_loop(const T* lhs, bool lhs_is_scalar, const T* rhs, bool rhs_is_scalar, uint8_t* out,
                  int64_t n) {
  if (lhs_is_scalar && rhs_is_scalar) {
    const bool value = compare_value<op, CpuMath>(*lhs, *rhs);
    for (int64_t i = 0; i < n; ++i) out[i] = value;
    return;
  }
  with_operands(lhs, lhs_is_scalar, rhs, rhs_is_scalar,
                [&](const auto& a, const auto& b) MIXPREC_INLINED {
#pragma GCC ivdep
                  for (int64_t i = 0; i < n; ++i) out[i] = compare_value<op, CpuMath>(a(i), b(i));
                });
}

void compare(CompareOp op, DType compute, const void* lhs, bool lhs_is_scalar, const void* rhs,
             bool rhs_is_scalar, uint8_t* out, int64_t n) {
  by_compute(compute, [&]<class T>(Type<T>) MIXPREC_INLINED {
    const auto* a = static_cast<const T*>(lhs);
    const auto* b = static_cast<const T*>(rhs);
    switch (op) {
#define MIXPREC_CASE(name) \
  case CompareOp::name:    \
    return compare_loop<CompareOp::name>(a, lhs_is_scalar, b, rhs_is_scalar, out, n);
      MIXPREC_COMPARE_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  });
}

template <class T>
void where_loop(const uint8_t* mask, const void* a, const void* b, void* out, int64_t n) {
  const T* yes = static_cast<const T*>(a);
  const T* no = static_cast<const T*>(b);
  T* to = static_cast<T*>(out);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T first = yes[i];
    const T second = no[i];
    to[i] = mask[i] != 0 ? first : second;
  }
}

void where(const uint8_t* mask, const void* a, const void* b, void* out, size_t item, int64_t n) {
  switch (item) {
    case 1:
      return where_loop<uint8_t>(mask, a, b, out, n);
    case 2:
      return where_loop<uint16_t>(mask, a, b, out, n);
    case 4:
      return where_loop<uint32_t>(mask, a, b, out, n);
    default:
      return where_loop<uint64_t>(mask, a, b, out, n);
  }
}

constexpr PointwiseKernels kPointwiseKernels = {
    convert, unary,        unary_grad,    binary,       compare,
    where,   random_words, random_normal, dropout_mask, apply_mask};

}  // namespace
}  // namespace mixprec::cpu
