// What tests of CUDA code share, on a GPU and in the emulator: a stream, arrays on the device, and
// launches whose outcome is looked at. Such a test is a .cu file that both compilers take; without
// a GPU the one that nvcc made is compiled, and its cases pass over.
#pragma once

#include "cuda/runtime/allocator.h"
#include "cuda/runtime/device.h"
#include "cuda/runtime/launch.h"
#include "testing.h"

#if defined(MIXPREC_CUDA_EMULATED)
#include "cuda/emulator/fault.h"
#endif

namespace mixprec::cuda::testing {

// The compute capability of the device, times ten; 0 where there is none.
inline int capability() {
  static const int found = [] {
    if (device_count() == 0) return 0;
    api::DeviceProperties properties;
    return api::device_properties(0, &properties) == api::kSuccess
               ? properties.major * 10 + properties.minor
               : 0;
  }();
  return found;
}

// As TEST, for a device of at least this capability; no other runs it.
#define DEVICE_TEST(least, name)                                                            \
  static void MIXPREC_TEST_JOIN(device_case_, __LINE__)();                                  \
  static const ::mixprec::testing::Registration MIXPREC_TEST_JOIN(registration_, __LINE__)( \
      name, +[] {                                                                           \
        ++::mixprec::testing::expectations;                                                 \
        if (::mixprec::cuda::testing::capability() < (least)) {                             \
          std::printf("not run, the device lacks sm_%d: %s\n", (least), name);              \
          return;                                                                           \
        }                                                                                   \
        MIXPREC_TEST_JOIN(device_case_, __LINE__)();                                        \
      });                                                                                   \
  static void MIXPREC_TEST_JOIN(device_case_, __LINE__)()

inline api::Stream stream() {
  static api::Stream made = [] {
    api::Stream handle = nullptr;
    api::create_stream(&handle);
    return handle;
  }();
  return made;
}

inline CachingAllocator& allocator() {
  static auto* const made = new CachingAllocator(0, stream());
  return *made;
}

// Elements on the device, from `values` or never written.
template <class T>
struct DeviceArray {
  explicit DeviceArray(size_t count_)
      : count(count_), data(static_cast<T*>(allocator().allocate(count_ * sizeof(T)))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    api::copy_to_device(data, values.data(), count * sizeof(T), stream());
    api::synchronize_stream(stream());
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { allocator().deallocate(data); }
  std::vector<T> read() const {
    std::vector<T> values(count);
    api::copy_to_host(values.data(), data, count * sizeof(T), stream());
    api::synchronize_stream(stream());
    return values;
  }
  size_t count;
  T* data;
};

inline LaunchConfig config(Dim3 blocks, uint32_t threads, size_t shared = 0, Dim3 cluster = {}) {
  LaunchConfig made;
  made.stream = stream();
  made.grid = blocks;
  made.block = threads;
  made.shared_bytes = shared;
  made.cluster = cluster;
  return made;
}

inline void expect_in(const std::string& report, const std::string& part) {
  EXPECT(report.find(part) != std::string::npos, "\"" + part + "\" is not in: " + report);
}
inline void expect_healthy() {
  const api::Code code = api::synchronize_stream(stream());
  EXPECT(code == api::kSuccess, api::error_text(code));
}

// A launch that may fail at once, since the fault is sometimes there before the call returns.
template <auto kernel, class... Arguments>
void attempt(const LaunchConfig& where, const Arguments&... arguments) {
  try {
    launch<kernel>(where, arguments...);
  } catch (const Error&) {
  }
}

#if defined(MIXPREC_CUDA_EMULATED)

// The report of the fault that the device died of, after which it is brought back to life.
inline std::string report_of(api::Code expected) {
  const api::Code code = api::synchronize_stream(stream());
  const std::string report = emulator::last_report();
  EXPECT(code == expected, "code " + std::to_string(code) + ", report: " + report);
  emulator::revive();
  return report;
}

#endif

// Calls `body` once on a GPU, and in the emulator for several orders of threads and copies.
template <class Body>
void each_order(const Body& body) {
#if defined(MIXPREC_CUDA_EMULATED)
  for (uint32_t seed = 0; seed < 6; ++seed) {
    emulator::set_seed(seed);
    body();
  }
  emulator::set_seed(0);
#else
  body();
#endif
}

// ---- Numbers ----

inline std::vector<float> ramp(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

// Elements of the types that tensor cores take, as numbers.
inline double number(Float16 x) { return to_float(x); }
inline double number(BFloat16 x) { return to_float(x); }
inline double number(float x) { return x; }
inline double number(double x) { return x; }
inline double number(int8_t x) { return x; }
inline double number(int32_t x) { return x; }

template <class T>
T element_of(double x) {
  if constexpr (std::is_same_v<T, Float16>) {
    return to_float16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return to_bfloat16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<T, int8_t>) {
    return static_cast<int8_t>(x * 64);
  } else {
    return static_cast<T>(x);
  }
}

// Uniform in [-2, 2); whole numbers up to 127 for int8_t.
template <class T>
std::vector<T> random_elements(size_t count, uint64_t seed) {
  ::mixprec::testing::Random random(seed);
  std::vector<T> values(count);
  for (T& value : values) value = element_of<T>(random.uniform(-2, 2) * 0.99);
  return values;
}

// Expects c[m][n] (row stride `stride`) to be the sum over k of a[m][k] * b[n][k], plus `start`,
// within `units` of 2^-24 of the sum of magnitudes.
template <class T, class Sum>
void expect_product(const std::vector<T>& a, const std::vector<T>& b, const std::vector<Sum>& c,
                    int m, int n, int k, double units, const std::string& what, double start = 0) {
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      double sum = start;
      double magnitude = std::abs(start);
      for (int i = 0; i < k; ++i) {
        const double product = number(a[static_cast<size_t>(row * k + i)]) *
                               number(b[static_cast<size_t>(column * k + i)]);
        sum += product;
        magnitude += std::abs(product);
      }
      const double got = number(c[static_cast<size_t>(row * n + column)]);
      const bool good = std::abs(got - sum) <= units * 0x1p-24 * magnitude;
      EXPECT(good, what + " [" + std::to_string(row) + "][" + std::to_string(column) + "] is " +
                       std::to_string(got) + ", expected " + std::to_string(sum));
      if (!good) return;
    }
  }
}

}  // namespace mixprec::cuda::testing
