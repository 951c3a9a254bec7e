// Functions and relations of two numbers, either of which may be given once for all elements.

#include "core/pointwise.h"
#include "elementwise.h"
#include "math.h"

namespace mixprec::cuda {
namespace {

template <BinaryOp op>
struct BinaryFunctor {
  template <class T>
  MIXPREC_DEVICE T operator()(T a, T b) const {
    return binary_value<op, DeviceMath>(a, b);
  }
};

struct AnyBinary {
  BinaryOp op;
  template <class T>
  MIXPREC_DEVICE T operator()(T a, T b) const {
#define MIXPREC_CASE(name) \
  case BinaryOp::name:     \
    return binary_value<BinaryOp::name, DeviceMath>(a, b);
    switch (op) { MIXPREC_BINARY_KINDS(MIXPREC_CASE) }
#undef MIXPREC_CASE
    return a;
  }
};

// A relation as the set of outcomes of a comparison that fulfil it.
struct Relation {
  static constexpr int kLess = 1, kEqual = 2, kGreater = 4, kUnordered = 8;
  int outcomes;

  explicit Relation(CompareOp op) : outcomes(0) {
    switch (op) {
      case CompareOp::eq:
        outcomes = kEqual;
        break;
      case CompareOp::ne:
        outcomes = kLess | kGreater | kUnordered;
        break;
      case CompareOp::lt:
        outcomes = kLess;
        break;
      case CompareOp::le:
        outcomes = kLess | kEqual;
        break;
      case CompareOp::gt:
        outcomes = kGreater;
        break;
      case CompareOp::ge:
        outcomes = kGreater | kEqual;
        break;
    }
  }
  template <class T>
  MIXPREC_DEVICE bool operator()(T a, T b) const {
    const int outcome = a < b ? kLess : (a == b ? kEqual : (a > b ? kGreater : kUnordered));
    return (outcomes & outcome) != 0;
  }
};

// The two operands of binary and compare, either of which may be a number.
template <class T>
Elementwise<T, 2> operand_pair(CudaBackend& backend, const OpCall& call, DType common) {
  const int64_t mode = call.int_attr(2);
  const T number = static_cast<T>(call.attr(3));
  Elementwise<T, 2> work(backend, call.out());
  if (mode == 2) {
    work.scalar(0, number);
    work.input(1, call.in(0), common);
  } else {
    work.input(0, call.in(0), common);
    if (mode == 1) work.scalar(1, number);
    if (mode == 0) work.input(1, call.in(1), common);
  }
  return work;
}

template <class T>
void run_binary(Elementwise<T, 2>& work, BinaryOp op) {
  if (!work.vectorizes()) return work.run_general(AnyBinary{op});
  if constexpr (kHasVectorized<T>) {
    switch (op) {
#define MIXPREC_CASE(name) \
  case BinaryOp::name:     \
    return work.run_vectorized(BinaryFunctor<BinaryOp::name>{});
      MIXPREC_BINARY_KINDS(MIXPREC_CASE)
#undef MIXPREC_CASE
    }
  }
}

}  // namespace

void CudaBackend::binary(const OpCall& call) {
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kBinaryCount, "a function that does not exist");
  by_compute_type(call.dtype_attr(1), [&](auto tag) {
    using T = typename decltype(tag)::type;
    auto work = operand_pair<T>(*this, call, call.dtype_attr(1));
    run_binary(work, static_cast<BinaryOp>(call.int_attr(0)));
  });
}

void CudaBackend::compare(const OpCall& call) {
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kCompareCount,
        "a function that does not exist");
  check(call.out().dtype == DType::kBool, "compare gives bool");
  by_compute_type(call.dtype_attr(1), [&](auto tag) {
    using T = typename decltype(tag)::type;
    auto work = operand_pair<T>(*this, call, call.dtype_attr(1));
    work.run(Relation(static_cast<CompareOp>(call.int_attr(0))));
  });
}

}  // namespace mixprec::cuda
