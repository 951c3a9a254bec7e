// What the native tests share: test cases, expectations, tensors of any dtype and layout, and calls
// of ops by name. Included by one source per executable, whose main() it defines: exit code 0 is a
// pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/philox.h"
#include "cpu/cpu_backend.h"
#include "cpu/isa.h"
#include "cpu/simd/kernels.h"
#include "cpu/simd/rows.h"
#include "cpu/thread_pool.h"

namespace mixprec::testing {

// ---- Cases and expectations ----

struct Case {
  const char* name;
  void (*body)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}
struct Registration {
  Registration(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

inline int64_t failures = 0;
inline int64_t expectations = 0;

inline void report_failure(const char* file, int line, const std::string& what) {
  constexpr int64_t kShown = 40;
  if (++failures <= kShown) std::printf("%s:%d: %s\n", file, line, what.c_str());
}

template <class T>
std::string shown(const T& value) {
  std::ostringstream text;
  text.precision(17);
  text << value;
  return text.str();
}

#define MIXPREC_TEST_JOIN_EXPANDED(a, b) a##b
#define MIXPREC_TEST_JOIN(a, b) MIXPREC_TEST_JOIN_EXPANDED(a, b)
#define TEST(name)                                                                          \
  static void MIXPREC_TEST_JOIN(test_case_, __LINE__)();                                    \
  static const ::mixprec::testing::Registration MIXPREC_TEST_JOIN(registration_, __LINE__)( \
      name, MIXPREC_TEST_JOIN(test_case_, __LINE__));                                       \
  static void MIXPREC_TEST_JOIN(test_case_, __LINE__)()

// `what`: a string with the particulars, made only on failure.
#define EXPECT(condition, what)                                                    \
  do {                                                                             \
    ++::mixprec::testing::expectations;                                            \
    if (!(condition)) {                                                            \
      ::mixprec::testing::report_failure(__FILE__, __LINE__,                       \
                                         std::string(#condition) + ": " + (what)); \
    }                                                                              \
  } while (false)

#define EXPECT_EQ(actual, expected)                                                            \
  do {                                                                                         \
    ++::mixprec::testing::expectations;                                                        \
    const auto got_ = (actual);                                                                \
    const auto wanted_ = (expected);                                                           \
    if (!(got_ == wanted_)) {                                                                  \
      ::mixprec::testing::report_failure(__FILE__, __LINE__,                                   \
                                         std::string(#actual) + " is " +                       \
                                             ::mixprec::testing::shown(got_) + ", expected " + \
                                             ::mixprec::testing::shown(wanted_));              \
    }                                                                                          \
  } while (false)

// That `statement` throws a mixprec::Error of this code whose message contains `text`.
#define EXPECT_ERROR(expected_code, text, statement)                                         \
  do {                                                                                       \
    ++::mixprec::testing::expectations;                                                      \
    try {                                                                                    \
      statement;                                                                             \
      ::mixprec::testing::report_failure(__FILE__, __LINE__, #statement " threw nothing");   \
    } catch (const ::mixprec::Error& error_) {                                               \
      const std::string message_ = error_.what();                                            \
      if (error_.code() != (expected_code) || message_.find(text) == std::string::npos) {    \
        ::mixprec::testing::report_failure(__FILE__, __LINE__,                               \
                                           #statement " threw " +                            \
                                               std::string(error_code_name(error_.code())) + \
                                               " \"" + message_ + "\"");                     \
      }                                                                                      \
    }                                                                                        \
  } while (false)

// ---- Random numbers, the same in every run ----

class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  uint32_t word() { return philox_word(seed_, 0, at_++); }
  uint64_t wide() { return (static_cast<uint64_t>(word()) << 32) | word(); }
  double uniform(double low, double high) { return low + (high - low) * (word() * 0x1p-32); }
  int64_t below(int64_t bound) {
    return static_cast<int64_t>(wide() % static_cast<uint64_t>(bound));
  }

 private:
  uint64_t seed_;
  uint64_t at_ = 0;
};

// ---- Tensors ----

using Shape = std::vector<int64_t>;
using Values = std::vector<double>;

inline const std::vector<DType> kFloats = {DType::kFloat64, DType::kFloat32, DType::kFloat16,
                                           DType::kBFloat16};
inline const std::vector<DType> kAllDTypes = {DType::kFloat64,  DType::kFloat32, DType::kFloat16,
                                              DType::kBFloat16, DType::kInt64,   DType::kInt32,
                                              DType::kInt8,     DType::kUInt8,   DType::kBool};

inline int64_t count_of(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

template <class T>
T load_as(const void* data) {
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}
template <class T>
void store_as(void* data, T value) {
  std::memcpy(data, &value, sizeof(T));
}

inline double element_value(const void* data, DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return load_as<double>(data);
    case DType::kFloat32:
      return load_as<float>(data);
    case DType::kFloat16:
      return to_float(load_as<Float16>(data));
    case DType::kBFloat16:
      return to_float(load_as<BFloat16>(data));
    case DType::kInt64:
      return static_cast<double>(load_as<int64_t>(data));
    case DType::kInt32:
      return load_as<int32_t>(data);
    case DType::kInt8:
      return load_as<int8_t>(data);
    case DType::kUInt8:
    case DType::kBool:
      break;
  }
  return load_as<uint8_t>(data);
}

inline void set_element(void* data, DType dtype, double value) {
  switch (dtype) {
    case DType::kFloat64:
      return store_as(data, value);
    case DType::kFloat32:
      return store_as(data, static_cast<float>(value));
    case DType::kFloat16:
      return store_as(data, to_float16(static_cast<float>(value)));
    case DType::kBFloat16:
      return store_as(data, to_bfloat16(static_cast<float>(value)));
    case DType::kInt64:
      return store_as(data, static_cast<int64_t>(value));
    case DType::kInt32:
      return store_as(data, static_cast<int32_t>(value));
    case DType::kInt8:
      return store_as(data, static_cast<int8_t>(value));
    case DType::kUInt8:
      return store_as(data, static_cast<uint8_t>(value));
    case DType::kBool:
      break;
  }
  store_as(data, static_cast<uint8_t>(value != 0));
}

// What a value becomes when it is stored as `dtype`.
inline double rounded(double value, DType dtype) {
  char element[8];
  set_element(element, dtype, value);
  return element_value(element, dtype);
}

// Address of the element at row-major position `index`.
inline char* element_at(const Tensor& tensor, int64_t index) {
  int64_t offset = 0;
  for (int32_t dim = tensor.rank - 1; dim >= 0; --dim) {
    offset += index % tensor.shape[dim] * tensor.strides[dim];
    index /= tensor.shape[dim];
  }
  return tensor.as<char>() + offset * static_cast<int64_t>(item_size(tensor.dtype));
}

// A tensor over a storage of `elements` elements, all bits set: NaN, or -1.
inline Tensor filled_tensor(DType dtype, const Shape& shape, int64_t elements) {
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.rank = static_cast<int32_t>(shape.size());
  int64_t stride = 1;
  for (int32_t dim = tensor.rank - 1; dim >= 0; --dim) {
    tensor.shape[dim] = shape[static_cast<size_t>(dim)];
    tensor.strides[dim] = stride;
    stride *= tensor.shape[dim];
  }
  const size_t bytes = static_cast<size_t>(elements) * item_size(dtype);
  Backend& backend = cpu::backend();
  tensor.storage = StorageRef(new Storage(&backend, backend.allocate(bytes), bytes));
  tensor.data = tensor.storage->data();
  if (bytes > 0) std::memset(tensor.data, 0xff, bytes);
  return tensor;
}

inline Tensor make_tensor(DType dtype, const Shape& shape, const Values& values) {
  Tensor tensor = filled_tensor(dtype, shape, count_of(shape));
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    set_element(element_at(tensor, i), dtype, values[static_cast<size_t>(i)]);
  }
  return tensor;
}

inline Tensor random_tensor(DType dtype, const Shape& shape, Random& random, double low = -2,
                            double high = 2) {
  Values values(static_cast<size_t>(count_of(shape)));
  for (double& value : values) value = random.uniform(low, high);
  return make_tensor(dtype, shape, values);
}

inline Shape shape_of(const Tensor& tensor) {
  return Shape(tensor.shape, tensor.shape + tensor.rank);
}

// The same elements with gaps between them and the dimensions in the opposite order in memory.
inline Tensor scattered(const Tensor& tensor) {
  const int64_t count = tensor.numel();
  Tensor result = filled_tensor(tensor.dtype, shape_of(tensor), count * 2 + 1);
  int64_t stride = 2;
  for (int32_t dim = 0; dim < tensor.rank; ++dim) {
    result.strides[dim] = stride;
    stride *= tensor.shape[dim];
  }
  const size_t item = item_size(tensor.dtype);
  result.data = result.as<char>() + item;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(element_at(result, i), element_at(tensor, i), item);
  }
  return result;
}

inline Values values_of(const Tensor& tensor) {
  Values values(static_cast<size_t>(tensor.numel()));
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    values[static_cast<size_t>(i)] = element_value(element_at(tensor, i), tensor.dtype);
  }
  return values;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.dtype != b.dtype || a.numel() != b.numel()) return false;
  for (int64_t i = 0; i < a.numel(); ++i) {
    if (std::memcmp(element_at(a, i), element_at(b, i), item_size(a.dtype)) != 0) return false;
  }
  return true;
}

// ---- Calls ----

struct Output {
  DType dtype;
  Shape shape;
};

inline int32_t op_named(const std::string& name) {
  for (int32_t op = 0; op < kOpCount; ++op) {
    if (name == kOpNames[op]) return op;
  }
  throw std::invalid_argument("there is no op " + name);
}

// Runs an op by the name of its row. Outputs start out as NaN or -1, so that an element which is
// not written shows.
inline std::vector<Tensor> run_many(const std::string& name, std::vector<Tensor> inputs,
                                    const std::vector<double>& attrs,
                                    const std::vector<Output>& outputs) {
  std::vector<Tensor> results;
  for (const Output& output : outputs) {
    results.push_back(filled_tensor(output.dtype, output.shape, count_of(output.shape)));
  }
  OpCall call;
  call.inputs = inputs.data();
  call.num_inputs = static_cast<int32_t>(inputs.size());
  call.outputs = results.data();
  call.num_outputs = static_cast<int32_t>(results.size());
  call.attrs = attrs.data();
  call.num_attrs = static_cast<int32_t>(attrs.size());
  run_op(cpu::backend(), op_named(name), call);
  return results;
}
inline Tensor run(const std::string& name, std::vector<Tensor> inputs,
                  const std::vector<double>& attrs, DType dtype, const Shape& shape) {
  return run_many(name, std::move(inputs), attrs, {{dtype, shape}})[0];
}

// ---- Comparison ----

// Half a unit in the last place of 1.
inline double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-53;
    case DType::kFloat32:
      return 0x1p-24;
    case DType::kFloat16:
      return 0x1p-11;
    case DType::kBFloat16:
      return 0x1p-8;
    default:
      return 0.0;
  }
}

inline bool same_number(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Expects good(i) of every position, and tells of the first that is not.
template <class Good>
void expect_all(const Values& actual, const Values& expected, const std::string& what,
                const Good& good) {
  EXPECT(actual.size() == expected.size(), what + ": another number of elements");
  if (actual.size() != expected.size()) return;
  size_t i = 0;
  while (i < actual.size() && good(i)) ++i;
  EXPECT(i == actual.size(), what + " [" + std::to_string(i) + "]: " + shown(actual[i]) +
                                 ", expected " + shown(expected[i]));
}

inline void expect_values(const Tensor& actual, const Values& expected, const std::string& what) {
  const Values values = values_of(actual);
  expect_all(values, expected, what, [&](size_t i) { return same_number(values[i], expected[i]); });
}

// Within `units` epsilons of the dtype, of the expected value or of `scale` where that is larger.
inline void expect_close(const Tensor& actual, const Values& expected, double units, double scale,
                         const std::string& what) {
  const Values values = values_of(actual);
  expect_all(values, expected, what, [&](size_t i) {
    const double bound = units * epsilon(actual.dtype) * std::max(scale, std::abs(expected[i]));
    return same_number(values[i], expected[i]) || std::abs(values[i] - expected[i]) <= bound;
  });
}

// The instruction sets this processor has (and MIXPREC_CPU_ISA allows).
inline std::vector<cpu::Isa> isa_levels() {
  std::vector<cpu::Isa> levels;
  for (const cpu::Isa level : {cpu::Isa::kPortable, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (level <= cpu::isa()) levels.push_back(level);
  }
  return levels;
}

inline const cpu::PointwiseKernels& pointwise_kernels([[maybe_unused]] cpu::Isa level) {
#if MIXPREC_X86
  if (level == cpu::Isa::kAvx512) return cpu::kernels_avx512();
  if (level == cpu::Isa::kAvx2) return cpu::kernels_avx2();
#endif
  return cpu::kernels_portable();
}

inline const cpu::RowKernels& row_kernels([[maybe_unused]] cpu::Isa level) {
#if MIXPREC_X86
  if (level == cpu::Isa::kAvx512) return cpu::rows_avx512();
  if (level == cpu::Isa::kAvx2) return cpu::rows_avx2();
#endif
  return cpu::rows_portable();
}

}  // namespace mixprec::testing

int main() {
  using namespace mixprec::testing;
  for (const Case& test : cases()) {
    const int64_t before = failures;
    try {
      test.body();
    } catch (const std::exception& error) {
      report_failure(__FILE__, __LINE__, std::string("threw ") + error.what());
    }
    if (failures > before) std::printf("FAILED: %s\n", test.name);
  }
  std::printf("%zu cases, %lld expectations, %lld failures\n", cases().size(),
              static_cast<long long>(expectations), static_cast<long long>(failures));
  return failures == 0 && expectations > 0 ? 0 : 1;
}
