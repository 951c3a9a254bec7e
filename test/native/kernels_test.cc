// The element-wise kernels: every instruction set gives the same bits, and those are within a few
// units in the last place of long double arithmetic, from subnormals to overflow.
#include "core/pointwise_kinds.h"
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

using Wide = long double;

constexpr float kNanF = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfF = std::numeric_limits<float>::infinity();

// ---- References ----

Wide sigmoid_wide(Wide x) {
  const Wide e = std::exp(-std::abs(x));
  return (x < 0 ? e : Wide(1)) / (1 + e);
}
Wide normal_cdf_wide(Wide x) { return std::erfc(-x / std::sqrt(Wide(2))) / 2; }

Wide unary_reference(UnaryOp op, Wide x) {
  const Wide tanh_slope = std::sqrt(2 / std::acos(Wide(-1)));
  switch (op) {
    case UnaryOp::neg:
      return -x;
    case UnaryOp::abs:
      return std::abs(x);
    case UnaryOp::exp:
      return std::exp(x);
    case UnaryOp::log:
      return std::log(x);
    case UnaryOp::sqrt:
      return std::sqrt(x);
    case UnaryOp::rsqrt:
      return 1 / std::sqrt(x);
    case UnaryOp::reciprocal:
      return 1 / x;
    case UnaryOp::tanh:
      return std::tanh(x);
    case UnaryOp::sigmoid:
      return sigmoid_wide(x);
    case UnaryOp::relu:
      return x < 0 ? Wide(0) : x;
    case UnaryOp::gelu_erf:
      return x * normal_cdf_wide(x);
    case UnaryOp::gelu_tanh:
      return x * sigmoid_wide(2 * tanh_slope * (x + Wide(0.044715L) * x * x * x));
    case UnaryOp::silu:
      return x * sigmoid_wide(x);
    case UnaryOp::erf:
      return std::erf(x);
    case UnaryOp::sin:
      return std::sin(x);
    case UnaryOp::cos:
      return std::cos(x);
    case UnaryOp::sign:
      return x > 0 ? 1 : (x < 0 ? -1 : 0);
    case UnaryOp::floor:
      return std::floor(x);
    case UnaryOp::log1p:
      return std::log1p(x);
    case UnaryOp::expm1:
      break;
  }
  return std::expm1(x);
}

Wide unary_grad_reference(UnaryGradOp op, Wide g, Wide saved) {
  const Wide pi = std::acos(Wide(-1));
  switch (op) {
    case UnaryGradOp::gelu_erf:
      return g *
             (normal_cdf_wide(saved) + saved * std::exp(-saved * saved / 2) / std::sqrt(2 * pi));
    case UnaryGradOp::gelu_tanh: {
      const Wide c = 2 * std::sqrt(2 / pi);
      const Wide s = sigmoid_wide(c * (saved + Wide(0.044715L) * saved * saved * saved));
      return g * (s + saved * s * (1 - s) * c * (1 + 3 * Wide(0.044715L) * saved * saved));
    }
    case UnaryGradOp::silu: {
      const Wide s = sigmoid_wide(saved);
      return g * s * (1 + saved * (1 - s));
    }
    case UnaryGradOp::tanh:
      return g * (1 - saved * saved);
    case UnaryGradOp::sigmoid:
      return g * (1 - saved) * saved;
    case UnaryGradOp::relu:
      break;
  }
  return saved <= 0 ? Wide(0) : g;
}

// The distance between a result and the exact value in units of the last place, of the exact value
// or of `scale` where that is larger; infinite results count as the number after the largest.
template <class T>
double units_off(T got, Wide exact, Wide scale) {
  constexpr int kDigits = std::numeric_limits<T>::digits;
  constexpr int kMinExponent = std::numeric_limits<T>::min_exponent - 1;
  if (std::isnan(got) || std::isnan(exact)) {
    return std::isnan(got) && std::isnan(exact) ? 0 : HUGE_VAL;
  }
  const Wide limit = std::ldexp(Wide(1), std::numeric_limits<T>::max_exponent);
  const Wide wanted = std::clamp(exact, -limit, limit);
  const Wide value = std::clamp(static_cast<Wide>(got), -limit, limit);
  const Wide size = std::max(std::abs(wanted), scale);
  const int exponent = size == 0 ? kMinExponent : std::max(std::ilogb(size), kMinExponent);
  const int last_place = std::min(exponent, std::numeric_limits<T>::max_exponent - 1) - kDigits + 1;
  return static_cast<double>(std::abs(value - wanted) / std::ldexp(Wide(1), last_place));
}

// ---- Inputs ----

std::vector<float> special_floats() {
  std::vector<float> values;
  for (const float magnitude : {0.0f,
                                1.0f,
                                0.5f,
                                2.0f,
                                3.0f,
                                0.625f,
                                0.9277f,
                                1.3118f,
                                10.0f,
                                60.0f,
                                87.336f,
                                88.722835f,
                                88.72284f,
                                89.0f,
                                103.97208f,
                                103.97209f,
                                104.0f,
                                1e-3f,
                                1e-7f,
                                0x1p-24f,
                                0x1p-126f,
                                0x1p-149f,
                                0x1.fffffep127f,
                                16777216.0f,
                                2147483648.0f,
                                kInfF,
                                kNanF}) {
    values.push_back(magnitude);
    values.push_back(-magnitude);
    values.push_back(std::nextafter(magnitude, kInfF));
    values.push_back(-std::nextafter(magnitude, kInfF));
  }
  return values;
}

// Every `step`-th of all float32 patterns, the range in which functions are interesting more
// densely, and the special values.
std::vector<float> float_inputs(uint64_t step) {
  std::vector<float> values = special_floats();
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += step) {
    values.push_back(float_from_bits(static_cast<uint32_t>(bits)));
  }
  Random random(1);
  for (int i = 0; i < 30000; ++i) {
    values.push_back(static_cast<float>(random.uniform(-12, 12)));
    values.push_back(static_cast<float>(random.uniform(-1, 1)));
    if (i % 4 == 0) values.push_back(static_cast<float>(random.uniform(-110, 110)));
  }
  return values;
}

template <class T>
constexpr DType kDTypeOf = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;

template <class To, class From>
std::vector<To> as(const std::vector<From>& values) {
  return std::vector<To>(values.begin(), values.end());
}

// Whether two results are the same: NaN is NaN, whatever its payload, and 0 is not -0.
template <class T>
bool same_result(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  }
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
template <class T>
void expect_same(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  size_t i = 0;
  while (i < a.size() && i < b.size() && same_result(a[i], b[i])) ++i;
  EXPECT(i == a.size() && i == b.size(),
         what + " [" + shown(i) + "]: " + shown(+a[i]) + ", expected " + shown(+b[i]));
}

std::string label(const char* op, DType dtype, cpu::Isa level) {
  return std::string(op) + " " + dtype_name(dtype) + " " + cpu::isa_name(level);
}

// ---- Functions of one operand ----

// How far a function may be off, in units in the last place of the exact value, or of `scale` where
// that is larger.
struct Bound {
  double units;
  Wide scale;
};

template <class T>
Bound unary_bound(UnaryOp op) {
  constexpr bool kWide = sizeof(T) == 8;
  // Factors that are subnormal have fewer digits than the product of them.
  const Wide subnormal_factor = std::ldexp(Wide(1), kWide ? -1000 : -120);
  switch (op) {
    case UnaryOp::exp:
    case UnaryOp::log:
      return {1, 0};
    case UnaryOp::rsqrt:
    case UnaryOp::log1p:
    case UnaryOp::expm1:
    case UnaryOp::erf:
      return {1.5, 0};
    case UnaryOp::tanh:
      return {2.5, 0};
    case UnaryOp::sigmoid:
      return {2.5, 0};
    case UnaryOp::silu:
      return {3, subnormal_factor};
    case UnaryOp::gelu_erf:
      // libm's erfc gets an argument that was rounded, which costs x^2 units far out.
      return {kWide ? 16.0 : 8.0, kWide ? std::ldexp(Wide(1), -8) : subnormal_factor};
    case UnaryOp::gelu_tanh:
      // So does the rounding of the argument of exp.
      return {16, std::ldexp(Wide(1), -8)};
    case UnaryOp::sin:
    case UnaryOp::cos:
      return {0.6, 0};
    default:
      return {0.5, 0};  // rounded right
  }
}

// The result that is furthest off.
template <class T>
struct Worst {
  double off = 0;
  std::string text = "none";

  void take(T x, T got, Wide exact, Wide scale) {
    const double own = units_off(got, exact, scale);
    if (own <= off) return;
    off = own;
    text = shown(got) + " at " + shown(x) + ", expected " + shown(exact) + ": off by " + shown(own);
  }
};

template <class T>
void check_unary_accuracy(const std::vector<T>& x) {
  std::vector<T> y(x.size());
  for (int32_t kind = 0; kind < kUnaryCount; ++kind) {
    const auto op = static_cast<UnaryOp>(kind);
    const std::string name = kUnaryNames[kind];
    const Bound bound = unary_bound<T>(op);
    cpu::simd().unary(op, kDTypeOf<T>, x.data(), y.data(), static_cast<int64_t>(x.size()));
    Worst<T> worst;
    for (size_t i = 0; i < x.size(); ++i) {
      const bool product =
          op == UnaryOp::gelu_erf || op == UnaryOp::gelu_tanh || op == UnaryOp::silu;
      if (product && std::isinf(x[i]) && x[i] < 0) {
        EXPECT(std::isnan(y[i]), name);  // infinity times 0, as in torch
        continue;
      }
      const Wide exact = unary_reference(op, static_cast<Wide>(x[i]));
      worst.take(x[i], y[i], exact, bound.scale);
      const bool zeros = exact == 0 && y[i] == 0 && op != UnaryOp::sign && op != UnaryOp::relu;
      if (zeros) EXPECT(std::signbit(y[i]) == std::signbit(exact), name + " at " + shown(x[i]));
    }
    EXPECT(worst.off <= bound.units, name + " " + dtype_name(kDTypeOf<T>) + ": " + worst.text);
  }
}

TEST("float32 functions of one operand are within their bounds over the whole range") {
  check_unary_accuracy(float_inputs(32749));
}
TEST("float64 functions of one operand are within their bounds") {
  check_unary_accuracy(as<double>(float_inputs(65521)));
  check_unary_accuracy<double>({0x1p-1074, -0x1p-1022, 0x1p1023, -0x1.fffffffffffffp1023, 709.78,
                                -745.2, 710, 1e-300, 0x1.0000000000001p0});
}

// The vector path at every level, and the rest of a row of every length.
template <class T>
void check_unary_levels(const std::vector<T>& x) {
  for (int32_t kind = 0; kind < kUnaryCount; ++kind) {
    const auto op = static_cast<UnaryOp>(kind);
    std::vector<T> reference(x.size());
    pointwise_kernels(cpu::Isa::kPortable)
        .unary(op, kDTypeOf<T>, x.data(), reference.data(), static_cast<int64_t>(x.size()));
    for (const cpu::Isa level : isa_levels()) {
      std::vector<T> y = x;  // in place
      pointwise_kernels(level).unary(op, kDTypeOf<T>, y.data(), y.data(),
                                     static_cast<int64_t>(y.size()));
      expect_same(y, reference, label(kUnaryNames[kind], kDTypeOf<T>, level));
      for (size_t n = 0; n < 70; ++n) {
        std::vector<T> part(n + 1, T(-77));
        pointwise_kernels(level).unary(op, kDTypeOf<T>, x.data() + 3, part.data(),
                                       static_cast<int64_t>(n));
        EXPECT(part[n] == T(-77), "wrote past the end");
        for (size_t i = 0; i < n; ++i) {
          EXPECT(same_result(part[i], reference[i + 3]),
                 label(kUnaryNames[kind], kDTypeOf<T>, level));
        }
      }
    }
  }
}

TEST("functions of one operand give the same bits at every instruction set") {
  check_unary_levels(float_inputs(32749));
  check_unary_levels(as<double>(float_inputs(1048573)));
}

TEST("functions of integers wrap around") {
  const std::vector<int64_t> x = {
      0, 1, -1, 5, -7, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  const struct {
    UnaryOp op;
    std::vector<int64_t> y;
  } rows[] = {
      {UnaryOp::neg, {0, -1, 1, -5, 7, -x[5], x[6]}},
      {UnaryOp::abs, {0, 1, 1, 5, 7, x[5], x[6]}},
      {UnaryOp::relu, {0, 1, 0, 5, 0, x[5], 0}},
      {UnaryOp::sign, {0, 1, -1, 1, -1, 1, -1}},
      {UnaryOp::floor, x},
  };
  for (const auto& row : rows) {
    for (const cpu::Isa level : isa_levels()) {
      std::vector<int64_t> y(x.size());
      pointwise_kernels(level).unary(row.op, DType::kInt64, x.data(), y.data(), 7);
      expect_same(y, row.y, kUnaryNames[static_cast<int>(row.op)]);
    }
  }
}

// ---- Gradients of functions of one operand ----

// The size of the terms of a gradient for gradOutput 1: where they cancel, their errors stay.
Wide terms_size(UnaryGradOp op, Wide saved) {
  const Wide size = std::abs(saved);
  if (op == UnaryGradOp::relu) return 0;
  if (op == UnaryGradOp::gelu_tanh)
    return std::max(Wide(1) / 8, std::pow(std::min(size, Wide(8)), 3) / 8);
  return std::max(Wide(1) / 8, size / 4);
}

template <class T>
void check_unary_grads(const std::vector<T>& inputs) {
  std::vector<T> saved, g;
  Random random(2);
  for (const T x : inputs) {
    if (!(std::abs(x) < T(100))) continue;
    saved.push_back(x);
    g.push_back(static_cast<T>(random.uniform(-4, 4)));
  }
  const auto n = static_cast<int64_t>(saved.size());
  for (int32_t kind = 0; kind < kUnaryGradCount; ++kind) {
    const auto op = static_cast<UnaryGradOp>(kind);
    std::vector<T> reference(saved.size());
    pointwise_kernels(cpu::Isa::kPortable)
        .unary_grad(op, kDTypeOf<T>, g.data(), saved.data(), reference.data(), n);
    Worst<T> worst;
    for (size_t i = 0; i < saved.size(); ++i) {
      const Wide exact = unary_grad_reference(op, g[i], saved[i]);
      worst.take(saved[i], reference[i], exact,
                 std::abs(static_cast<Wide>(g[i])) * terms_size(op, saved[i]));
    }
    EXPECT(worst.off <= 12, std::string(kUnaryGradNames[kind]) + "_grad " +
                                dtype_name(kDTypeOf<T>) + ": " + worst.text);
    for (const cpu::Isa level : isa_levels()) {
      std::vector<T> y = g;  // in place of the gradient
      pointwise_kernels(level).unary_grad(op, kDTypeOf<T>, y.data(), saved.data(), y.data(), n);
      expect_same(y, reference, label(kUnaryGradNames[kind], kDTypeOf<T>, level));
    }
  }
}

TEST("gradients are within their bounds, the same bits at every instruction set") {
  check_unary_grads(float_inputs(65521));
  check_unary_grads(as<double>(float_inputs(1048573)));
}

TEST("gradients at infinity are the limits, and NaN stays NaN") {
  const std::vector<float> saved = {kInfF, 1e30f, -1e30f, kNanF};
  const std::vector<float> ones(4, 1.0f);
  for (const UnaryGradOp op : {UnaryGradOp::gelu_tanh, UnaryGradOp::silu, UnaryGradOp::gelu_erf}) {
    std::vector<float> y(4);
    cpu::simd().unary_grad(op, DType::kFloat32, ones.data(), saved.data(), y.data(), 4);
    EXPECT(y[1] == 1 && std::abs(y[2]) == 0, kUnaryGradNames[static_cast<int>(op)]);
    EXPECT(std::isnan(y[3]), kUnaryGradNames[static_cast<int>(op)]);
  }
}

// ---- Functions of two operands ----

template <class T>
T binary_reference(BinaryOp op, T a, T b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
    case BinaryOp::maximum:
      return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN() : (a > b ? a : b);
    case BinaryOp::minimum:
      return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN() : (a < b ? a : b);
    case BinaryOp::pow:
      break;
  }
  return std::pow(a, b);
}

bool compare_reference(CompareOp op, Wide a, Wide b) {
  switch (op) {
    case CompareOp::eq:
      return a == b;
    case CompareOp::ne:
      return a != b;
    case CompareOp::lt:
      return a < b;
    case CompareOp::le:
      return a <= b;
    case CompareOp::gt:
      return a > b;
    case CompareOp::ge:
      break;
  }
  return a >= b;
}

// Pairs of all special values, and of random ones of every size.
template <class T>
void operand_pairs(std::vector<T>& a, std::vector<T>& b) {
  for (const float x : special_floats()) {
    for (const float y : special_floats()) {
      a.push_back(x);
      b.push_back(y);
    }
  }
  Random random(3);
  for (int i = 0; i < 15000; ++i) {
    a.push_back(float_from_bits(random.word()));
    b.push_back(i % 3 == 0 ? float_from_bits(random.word())
                           : static_cast<float>(random.uniform(-9, 9)));
  }
}

// Which operands are a single number.
struct Scalars {
  bool lhs;
  bool rhs;
};
constexpr Scalars kScalars[] = {{false, false}, {true, false}, {false, true}, {true, true}};

template <class T>
void check_binary_floats() {
  std::vector<T> a, b;
  operand_pairs(a, b);
  const auto n = static_cast<int64_t>(a.size());
  for (int32_t kind = 0; kind < kBinaryCount; ++kind) {
    const auto op = static_cast<BinaryOp>(kind);
    for (const Scalars scalars : kScalars) {
      for (const size_t first : {size_t{0}, size_t{40}, a.size() - 5}) {
        std::vector<T> expected(a.size());
        for (size_t i = 0; i < a.size(); ++i) {
          expected[i] =
              binary_reference(op, a[scalars.lhs ? first : i], b[scalars.rhs ? first : i]);
        }
        for (const cpu::Isa level : isa_levels()) {
          std::vector<T> out(a.size());
          pointwise_kernels(level).binary(op, kDTypeOf<T>, scalars.lhs ? &a[first] : a.data(),
                                          scalars.lhs, scalars.rhs ? &b[first] : b.data(),
                                          scalars.rhs, out.data(), n);
          expect_same(out, expected, label(kBinaryNames[kind], kDTypeOf<T>, level));
        }
      }
    }
    // In place of either operand.
    std::vector<T> expected(a.size()), left = a, right = b;
    for (size_t i = 0; i < a.size(); ++i) expected[i] = binary_reference(op, a[i], b[i]);
    cpu::simd().binary(op, kDTypeOf<T>, left.data(), false, b.data(), false, left.data(), n);
    cpu::simd().binary(op, kDTypeOf<T>, a.data(), false, right.data(), false, right.data(), n);
    expect_same(left, expected, kBinaryNames[kind]);
    expect_same(right, expected, kBinaryNames[kind]);
  }
}

TEST("functions of two floats are those of IEEE arithmetic and libm at every instruction set") {
  check_binary_floats<float>();
  check_binary_floats<double>();
}

TEST("16-bit floats are computed in float32 and rounded once") {
  std::vector<float> a, b;
  operand_pairs(a, b);
  const auto n = static_cast<int64_t>(a.size());
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    std::vector<uint16_t> left(a.size()), right(a.size());
    cpu::simd().convert(a.data(), DType::kFloat32, left.data(), dtype, n);
    cpu::simd().convert(b.data(), DType::kFloat32, right.data(), dtype, n);
    for (int32_t kind = 0; kind < kBinaryCount; ++kind) {
      const auto op = static_cast<BinaryOp>(kind);
      for (const Scalars scalars : kScalars) {
        std::vector<float> expected(a.size());
        for (size_t i = 0; i < a.size(); ++i) {
          const auto x = static_cast<float>(element_value(&left[scalars.lhs ? 7 : i], dtype));
          const auto y = static_cast<float>(element_value(&right[scalars.rhs ? 7 : i], dtype));
          expected[i] = static_cast<float>(rounded(binary_reference(op, x, y), dtype));
        }
        for (const cpu::Isa level : isa_levels()) {
          std::vector<uint16_t> out(a.size());
          pointwise_kernels(level).binary(op, dtype, scalars.lhs ? &left[7] : left.data(),
                                          scalars.lhs, scalars.rhs ? &right[7] : right.data(),
                                          scalars.rhs, out.data(), n);
          std::vector<float> wide(a.size());
          for (size_t i = 0; i < a.size(); ++i) {
            wide[i] = static_cast<float>(element_value(&out[i], dtype));
          }
          expect_same(wide, expected, label(kBinaryNames[kind], dtype, level));
        }
      }
    }
  }
}

int64_t wrapped_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : (base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0);
  uint64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) result *= static_cast<uint64_t>(base);
  return static_cast<int64_t>(result);
}

int64_t integer_reference(BinaryOp op, int64_t a, int64_t b) {
  const auto wrap = [](__int128 value) { return static_cast<int64_t>(value); };
  switch (op) {
    case BinaryOp::add:
      return wrap(static_cast<__int128>(a) + b);
    case BinaryOp::sub:
      return wrap(static_cast<__int128>(a) - b);
    case BinaryOp::mul:
      return wrap(static_cast<__int128>(a) * b);
    case BinaryOp::div:
      return b == 0 ? 0 : wrap(static_cast<__int128>(a) / b);
    case BinaryOp::maximum:
      return std::max(a, b);
    case BinaryOp::minimum:
      return std::min(a, b);
    case BinaryOp::pow:
      break;
  }
  return wrapped_power(a, b);
}

template <class T>
void check_binary_integers(DType dtype) {
  const int64_t least = std::numeric_limits<T>::min();
  const int64_t most = std::numeric_limits<T>::max();
  std::vector<T> a, b;
  Random random(4);
  for (const int64_t x : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{3}, least, most}) {
    for (const int64_t y : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{2}, int64_t{100}}) {
      a.push_back(static_cast<T>(x));
      b.push_back(static_cast<T>(y));
    }
  }
  for (int i = 0; i < 3000; ++i) {
    a.push_back(static_cast<T>(random.wide()));
    b.push_back(static_cast<T>(random.below(200) - (least < 0 ? 100 : 0)));
  }
  for (int32_t kind = 0; kind < kBinaryCount; ++kind) {
    const auto op = static_cast<BinaryOp>(kind);
    for (const Scalars scalars : kScalars) {
      std::vector<T> expected(a.size());
      for (size_t i = 0; i < a.size(); ++i) {
        expected[i] =
            static_cast<T>(integer_reference(op, a[scalars.lhs ? 33 : i], b[scalars.rhs ? 33 : i]));
      }
      for (const cpu::Isa level : isa_levels()) {
        std::vector<T> out(a.size());
        pointwise_kernels(level).binary(op, dtype, scalars.lhs ? &a[33] : a.data(), scalars.lhs,
                                        scalars.rhs ? &b[33] : b.data(), scalars.rhs, out.data(),
                                        static_cast<int64_t>(a.size()));
        expect_same(out, expected, label(kBinaryNames[kind], dtype, level));
      }
    }
  }
}

TEST("integers wrap around in their own width, and x / 0 is 0") {
  check_binary_integers<int64_t>(DType::kInt64);
  check_binary_integers<int32_t>(DType::kInt32);
  check_binary_integers<int8_t>(DType::kInt8);
  check_binary_integers<uint8_t>(DType::kUInt8);
}

template <class T>
void check_compare(DType dtype, const std::vector<T>& a, const std::vector<T>& b) {
  for (int32_t kind = 0; kind < kCompareCount; ++kind) {
    const auto op = static_cast<CompareOp>(kind);
    for (const Scalars scalars : kScalars) {
      std::vector<uint8_t> expected(a.size());
      for (size_t i = 0; i < a.size(); ++i) {
        expected[i] = compare_reference(op, a[scalars.lhs ? 5 : i], b[scalars.rhs ? 5 : i]);
      }
      for (const cpu::Isa level : isa_levels()) {
        std::vector<uint8_t> out(a.size(), 9);
        pointwise_kernels(level).compare(op, dtype, scalars.lhs ? &a[5] : a.data(), scalars.lhs,
                                         scalars.rhs ? &b[5] : b.data(), scalars.rhs, out.data(),
                                         static_cast<int64_t>(a.size()));
        expect_same(out, expected, label(kCompareNames[kind], dtype, level));
      }
    }
  }
}

TEST("relations are those of IEEE arithmetic, with NaN unequal to all") {
  std::vector<float> a, b;
  operand_pairs(a, b);
  check_compare(DType::kFloat32, a, b);
  check_compare(DType::kFloat64, as<double>(a), as<double>(b));
  std::vector<int64_t> x, y;
  Random random(5);
  for (int i = 0; i < 5000; ++i) {
    x.push_back(static_cast<int64_t>(random.wide()) >> random.below(64));
    y.push_back(i % 3 == 0 ? x.back() : x.back() + random.below(3) - 1);
  }
  check_compare(DType::kInt64, x, y);
}

// ---- Selection ----

template <class T>
void check_where() {
  Random random(6);
  for (const size_t n : {0, 1, 7, 64, 1000}) {
    std::vector<uint8_t> mask(n + 1);
    std::vector<T> a(n + 1), b(n + 1);
    for (size_t i = 0; i < n; ++i) {
      mask[i] = static_cast<uint8_t>(random.below(3));
      a[i] = static_cast<T>(random.wide());
      b[i] = static_cast<T>(random.wide());
    }
    for (const cpu::Isa level : isa_levels()) {
      std::vector<T> out(n + 1, T{42});
      pointwise_kernels(level).where(mask.data(), a.data(), b.data(), out.data(), sizeof(T),
                                     static_cast<int64_t>(n));
      EXPECT(out[n] == T{42}, "wrote past the end");
      for (size_t i = 0; i < n; ++i) EXPECT_EQ(+out[i], +(mask[i] != 0 ? a[i] : b[i]));
    }
  }
}

TEST("where picks elements of every size") {
  check_where<uint8_t>();
  check_where<uint16_t>();
  check_where<uint32_t>();
  check_where<uint64_t>();
}

TEST("a dropout mask zeroes what it drops, NaN and infinity too, and scales the rest") {
  Random random(7);
  for (const DType dtype : kFloats) {
    const Tensor x = random_tensor(dtype, {1500}, random, -100, 100);
    set_element(element_at(x, 3), dtype, std::nan(""));
    set_element(element_at(x, 4), dtype, HUGE_VAL);
    std::vector<uint8_t> kept(1500);
    for (size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<uint8_t>(random.below(2));
    kept[3] = kept[4] = 0;
    const double scale = 1 / (1 - 0.3);
    Values expected = values_of(x);
    for (size_t i = 0; i < kept.size(); ++i) {
      const double product =
          dtype == DType::kFloat64
              ? expected[i] * scale
              : static_cast<double>(static_cast<float>(expected[i]) * static_cast<float>(scale));
      expected[i] = kept[i] != 0 ? rounded(product, dtype) : 0;
    }
    for (const cpu::Isa level : isa_levels()) {
      const Tensor y = filled_tensor(dtype, {1500}, 1500);
      pointwise_kernels(level).apply_mask(dtype, x.data, kept.data(), scale, y.data, 1500);
      expect_values(y, expected, label("apply_mask", dtype, level));
    }
  }
}

}  // namespace
