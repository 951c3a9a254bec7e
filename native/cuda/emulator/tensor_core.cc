#include "tensor_core.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace mixprec::cuda::emulator {
namespace {

// Most of the emulator's time goes into these loops; the build itself is for any x86-64.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define MIXPREC_FOR_EACH_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MIXPREC_FOR_EACH_ISA
#endif

constexpr int kMostColumns = 256;
constexpr int kMostDepth = 32;
constexpr int kSignificandBits = 24;
constexpr int kExtraBits = 2;

TensorCoreModel model_from_environment() {
  const char* const text = std::getenv("MIXPREC_EMULATOR_TENSOR_CORE");
  return text != nullptr && std::strcmp(text, "truncating") == 0 ? TensorCoreModel::kTruncating
                                                                 : TensorCoreModel::kExact;
}
std::atomic<TensorCoreModel>& model() {
  static std::atomic<TensorCoreModel> chosen{model_from_environment()};
  return chosen;
}

MIXPREC_FOR_EACH_ISA void multiply_in_double(int m, int n, int k, const float* a, const float* b,
                                             float* c) {
  double wide[kMostDepth * kMostColumns];
  double sums[kMostColumns];
  for (int i = 0; i < k * n; ++i) wide[i] = b[i];
  for (int row = 0; row < m; ++row) {
    float* const out = c + row * n;
    for (int j = 0; j < n; ++j) sums[j] = out[j];
    for (int i = 0; i < k; ++i) {
      const double x = a[row * k + i];
      const double* const y = wide + i * n;
      for (int j = 0; j < n; ++j) sums[j] += x * y[j];
    }
    for (int j = 0; j < n; ++j) out[j] = static_cast<float>(sums[j]);
  }
}

MIXPREC_FOR_EACH_ISA void multiply_int8(int m, int n, int k, const int8_t* a, const int8_t* b,
                                        int32_t* c) {
  for (int row = 0; row < m; ++row) {
    int32_t* const out = c + row * n;
    for (int i = 0; i < k; ++i) {
      const int32_t x = a[row * k + i];
      const int8_t* const y = b + i * n;
      // Unsigned, since sums wrap around.
      for (int j = 0; j < n; ++j) {
        out[j] =
            static_cast<int32_t>(static_cast<uint32_t>(out[j]) + static_cast<uint32_t>(x * y[j]));
      }
    }
  }
}

int exponent_of(float value) { return value == 0 ? -100000 : std::ilogb(value); }

// `value` with the bits that a float has no room for cut off.
float cut_to_float(double value) {
  const auto nearest = static_cast<float>(value);
  if (std::abs(static_cast<double>(nearest)) <= std::abs(value)) return nearest;
  return std::nextafter(nearest, 0.0f);
}

// Adds `count` products to an accumulator as the hardware does.
float truncated_sum(const float* a, const float* b, int stride, int count, float accumulator) {
  int largest = exponent_of(accumulator);
  double plain = accumulator;
  for (int i = 0; i < count; ++i) {
    const float y = b[i * stride];
    plain += static_cast<double>(a[i]) * y;
    if (a[i] == 0 || y == 0) continue;
    largest = std::max(largest, exponent_of(a[i]) + exponent_of(y));
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest <= -100000) return static_cast<float>(plain);  // nothing but zeros
  const int unit = largest - (kSignificandBits - 1) - kExtraBits;
  int64_t sum = static_cast<int64_t>(std::ldexp(static_cast<double>(accumulator), -unit));
  for (int i = 0; i < count; ++i) {
    const double product = static_cast<double>(a[i]) * b[i * stride];
    sum += static_cast<int64_t>(std::ldexp(product, -unit));
  }
  return cut_to_float(std::ldexp(static_cast<double>(sum), unit));
}

}  // namespace

TensorCoreModel tensor_core_model() { return model().load(std::memory_order_relaxed); }
void set_tensor_core_model(TensorCoreModel chosen) { model().store(chosen); }

void tensor_core(int m, int n, int k, int block, const float* a, const float* b, float* c) {
  if (tensor_core_model() == TensorCoreModel::kExact) return multiply_in_double(m, n, k, a, b, c);
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      float& out = c[row * n + column];
      for (int i = 0; i < k; i += block) {
        out = truncated_sum(a + row * k + i, b + i * n + column, n, std::min(block, k - i), out);
      }
    }
  }
}

void tensor_core(int m, int n, int k, const double* a, const double* b, double* c) {
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      double sum = c[row * n + column];
      for (int i = 0; i < k; ++i) sum = std::fma(a[row * k + i], b[i * n + column], sum);
      c[row * n + column] = sum;
    }
  }
}

void tensor_core(int m, int n, int k, const int8_t* a, const int8_t* b, int32_t* c) {
  multiply_int8(m, n, k, a, b, c);
}

float cut_to_tf32(float value) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffffe000u);
}

}  // namespace mixprec::cuda::emulator
