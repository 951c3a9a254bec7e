// Element-wise ops: every input is brought, block by block, into dense memory of the type computed
// in (float32 for 16-bit floats, int64 for integers), so that the kernels know no strides and no
// casts.

#include <algorithm>
#include <cmath>

#include "core/pointwise.h"
#include "cpu_backend.h"
#include "simd/kernels.h"
#include "strided.h"
#include "thread_pool.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kBlock = 1024;
constexpr int64_t kCheapGrain = 1 << 15;
constexpr int64_t kCostlyGrain = 1 << 13;

struct Block {
  alignas(64) char bytes[kBlock * 8];  // uninitialized: small tensors must not pay for its size
};

DType compute_dtype(DType dtype) {
  if (dtype == DType::kFloat64) return dtype;
  return is_floating(dtype) ? DType::kFloat32 : DType::kInt64;
}

// One operand as blocks of `compute`: a tensor seen through the output's shape, or a number.
class Operand {
 public:
  Operand(const Tensor& tensor, const Tensor& out, DType common)
      : range_(tensor, out.shape, out.rank), common_(common), compute_(compute_dtype(common)) {}

  // Elements [begin, begin + count); `gathered` and `converted` are scratch.
  const void* fetch(int64_t begin, int64_t count, Block& gathered, Block& converted) const {
    const void* block = range_.dense() ? range_.at(begin) : gathered.bytes;
    if (!range_.dense()) range_.read(begin, count, gathered.bytes);
    const DType dtype = range_.dtype();
    // An operand that promotion narrows (a 0-d float64 beside float16) is rounded to it first.
    if (is_floating(dtype) && dtype != common_ && is_half_width(common_)) {
      simd().convert(block, dtype, converted.bytes, common_, count);
      simd().convert(converted.bytes, common_, gathered.bytes, compute_, count);
      return gathered.bytes;
    }
    if (dtype == compute_) return block;
    simd().convert(block, dtype, converted.bytes, compute_, count);
    return converted.bytes;
  }

 private:
  StridedRange range_;
  DType common_;
  DType compute_;
};

union Scalar {
  float f32;
  double f64;
  int64_t i64;
};

Scalar make_scalar(double value, DType compute) {
  Scalar scalar;
  if (compute == DType::kFloat64) {
    scalar.f64 = value;
  } else if (compute == DType::kFloat32) {
    scalar.f32 = static_cast<float>(value);
  } else {
    scalar.i64 = static_cast<int64_t>(value);
  }
  return scalar;
}

// Calls body(begin, count) for blocks of the output, in parallel.
template <class Body>
void for_each_block(const Tensor& out, int64_t grain, const Body& body) {
  parallel_for(out.numel(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kBlock) body(at, std::min(kBlock, end - at));
  });
}

char* address(const Tensor& out, int64_t at) {
  return out.as<char>() + at * static_cast<int64_t>(item_size(out.dtype));
}

// Where a block of results of type `compute` goes: the output itself, or scratch that store()
// casts.
void* target(const Tensor& out, int64_t at, DType compute, Block& scratch) {
  return out.dtype == compute ? address(out, at) : scratch.bytes;
}

void store(const Tensor& out, int64_t at, int64_t count, DType compute, const Block& scratch) {
  if (out.dtype == compute) return;
  simd().convert(scratch.bytes, compute, address(out, at), out.dtype, count);
}

// The two operands of binary and compare, either of which may be a number.
class OperandPair {
 public:
  OperandPair(const OpCall& call, DType common)
      : compute_(compute_dtype(common)),
        mode_(call.int_attr(2)),
        scalar_(make_scalar(call.attr(3), compute_)),
        first_(call.in(0), call.out(), common),
        second_(call.in(mode_ == 0 ? 1 : 0), call.out(), common) {}

  struct Blocks {
    const void* lhs;
    const void* rhs;
  };
  Blocks fetch(int64_t at, int64_t count, Block* scratch) const {
    const void* first = first_.fetch(at, count, scratch[0], scratch[1]);
    if (mode_ == 1) return {first, &scalar_};
    if (mode_ == 2) return {&scalar_, first};
    return {first, second_.fetch(at, count, scratch[2], scratch[3])};
  }
  bool lhs_is_scalar() const { return mode_ == 2; }
  bool rhs_is_scalar() const { return mode_ == 1; }
  DType compute() const { return compute_; }

 private:
  DType compute_;
  int64_t mode_;
  Scalar scalar_;
  Operand first_;
  Operand second_;
};

}  // namespace

void CpuBackend::unary(const OpCall& call) {
  const Tensor& out = call.out();
  const auto kind = static_cast<UnaryOp>(call.int_attr(0));
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kUnaryCount, "unary: no such function");
  const DType compute = compute_dtype(out.dtype);
  check(compute != DType::kInt64 || has_integer_form(kind), "unary: a function of integers");
  const Operand x(call.in(0), out, out.dtype);
  for_each_block(out, kCostlyGrain, [&](int64_t at, int64_t count) {
    Block gathered, converted, result;
    const void* block = x.fetch(at, count, gathered, converted);
    simd().unary(kind, compute, block, target(out, at, compute, result), count);
    store(out, at, count, compute, result);
  });
}

void CpuBackend::unary_grad(const OpCall& call) {
  const Tensor& out = call.out();
  const auto kind = static_cast<UnaryGradOp>(call.int_attr(0));
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kUnaryGradCount, "unary_grad: no such kind");
  check(is_floating(out.dtype), "unary_grad gives floating point");
  const DType compute = compute_dtype(out.dtype);
  const Operand grad(call.in(0), out, out.dtype);
  const Operand saved(call.in(1), out, out.dtype);
  for_each_block(out, kCostlyGrain, [&](int64_t at, int64_t count) {
    Block scratch[4], result;
    const void* grads = grad.fetch(at, count, scratch[0], scratch[1]);
    const void* values = saved.fetch(at, count, scratch[2], scratch[3]);
    simd().unary_grad(kind, compute, grads, values, target(out, at, compute, result), count);
    store(out, at, count, compute, result);
  });
}

void CpuBackend::binary(const OpCall& call) {
  const Tensor& out = call.out();
  const auto kind = static_cast<BinaryOp>(call.int_attr(0));
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kBinaryCount, "binary: no such function");
  const OperandPair operands(call, call.dtype_attr(1));
  const DType compute = operands.compute();
  const int64_t grain = kind == BinaryOp::pow ? kCostlyGrain : kCheapGrain;
  for_each_block(out, grain, [&](int64_t at, int64_t count) {
    Block scratch[4], result;
    const auto [lhs, rhs] = operands.fetch(at, count, scratch);
    simd().binary(kind, compute, lhs, operands.lhs_is_scalar(), rhs, operands.rhs_is_scalar(),
                  target(out, at, compute, result), count);
    store(out, at, count, compute, result);
  });
}

void CpuBackend::compare(const OpCall& call) {
  const Tensor& out = call.out();
  const auto kind = static_cast<CompareOp>(call.int_attr(0));
  check(call.int_attr(0) >= 0 && call.int_attr(0) < kCompareCount, "compare: no such relation");
  check(out.dtype == DType::kBool, "compare gives bool");
  const OperandPair operands(call, call.dtype_attr(1));
  for_each_block(out, kCheapGrain, [&](int64_t at, int64_t count) {
    Block scratch[4];
    const auto [lhs, rhs] = operands.fetch(at, count, scratch);
    simd().compare(kind, operands.compute(), lhs, operands.lhs_is_scalar(), rhs,
                   operands.rhs_is_scalar(), out.as<uint8_t>() + at, count);
  });
}

void CpuBackend::classify(const OpCall& call) {
  const Tensor& out = call.out();
  check(out.dtype == DType::kBool, "classify gives bool");
  const bool finite = call.int_attr(0) == 1;
  const DType compute = compute_dtype(call.in(0).dtype);
  const Operand x(call.in(0), out, call.in(0).dtype);
  for_each_block(out, kCheapGrain, [&](int64_t at, int64_t count) {
    Block gathered, converted;
    const void* block = x.fetch(at, count, gathered, converted);
    uint8_t* to = out.as<uint8_t>() + at;
    const auto run = [&]<class T>(const T* values) {
      for (int64_t i = 0; i < count; ++i) {
        // A difference with itself is 0 exactly for finite values.
        to[i] = finite ? values[i] - values[i] == 0 : values[i] != values[i];
      }
    };
    if (compute == DType::kFloat32) {
      run(static_cast<const float*>(block));
    } else if (compute == DType::kFloat64) {
      run(static_cast<const double*>(block));
    } else {
      std::fill_n(to, count, static_cast<uint8_t>(finite));
    }
  });
}

void CpuBackend::where(const OpCall& call) {
  const Tensor& out = call.out();
  const bool a_is_scalar = call.flag(0);
  const bool b_is_scalar = call.flag(2);
  check(call.in(0).dtype == DType::kBool, "where needs a bool condition");
  const auto item = static_cast<int64_t>(item_size(out.dtype));
  const StridedRange condition(call.in(0), out.shape, out.rank);
  // Elements are moved, not computed with, so both operands are brought to the output's dtype.
  const auto operand = [&](int32_t index, bool is_scalar, double value, char* element) {
    if (!is_scalar) return contiguous_as(*this, call.in(index), out.dtype);
    simd().convert(&value, DType::kFloat64, element, out.dtype, 1);
    Tensor scalar;
    scalar.data = element;
    scalar.dtype = out.dtype;
    return scalar;
  };
  alignas(8) char elements[2][8];
  const Tensor a = operand(1, a_is_scalar, call.attr(1), elements[0]);
  const Tensor b = operand(a_is_scalar ? 1 : 2, b_is_scalar, call.attr(3), elements[1]);
  const StridedRange a_range(a, out.shape, out.rank);
  const StridedRange b_range(b, out.shape, out.rank);
  // A number is spread over a block once, not for every block.
  Block numbers[2];
  if (a_is_scalar) a_range.read(0, std::min(kBlock, out.numel()), numbers[0].bytes);
  if (b_is_scalar) b_range.read(0, std::min(kBlock, out.numel()), numbers[1].bytes);
  for_each_block(out, kCheapGrain, [&](int64_t at, int64_t count) {
    Block mask, left, right;
    const auto fetch = [&](const StridedRange& range, Block& block) -> const void* {
      if (range.dense()) return range.at(at);
      range.read(at, count, block.bytes);
      return block.bytes;
    };
    simd().where(static_cast<const uint8_t*>(fetch(condition, mask)),
                 a_is_scalar ? numbers[0].bytes : fetch(a_range, left),
                 b_is_scalar ? numbers[1].bytes : fetch(b_range, right), address(out, at),
                 static_cast<size_t>(item), count);
  });
}

void CpuBackend::clamp(const OpCall& call) {
  const Tensor& out = call.out();
  const DType compute = compute_dtype(out.dtype);
  const Operand x(call.in(0), out, out.dtype);
  const bool has_min = call.flag(0);
  const bool has_max = call.flag(2);
  const Scalar low = make_scalar(call.attr(1), compute);
  const Scalar high = make_scalar(call.attr(3), compute);
  for_each_block(out, kCheapGrain, [&](int64_t at, int64_t count) {
    Block gathered, converted, result;
    const void* block = x.fetch(at, count, gathered, converted);
    void* to = target(out, at, compute, result);
    // maximum and minimum let NaN through, as clamp has to.
    if (has_min) simd().binary(BinaryOp::maximum, compute, block, false, &low, true, to, count);
    if (has_max) {
      simd().binary(BinaryOp::minimum, compute, has_min ? to : block, false, &high, true, to,
                    count);
    }
    store(out, at, count, compute, result);
  });
}

}  // namespace mixprec::cpu
