// Conversions between dtypes: every 16-bit pattern, float32 patterns near every tie, and a sample
// of all others, at every instruction set, against references in plain arithmetic.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

constexpr int64_t kPatterns = 65536;

// ---- References ----

double half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits >> 15) != 0 ? -magnitude : magnitude;
}
bool half_is_special(uint16_t bits) { return (bits & 0x7c00) == 0x7c00; }

uint32_t half_to_float_bits(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  if (!half_is_special(bits)) return float_bits(static_cast<float>(half_value(bits)));
  const uint32_t payload = bits & 0x3ffu;
  if (payload == 0) return sign | 0x7f800000u;
  return sign | 0x7fc00000u | (payload << 13);  // quiet, payload kept
}

uint16_t float_to_half_bits(uint32_t bits) {
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float value = float_from_bits(bits);
  if (std::isnan(value)) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
  }
  const double magnitude = std::abs(static_cast<double>(value));
  if (magnitude == 0) return sign;
  if (std::isinf(magnitude)) return sign | 0x7c00u;
  const int exponent = std::max(std::ilogb(magnitude), -14);
  // In units of the last place; nearbyint rounds ties to even.
  const double units = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
  const double result = std::ldexp(units, exponent - 10);
  if (result >= 65536.0) return sign | 0x7c00u;
  // The encodings of finite numbers go up with their values, one by one.
  const int field = units < 1024 ? 0 : std::ilogb(result) + 15;
  const double mantissa =
      field == 0 ? std::ldexp(result, 24) : std::ldexp(result, 10 - (field - 15)) - 1024;
  return static_cast<uint16_t>(sign | (field << 10) | static_cast<int>(mantissa));
}

uint16_t float_to_bfloat_bits(uint32_t bits) {
  if (std::isnan(float_from_bits(bits))) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  const uint32_t below = bits & 0xffff0000u;
  const uint32_t above = below + 0x10000u;
  if (bits == below) return static_cast<uint16_t>(below >> 16);
  const auto value = [](uint32_t pattern) {
    // Beyond the largest number comes 2^128.
    const bool infinite = (pattern & 0x7fffffffu) == 0x7f800000u;
    return infinite ? 0x1p128 : std::abs(static_cast<double>(float_from_bits(pattern)));
  };
  const double down = value(bits) - value(below);
  const double up = value(above) - value(bits);
  const bool even = (below & 0x10000u) == 0;
  return static_cast<uint16_t>((down < up || (down == up && even) ? below : above) >> 16);
}

// Converts through the kernel: all at once, and again one by one, which takes its other path.
template <class To, class From>
std::vector<To> converted(cpu::Isa level, const std::vector<From>& from, DType from_dtype,
                          DType to_dtype) {
  const auto& kernels = pointwise_kernels(level);
  const auto n = static_cast<int64_t>(from.size());
  std::vector<To> together(from.size());
  kernels.convert(from.data(), from_dtype, together.data(), to_dtype, n);
  std::vector<To> single(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    kernels.convert(&from[i], from_dtype, &single[i], to_dtype, 1);
  }
  EXPECT(n == 0 || std::memcmp(together.data(), single.data(), from.size() * sizeof(To)) == 0,
         std::string("blocks and single elements differ at ") + cpu::isa_name(level));
  return together;
}

template <class T>
std::string hex(T bits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%llx", static_cast<unsigned long long>(bits));
  return text;
}

template <class To, class From, class Reference>
void check_all(const std::vector<From>& from, DType from_dtype, DType to_dtype,
               const Reference& reference) {
  std::vector<To> expected(from.size());
  for (size_t i = 0; i < from.size(); ++i) expected[i] = reference(from[i]);
  for (const cpu::Isa level : isa_levels()) {
    const std::vector<To> got = converted<To>(level, from, from_dtype, to_dtype);
    for (size_t i = 0; i < from.size(); ++i) {
      EXPECT(got[i] == expected[i], std::string(cpu::isa_name(level)) + " of " + hex(from[i]) +
                                        " gives " + hex(got[i]) + ", expected " + hex(expected[i]));
    }
  }
}

std::vector<uint16_t> all_patterns() {
  std::vector<uint16_t> patterns(kPatterns);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  return patterns;
}

// ---- 16-bit floats and float32 ----

TEST("every half pattern widens exactly, NaN made quiet with its payload kept") {
  check_all<uint32_t>(all_patterns(), DType::kFloat16, DType::kFloat32, half_to_float_bits);
  for (const uint16_t bits : all_patterns()) {
    EXPECT_EQ(float_bits(to_float(Float16{bits})), half_to_float_bits(bits));
  }
}

TEST("every bfloat16 pattern widens exactly") {
  const auto reference = [](uint16_t bits) { return static_cast<uint32_t>(bits) << 16; };
  check_all<uint32_t>(all_patterns(), DType::kBFloat16, DType::kFloat32, reference);
  for (const uint16_t bits : all_patterns()) {
    EXPECT_EQ(float_bits(to_float(BFloat16{bits})), reference(bits));
  }
}

TEST("every 16-bit pattern survives the way to float32 and back, NaN made quiet") {
  std::vector<uint32_t> halves, bfloats;
  for (const uint16_t bits : all_patterns()) {
    halves.push_back(half_to_float_bits(bits));
    bfloats.push_back(static_cast<uint32_t>(bits) << 16);
  }
  for (const cpu::Isa level : isa_levels()) {
    const auto& kernels = pointwise_kernels(level);
    std::vector<uint16_t> back(kPatterns);
    kernels.convert(halves.data(), DType::kFloat32, back.data(), DType::kFloat16, kPatterns);
    for (const uint16_t bits : all_patterns()) {
      const bool nan = half_is_special(bits) && (bits & 0x3ff) != 0;
      EXPECT_EQ(back[bits], nan ? bits | 0x200 : bits);
    }
    kernels.convert(bfloats.data(), DType::kFloat32, back.data(), DType::kBFloat16, kPatterns);
    for (const uint16_t bits : all_patterns()) {
      const bool nan = std::isnan(float_from_bits(static_cast<uint32_t>(bits) << 16));
      EXPECT_EQ(back[bits], nan ? bits | 0x40 : bits);
    }
  }
}

// float32 patterns that matter for rounding to 16 bits, and a regular sample of all patterns.
std::vector<uint32_t> near_half_ties() {
  std::vector<uint32_t> patterns;
  for (int i = 0; i <= 0x7c00; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const double low = half_is_special(bits) ? 65536.0 : half_value(bits);
    const double high = i + 1 >= 0x7c00 ? 65536.0 : half_value(static_cast<uint16_t>(i + 1));
    for (const double value : {low, (low + high) / 2}) {
      const uint32_t own = float_bits(static_cast<float>(value));
      for (const uint32_t near : {own, own + 1, own == 0 ? 0u : own - 1}) {
        patterns.push_back(near);
        patterns.push_back(near | 0x80000000u);
      }
    }
  }
  return patterns;
}
std::vector<uint32_t> near_bfloat_ties() {
  std::vector<uint32_t> patterns;
  for (const uint16_t bits : all_patterns()) {
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      patterns.push_back((static_cast<uint32_t>(bits) << 16) | low);
    }
  }
  return patterns;
}
std::vector<uint32_t> sampled_patterns() {
  std::vector<uint32_t> patterns;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 2039) {
    patterns.push_back(static_cast<uint32_t>(bits));
  }
  return patterns;
}

void check_narrowing(const std::vector<uint32_t>& patterns) {
  check_all<uint16_t>(patterns, DType::kFloat32, DType::kFloat16, float_to_half_bits);
  check_all<uint16_t>(patterns, DType::kFloat32, DType::kBFloat16, float_to_bfloat_bits);
  for (const uint32_t bits : patterns) {
    const float value = float_from_bits(bits);
    EXPECT_EQ(to_float16(value).bits, float_to_half_bits(bits));
    EXPECT_EQ(to_bfloat16(value).bits, float_to_bfloat_bits(bits));
  }
}

TEST("float32 rounds to nearest, ties to even, at and beside every tie of half") {
  check_narrowing(near_half_ties());
}
TEST("float32 rounds to nearest, ties to even, at and beside every tie of bfloat16") {
  check_narrowing(near_bfloat_ties());
}
TEST("float32 patterns from the whole range round right") { check_narrowing(sampled_patterns()); }

TEST("the corners of half: overflow, underflow, subnormals, infinities and NaN") {
  const struct {
    uint32_t from;
    uint16_t half;
    uint16_t bfloat;
  } corners[] = {
      {0x477fe000, 0x7bff, 0x4780},  // 65504, the largest half
      {0x477fefff, 0x7bff, 0x4780},  // below 65520 rounds down
      {0x477ff000, 0x7c00, 0x4780},  // 65520 is the tie: to infinity
      {0x33000000, 0x0000, 0x3300},  // 2^-25, half of the least subnormal
      {0x33000001, 0x0001, 0x3300},  // just above it
      {0x33800000, 0x0001, 0x3380},  // 2^-24
      {0x387fc000, 0x03ff, 0x3880},  // the largest subnormal
      {0x387fe000, 0x0400, 0x3880},  // the tie above it
      {0x80000000, 0x8000, 0x8000},  // -0
      {0x80000001, 0x8000, 0x8000},  // the least float32, negative
      {0x7f7fffff, 0x7c00, 0x7f80},  // the largest float32
      {0xff800000, 0xfc00, 0xff80},  // -infinity
      {0x7f800001, 0x7e00, 0x7fc0},  // a signalling NaN, payload too low
      {0xffc12345, 0xfe09, 0xffc1},  // a quiet one, payload cut
      {0x7fa00000, 0x7f00, 0x7fe0},  // a signalling one, payload kept
  };
  for (const auto& corner : corners) {
    EXPECT_EQ(float_to_half_bits(corner.from), corner.half);
    EXPECT_EQ(float_to_bfloat_bits(corner.from), corner.bfloat);
    for (const cpu::Isa level : isa_levels()) {
      std::vector<uint32_t> from(40, corner.from);
      EXPECT_EQ(converted<uint16_t>(level, from, DType::kFloat32, DType::kFloat16)[35],
                corner.half);
      EXPECT_EQ(converted<uint16_t>(level, from, DType::kFloat32, DType::kBFloat16)[35],
                corner.bfloat);
    }
  }
}

TEST("TF32 keeps ten bits of the significand, to nearest, ties away from zero") {
  for (const uint32_t bits : sampled_patterns()) {
    const float value = float_from_bits(bits);
    const float got = round_to_tf32(value);
    if (!std::isfinite(value)) {
      EXPECT_EQ(float_bits(got), bits);
      continue;
    }
    const double magnitude = std::abs(static_cast<double>(value));
    const int exponent = magnitude == 0 ? -126 : std::max(std::ilogb(magnitude), -126);
    const double units = std::floor(std::ldexp(magnitude, 10 - exponent) + 0.5);
    const double expected = std::ldexp(units, exponent - 10);
    const double signed_expected = std::signbit(value) ? -expected : expected;
    EXPECT_EQ(got, static_cast<float>(signed_expected));
    EXPECT_EQ(std::signbit(got), std::signbit(value));
  }
}

// ---- Integers and bool ----

template <class Integer, class Float>
Integer truncated_reference(Float value) {
  // Bytes are cut out of the int32, and what int32 or int64 cannot hold is its least value.
  using Wide = std::conditional_t<sizeof(Integer) == 8, int64_t, int32_t>;
  const long double whole = std::trunc(static_cast<long double>(value));
  const bool holds = whole >= static_cast<long double>(std::numeric_limits<Wide>::min()) &&
                     whole <= static_cast<long double>(std::numeric_limits<Wide>::max());
  const Wide wide = holds ? static_cast<Wide>(whole) : std::numeric_limits<Wide>::min();
  return static_cast<Integer>(wide);
}

template <class Float>
std::vector<Float> float_samples() {
  std::vector<Float> values = {0,
                               Float(-0.0),
                               Float(0.5),
                               Float(-0.999),
                               Float(1.5),
                               Float(-2.5),
                               127,
                               128,
                               255,
                               256,
                               Float(-129),
                               Float(1e10),
                               Float(-1e10),
                               std::numeric_limits<Float>::quiet_NaN(),
                               std::numeric_limits<Float>::max(),
                               std::numeric_limits<Float>::min(),
                               std::numeric_limits<Float>::denorm_min()};
  const Float infinity = std::numeric_limits<Float>::infinity();
  for (const Float edge : {Float(0x1p31), Float(0x1p63), Float(0x1p32), infinity}) {
    for (const Float value : {edge, -edge}) {
      values.push_back(value);
      values.push_back(std::nextafter(value, infinity));
      values.push_back(std::nextafter(value, -infinity));
      values.push_back(value - Float(0.5));
      values.push_back(value - Float(1));
    }
  }
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    Float value;
    const uint64_t bits = random.wide();
    std::memcpy(&value, &bits, sizeof(value));
    values.push_back(value);
    values.push_back(static_cast<Float>(random.uniform(-1e6, 1e6)));
  }
  return values;
}

template <class From, class To, class Reference>
void check_numbers(const std::vector<From>& from, DType from_dtype, DType to_dtype,
                   const Reference& reference) {
  for (const cpu::Isa level : isa_levels()) {
    const std::vector<To> got = converted<To>(level, from, from_dtype, to_dtype);
    for (size_t i = 0; i < from.size(); ++i) {
      const To expected = reference(from[i]);
      EXPECT(std::memcmp(&got[i], &expected, sizeof(To)) == 0,
             std::string(dtype_name(from_dtype)) + " to " + dtype_name(to_dtype) + " of " +
                 shown(+from[i]) + " gives " + shown(+got[i]) + ", expected " + shown(+expected));
    }
  }
}

template <class Float>
void check_float_to_integers(DType dtype) {
  const std::vector<Float> values = float_samples<Float>();
  check_numbers<Float, int64_t>(values, dtype, DType::kInt64, truncated_reference<int64_t, Float>);
  check_numbers<Float, int32_t>(values, dtype, DType::kInt32, truncated_reference<int32_t, Float>);
  check_numbers<Float, int8_t>(values, dtype, DType::kInt8, truncated_reference<int8_t, Float>);
  check_numbers<Float, uint8_t>(values, dtype, DType::kUInt8, truncated_reference<uint8_t, Float>);
  // Anything but 0 is true, NaN and subnormals as well.
  check_numbers<Float, uint8_t>(values, dtype, DType::kBool,
                                [](Float value) { return static_cast<uint8_t>(value != 0); });
}

TEST("floats become integers by truncation, and bool by being other than 0") {
  check_float_to_integers<float>(DType::kFloat32);
  check_float_to_integers<double>(DType::kFloat64);
}

template <class Integer>
std::vector<Integer> integer_samples() {
  std::vector<Integer> values = {
      0, 1, 2, 127, std::numeric_limits<Integer>::max(), std::numeric_limits<Integer>::min()};
  Random random(2);
  for (int i = 0; i < 20000; ++i) {
    // Of every size, from few bits to all.
    values.push_back(static_cast<Integer>(static_cast<int64_t>(random.wide()) >> random.below(64)));
  }
  return values;
}

// The nearest number with `digits` significant bits, ties to even, by whole-number arithmetic.
double nearest_float(int64_t value, int digits) {
  const bool negative = value < 0;
  uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  int shift = 0;
  while (shift < 64 && (magnitude >> shift) >= (uint64_t{1} << digits)) ++shift;
  if (shift > 0) {
    const uint64_t half = uint64_t{1} << (shift - 1);
    const uint64_t rest = magnitude & ((uint64_t{1} << shift) - 1);
    magnitude >>= shift;
    if (rest > half || (rest == half && (magnitude & 1) != 0)) ++magnitude;
  }
  const double result = std::ldexp(static_cast<double>(magnitude), shift);
  return negative ? -result : result;
}

template <class Integer>
void check_from_integer(DType dtype) {
  const std::vector<Integer> values = integer_samples<Integer>();
  check_numbers<Integer, double>(values, dtype, DType::kFloat64, [](Integer value) {
    return nearest_float(static_cast<int64_t>(value), 53);
  });
  check_numbers<Integer, float>(values, dtype, DType::kFloat32, [](Integer value) {
    return static_cast<float>(nearest_float(static_cast<int64_t>(value), 24));
  });
  const auto narrowed = [](Integer value) {
    return float_bits(static_cast<float>(nearest_float(static_cast<int64_t>(value), 24)));
  };
  check_numbers<Integer, uint16_t>(values, dtype, DType::kFloat16, [&](Integer value) {
    return float_to_half_bits(narrowed(value));
  });
  check_numbers<Integer, uint16_t>(values, dtype, DType::kBFloat16, [&](Integer value) {
    return float_to_bfloat_bits(narrowed(value));
  });
  const auto cast_to = [&]<class To>(DType to_dtype, To) {
    check_numbers<Integer, To>(values, dtype, to_dtype,
                               [](Integer value) { return static_cast<To>(value); });
  };
  cast_to(DType::kInt64, int64_t{});
  cast_to(DType::kInt32, int32_t{});
  cast_to(DType::kInt8, int8_t{});
  cast_to(DType::kUInt8, uint8_t{});
  check_numbers<Integer, uint8_t>(values, dtype, DType::kBool,
                                  [](Integer value) { return static_cast<uint8_t>(value != 0); });
}

TEST("integers become floats by rounding to nearest, and narrower integers by wrapping") {
  check_from_integer<int64_t>(DType::kInt64);
  check_from_integer<int32_t>(DType::kInt32);
  check_from_integer<int8_t>(DType::kInt8);
  check_from_integer<uint8_t>(DType::kUInt8);
}

TEST("bool is 0 or 1 whatever its byte") {
  std::vector<uint8_t> bytes(300);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  const auto as = [&]<class To>(DType dtype, To one) {
    check_numbers<uint8_t, To>(bytes, DType::kBool, dtype,
                               [=](uint8_t byte) { return byte != 0 ? one : To{0}; });
  };
  as(DType::kFloat64, 1.0);
  as(DType::kFloat32, 1.0f);
  as(DType::kFloat16, uint16_t{0x3c00});
  as(DType::kBFloat16, uint16_t{0x3f80});
  as(DType::kInt64, int64_t{1});
  as(DType::kInt32, int32_t{1});
  as(DType::kInt8, int8_t{1});
  as(DType::kUInt8, uint8_t{1});
  as(DType::kBool, uint8_t{1});
}

TEST("float64 narrows to nearest, and to 16 bits by way of float32") {
  const std::vector<double> values = float_samples<double>();
  const auto narrow = [](double value) { return float_bits(static_cast<float>(value)); };
  // A float32 tie, and just above it.
  std::vector<double> numbers = {0x1.000001p0, 0x1.000001p0 + 0x1p-50};
  for (const double value : values) {
    if (!std::isnan(value)) numbers.push_back(value);
  }
  check_numbers<double, float>(numbers, DType::kFloat64, DType::kFloat32,
                               [](double value) { return static_cast<float>(value); });
  check_numbers<double, uint16_t>(numbers, DType::kFloat64, DType::kFloat16,
                                  [&](double value) { return float_to_half_bits(narrow(value)); });
  check_numbers<double, uint16_t>(numbers, DType::kFloat64, DType::kBFloat16, [&](double value) {
    return float_to_bfloat_bits(narrow(value));
  });
}

TEST("16-bit floats reach every other dtype as their float32 value does, and one another") {
  for (const DType from : {DType::kFloat16, DType::kBFloat16}) {
    for (const cpu::Isa level : isa_levels()) {
      const auto& kernels = pointwise_kernels(level);
      std::vector<float> wide(kPatterns);
      kernels.convert(all_patterns().data(), from, wide.data(), DType::kFloat32, kPatterns);
      for (const DType to : kAllDTypes) {
        if (to == from) continue;
        std::vector<char> direct(kPatterns * item_size(to)), by_way(direct.size());
        kernels.convert(all_patterns().data(), from, direct.data(), to, kPatterns);
        kernels.convert(wide.data(), DType::kFloat32, by_way.data(), to, kPatterns);
        EXPECT(direct == by_way, std::string(dtype_name(from)) + " to " + dtype_name(to));
      }
    }
  }
}

TEST("the cast op converts tensors of every layout") {
  Random random(3);
  for (const DType from : kAllDTypes) {
    for (const DType to : kAllDTypes) {
      const Shape shape = {3, 700, 2};
      Values values(static_cast<size_t>(count_of(shape)));
      for (double& value : values) value = rounded(static_cast<double>(random.below(120)), from);
      const Tensor x = make_tensor(from, shape, values);
      for (double& value : values) value = rounded(value, to);
      const std::string what = std::string(dtype_name(from)) + " to " + dtype_name(to);
      expect_values(run("cast", {x}, {}, to, shape), values, what);
      expect_values(run("cast", {scattered(x)}, {}, to, shape), values, what);
    }
  }
}

}  // namespace
