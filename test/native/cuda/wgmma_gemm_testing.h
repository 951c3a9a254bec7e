// Products for the tests of the Hopper kernels, and what they should give.
#pragma once

#include "cuda/cuda_backend.h"
#include "cuda/gemm/finish.h"
#include "cuda/gemm/wgmma_sm90.h"
#include "cuda/gemm/wgmma_tiles.h"
#include "device_testing.h"
#include "epilogue_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;
using ::mixprec::testing::element_value;
using ::mixprec::testing::epilogue_cases;
using ::mixprec::testing::EpilogueCase;
using ::mixprec::testing::EpilogueProblem;
using ::mixprec::testing::kBuffers;
using ::mixprec::testing::Random;
using ::mixprec::testing::set_element;
using ::mixprec::testing::shown;

namespace mixprec::cuda::testing {

struct Sizes {
  int64_t m, n, k;
};

struct ProductCase {
  Sizes size{};
  int64_t batch = 1, outer = 1;
  bool lhs_transposed = false, rhs_transposed = false;  // in memory
  bool lhs_repeated = false, rhs_repeated = false;      // over the batch
  DType in = DType::kBFloat16, out = DType::kBFloat16;
  MatmulPrecision precision = MatmulPrecision::kHighest;
  bool padded_out = true;  // rows of out aligned to 16 bytes
  bool odd_pitch = false;  // lines of operands not aligned
  bool spread = false;     // a gap between neighbours of operands, too
  bool bias = false;
  double alpha = 1, beta = 0;
  // Changes the operands' elements.
  void (*edit)(std::vector<double>& lhs, std::vector<double>& rhs) = nullptr;
  // What an element of the operands becomes before it is multiplied.
  double (*rounded)(double) = nullptr;
  // Most of the error, relative to the sum of magnitudes.
  double tolerance = 0x1p-20;

  std::string name() const {
    std::ostringstream text;
    text << outer << " x " << batch << " of " << size.m << " x " << size.n << " x " << size.k
         << ", " << dtype_name(in) << (lhs_transposed ? " T" : " N") << (rhs_transposed ? "T" : "N")
         << " -> " << dtype_name(out) << ", precision " << static_cast<int>(precision) << ", odd "
         << odd_pitch << ", repeated " << lhs_repeated << rhs_repeated << ", padded " << padded_out
         << ", bias " << bias << ", alpha " << alpha << ", beta " << beta;
    return text.str();
  }
};

inline std::vector<double> random_numbers(int64_t count, uint64_t seed, DType dtype) {
  Random random(seed);
  std::vector<double> values(static_cast<size_t>(count));
  const bool whole = !is_floating(dtype);
  for (double& value : values) {
    value = whole ? std::floor(random.uniform(-128, 128)) : random.uniform(-1, 1);
  }
  return values;
}

// Numbers in memory, and what they became there.
class Numbers {
 public:
  Numbers(DType dtype, int64_t count)
      : dtype_(dtype), bytes_(static_cast<size_t>(count) * item_size(dtype)) {}
  void set(int64_t at, double value) { set_element(place(at), dtype_, value); }
  double get(int64_t at) const {
    return element_value(const_cast<Numbers*>(this)->place(at), dtype_);
  }
  std::vector<char>& bytes() { return bytes_; }

 private:
  char* place(int64_t at) { return bytes_.data() + at * static_cast<int64_t>(item_size(dtype_)); }
  DType dtype_;
  std::vector<char> bytes_;
};

// An operand [matrices][rows][k] in memory, each line padded to 16 bytes.
struct OperandMemory {
  OperandMemory(const ProductCase& c, int64_t matrices, int64_t rows, int64_t k, bool k_dense_,
                const std::vector<double>& values)
      : k_dense(k_dense_),
        step(c.spread ? 2 : 1),
        pitch((((k_dense ? k : rows) + 15) / 16 * 16 + (c.odd_pitch ? 1 : 0)) * step),
        matrix((k_dense ? rows : k) * pitch),
        numbers(c.in, matrices * matrix) {
    for (int64_t at = 0; at < matrices; ++at) {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < k; ++i) {
          const double value = values[static_cast<size_t>((at * rows + row) * k + i)];
          numbers.set(place(at, row, i), value);
        }
      }
    }
  }
  int64_t place(int64_t at, int64_t row, int64_t i) const {
    return at * matrix + (k_dense ? row * pitch + i * step : i * pitch + row * step);
  }
  bool k_dense;
  int64_t step, pitch, matrix;
  Numbers numbers;
};

inline double half_ulp(DType dtype, double value) {
  const double relative = dtype == DType::kFloat16    ? 0x1p-11
                          : dtype == DType::kBFloat16 ? 0x1p-8
                                                      : 0x1p-24;
  const double least = dtype == DType::kFloat16 ? 0x1p-25 : 0x1p-150;
  return std::max(std::abs(value) * relative, least);
}

inline bool is_as_expected(const ProductCase& c, double got, double wanted, double magnitude) {
  if (std::isnan(wanted)) return std::isnan(got);
  if (c.out == DType::kFloat32) wanted = static_cast<float>(wanted);
  if (std::isinf(wanted)) return got == wanted;
  if (!is_floating(c.out)) return got == wanted;
  // Products that are subnormal have fewer bits.
  const double least = static_cast<double>(c.size.k) * 0x1p-149;
  return std::abs(got - wanted) <= c.tolerance * magnitude + half_ulp(c.out, wanted) + least;
}

// Makes the product and compares it; returns the bytes of out.
inline std::vector<char> expect_product(const ProductCase& c, const GemmConfig& config) {
  const auto [m, n, k] = c.size;
  const int64_t matrices = c.batch * c.outer;
  const int64_t lhs_count = c.lhs_repeated ? c.outer : matrices;
  const int64_t rhs_count = c.rhs_repeated ? 1 : matrices;
  std::vector<double> lhs_values = random_numbers(lhs_count * m * k, 1, c.in);
  std::vector<double> rhs_values = random_numbers(rhs_count * n * k, 2, c.in);
  if (c.edit != nullptr) c.edit(lhs_values, rhs_values);
  OperandMemory lhs(c, lhs_count, m, k, !c.lhs_transposed, lhs_values);
  OperandMemory rhs(c, rhs_count, n, k, c.rhs_transposed, rhs_values);
  const int64_t pitch = c.padded_out ? (n + 7) / 8 * 8 : n;
  Numbers out(c.out, matrices * m * pitch);
  const std::vector<double> before =
      random_numbers(matrices * m * pitch, 3, c.beta == 0 ? c.out : DType::kFloat32);
  for (int64_t i = 0; i < matrices * m * pitch; ++i) {
    const bool unread = is_floating(c.out) && c.beta == 0 && i % pitch < n;
    out.set(i, unread ? std::nan("") : before[static_cast<size_t>(i)]);
  }
  Numbers bias(is_floating(c.out) ? c.in : c.out, n);
  for (int64_t i = 0; i < n; ++i) bias.set(i, static_cast<double>(i % 5) - 2);

  const DeviceArray<char> lhs_device(lhs.numbers.bytes());
  const DeviceArray<char> rhs_device(rhs.numbers.bytes());
  const DeviceArray<char> out_device(out.bytes());
  const DeviceArray<char> bias_device(bias.bytes());
  GemmDesc desc;
  desc.M = m;
  desc.N = n;
  desc.K = k;
  desc.batch = c.batch;
  desc.outer = c.outer;
  desc.lhs.data = lhs_device.data;
  desc.lhs.dtype = desc.rhs.dtype = c.in;
  desc.lhs.row_stride = lhs.k_dense ? lhs.pitch : lhs.step;
  desc.lhs.col_stride = lhs.k_dense ? lhs.step : lhs.pitch;
  desc.lhs.batch_stride = c.lhs_repeated || c.batch == 1 ? 0 : lhs.matrix;
  desc.lhs.outer_stride = lhs.matrix * lhs_count / c.outer;
  desc.rhs.data = rhs_device.data;
  desc.rhs.row_stride = rhs.k_dense ? rhs.step : rhs.pitch;
  desc.rhs.col_stride = rhs.k_dense ? rhs.pitch : rhs.step;
  desc.rhs.batch_stride = c.rhs_repeated ? 0 : rhs.matrix;
  desc.rhs.outer_stride = c.rhs_repeated ? 0 : rhs.matrix * c.batch;
  desc.out = out_device.data;
  desc.out_dtype = c.out;
  desc.out_row_stride = pitch;
  desc.out_batch_stride = m * pitch;
  desc.out_outer_stride = c.batch * m * pitch;
  desc.precision = c.precision;
  desc.alpha = c.alpha;
  desc.beta = c.beta;
  if (c.bias) desc.bias = bias_device.data;
  desc.bias_dtype = is_floating(c.out) ? c.in : c.out;
  EXPECT(wgmma_supports(desc, backend(0).properties()), c.name());
  wgmma_gemm(backend(0), desc, config);
  backend(0).synchronize();

  Numbers result(c.out, 0);
  result.bytes() = out_device.read();
  for (int64_t matrix = 0; matrix < matrices; ++matrix) {
    const int64_t lhs_at = c.lhs_repeated ? matrix / c.batch : matrix;
    const int64_t rhs_at = c.rhs_repeated ? 0 : matrix;
    // Widened once, so that the loops below are plain.
    std::vector<double> left(static_cast<size_t>(m * k)), right(static_cast<size_t>(n * k));
    for (int64_t i = 0; i < m * k; ++i) {
      const double value = lhs.numbers.get(lhs.place(lhs_at, i / k, i % k));
      left[static_cast<size_t>(i)] = c.rounded == nullptr ? value : c.rounded(value);
    }
    for (int64_t i = 0; i < n * k; ++i) {
      const double value = rhs.numbers.get(rhs.place(rhs_at, i / k, i % k));
      right[static_cast<size_t>(i)] = c.rounded == nullptr ? value : c.rounded(value);
    }
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t column = 0; column < pitch; ++column) {
        const int64_t at = (matrix * m + row) * pitch + column;
        if (column >= n) {
          EXPECT(result.get(at) == out.get(at), "padding was written: " + c.name());
          continue;
        }
        const double* const x = left.data() + row * k;
        const double* const y = right.data() + column * k;
        double sum = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += x[i] * y[i];
          magnitude += std::abs(x[i] * y[i]);
        }
        double wanted = c.alpha * sum;
        if (c.beta != 0) wanted += c.beta * out.get(at);
        if (c.bias) wanted += bias.get(column);
        magnitude = magnitude * std::abs(c.alpha) + std::abs(wanted);
        const double got = result.get(at);
        const bool good = is_as_expected(c, got, wanted, magnitude);
        EXPECT(good, "variant " + std::to_string(config.variant) + ", splits " +
                         std::to_string(config.splits) + ", [" + std::to_string(matrix) + "][" +
                         std::to_string(row) + "][" + std::to_string(column) + "] is " +
                         shown(got) + ", expected " + shown(wanted) + ": " + c.name());
        if (!good) return {};
      }
    }
  }
  return result.bytes();
}

}  // namespace mixprec::cuda::testing
