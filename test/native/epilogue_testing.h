// Products with epilogues and what they should give, for the tests of both backends.
#pragma once

#include <array>

#include "core/gemm_desc.h"
#include "testing.h"

namespace mixprec::testing {

enum Buffer { kLhs, kRhs, kOut, kBias, kAux, kMultiplier, kResidual, kSums, kBuffers };
enum class Aux { kNone, kKept, kDerivative };

struct EpilogueCase {
  int64_t outer = 1, batch = 1, M = 1, N = 1, K = 1;
  DType in = DType::kFloat32, out = DType::kFloat32;
  int64_t padding = 0;  // of the rows of out and what lies as it does
  double alpha = 1, beta = 0;
  bool bias = false;
  GemmActivation activation = GemmActivation::kNone;
  Aux aux = Aux::kNone;
  bool multiplier = false, residual = false, column_sums = false;

  std::string name() const {
    std::ostringstream text;
    text << outer << " x " << batch << " of " << M << " x " << N << " x " << K << ", "
         << dtype_name(in) << " -> " << dtype_name(out) << ", padding " << padding << ", alpha "
         << alpha << ", beta " << beta << ", bias " << bias << ", activation "
         << static_cast<int>(activation) << ", aux " << static_cast<int>(aux) << ", multiplier "
         << multiplier << ", residual " << residual << ", column sums " << column_sums;
    return text.str();
  }
};

inline double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

inline double activated(GemmActivation activation, double x) {
  switch (activation) {
    case GemmActivation::kRelu:
      return x > 0 ? x : 0;
    case GemmActivation::kGelu:
      return x * normal_cdf(x);
    case GemmActivation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case GemmActivation::kSilu:
      return x / (1 + std::exp(-x));
    case GemmActivation::kNone:
      break;
  }
  return x;
}

inline double slope(GemmActivation activation, double x) {
  const double sigmoid = 1 / (1 + std::exp(-x));
  const double c = std::sqrt(2 / M_PI);
  const double t = std::tanh(c * (x + 0.044715 * x * x * x));
  switch (activation) {
    case GemmActivation::kRelu:
      return x > 0 ? 1 : 0;
    case GemmActivation::kGelu:
      return normal_cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    case GemmActivation::kGeluTanh:
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    case GemmActivation::kSilu:
      return sigmoid * (1 + x * (1 - sigmoid));
    case GemmActivation::kNone:
      break;
  }
  return 1;
}

// The memory of a case: the operands dense, out and what lies as it does with padded rows.
class EpilogueProblem {
 public:
  explicit EpilogueProblem(const EpilogueCase& given) : c(given), random_(7) {
    const int64_t matrices = c.outer * c.batch;
    make(kLhs, matrices * c.M * c.K, c.in);
    make(kRhs, matrices * c.K * c.N, c.in);
    make(kOut, matrices * c.M * stride(), c.out);
    if (c.bias) make(kBias, c.N, c.out);
    if (c.aux != Aux::kNone) make(kAux, matrices * c.M * stride(), c.out);
    if (c.multiplier) make(kMultiplier, matrices * c.M * stride(), c.out);
    if (c.residual) make(kResidual, matrices * c.M * stride(), c.out);
    if (c.column_sums) make(kSums, c.N, sums_dtype());
    // What is not to be read.
    for (const Buffer buffer : {kOut, kAux}) {
      if (buffers[buffer].empty() || !is_floating(c.out)) continue;
      if (buffer == kOut ? c.beta != 0 : c.aux == Aux::kDerivative) continue;
      for (int64_t i = 0; i < matrices * c.M * stride(); ++i) {
        if (i % stride() < c.N) set(buffer, i, std::nan(""));
      }
    }
    before = buffers;
  }

  int64_t stride() const { return c.N + c.padding; }
  DType sums_dtype() const { return c.out == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

  // With the buffers at these addresses.
  GemmDesc describe(const std::array<char*, kBuffers>& at) const {
    GemmDesc desc;
    desc.M = c.M;
    desc.N = c.N;
    desc.K = c.K;
    desc.batch = c.batch;
    desc.outer = c.outer;
    desc.lhs = {at[kLhs], c.in, c.K, 1, c.M * c.K, c.batch * c.M * c.K};
    desc.rhs = {at[kRhs], c.in, c.N, 1, c.K * c.N, c.batch * c.K * c.N};
    desc.out = at[kOut];
    desc.out_dtype = c.out;
    desc.out_row_stride = stride();
    desc.out_batch_stride = c.M * stride();
    desc.out_outer_stride = c.batch * c.M * stride();
    desc.bias = c.bias ? at[kBias] : nullptr;
    desc.bias_dtype = c.out;
    desc.alpha = c.alpha;
    desc.beta = c.beta;
    desc.epilogue.activation = c.activation;
    desc.epilogue.derivative = c.aux == Aux::kDerivative;
    desc.epilogue.aux = c.aux != Aux::kNone ? at[kAux] : nullptr;
    desc.epilogue.multiplier = c.multiplier ? at[kMultiplier] : nullptr;
    desc.epilogue.residual = c.residual ? at[kResidual] : nullptr;
    desc.epilogue.column_sums = c.column_sums ? at[kSums] : nullptr;
    return desc;
  }

  // The product of row `row` (of all batches) and column `col`; `magnitude` of its terms.
  double product(int64_t row, int64_t col, int64_t first, int64_t last, double* magnitude) const {
    double sum = 0;
    for (int64_t k = first; k < last; ++k) {
      const double term = get(before, kLhs, row * c.K + k, c.in) *
                          get(before, kRhs, (row / c.M * c.K + k) * c.N + col, c.in);
      sum += term;
      *magnitude += std::abs(term);
    }
    return sum;
  }

  // Compares what the buffers hold now with the reference.
  void expect_finished() const {
    std::vector<double> sums(static_cast<size_t>(c.N)), magnitudes(sums);
    for (int64_t row = 0; row < c.outer * c.batch * c.M; ++row) {
      for (int64_t col = 0; col < stride(); ++col) {
        const int64_t at = row * stride() + col;
        if (col >= c.N) {
          expect_untouched(kOut, at);
          if (c.aux != Aux::kNone) expect_untouched(kAux, at);
          continue;
        }
        if (!expect_element(row, col, at)) return;
        const double stored = get(buffers, kOut, at, c.out);
        sums[static_cast<size_t>(col)] += stored;
        magnitudes[static_cast<size_t>(col)] += std::abs(stored);
      }
    }
    if (!c.column_sums) return;
    for (int64_t col = 0; col < c.N; ++col) {
      const double got = get(buffers, kSums, col, sums_dtype());
      const auto i = static_cast<size_t>(col);
      const double error = std::abs(got - sums[i]);
      EXPECT(error <= tolerance() * magnitudes[i],
             "column sum " + shown(got) + ", expected " + shown(sums[i]) + ": " + c.name());
    }
  }

  const EpilogueCase c;
  std::array<std::vector<char>, kBuffers> buffers;
  std::array<std::vector<char>, kBuffers> before;

 private:
  void make(Buffer buffer, int64_t count, DType dtype) {
    buffers[buffer].resize(static_cast<size_t>(count) * item_size(dtype));
    for (int64_t i = 0; i < count; ++i) {
      const double value = random_.uniform(-1, 1);
      set_element(buffers[buffer].data() + i * static_cast<int64_t>(item_size(dtype)), dtype,
                  is_floating(dtype) ? value : std::floor(value * 9));
    }
  }
  void set(Buffer buffer, int64_t at, double value) {
    set_element(buffers[buffer].data() + at * static_cast<int64_t>(item_size(c.out)), c.out, value);
  }
  static double get(const std::array<std::vector<char>, kBuffers>& from, Buffer buffer, int64_t at,
                    DType dtype) {
    return element_value(from[buffer].data() + at * static_cast<int64_t>(item_size(dtype)), dtype);
  }
  double tolerance() const { return c.out == DType::kFloat64 ? 1e-13 : 4e-6; }
  double unit() const {  // of the stored dtype
    if (c.out == DType::kFloat64) return 0x1p-52;
    return c.out == DType::kFloat16 ? 0x1p-11 : (c.out == DType::kBFloat16 ? 0x1p-8 : 0x1p-23);
  }

  void expect_untouched(Buffer buffer, int64_t at) const {
    const size_t item = item_size(c.out);
    const size_t offset = static_cast<size_t>(at) * item;
    EXPECT(std::memcmp(buffers[buffer].data() + offset, before[buffer].data() + offset, item) == 0,
           "padding was written: " + c.name());
  }

  bool expect_close(double got, double wanted, double magnitude, const char* what) const {
    const double allowed = tolerance() * (magnitude + 1) + unit() * (std::abs(wanted) + 1e-3);
    const bool good = std::abs(got - wanted) <= allowed;
    EXPECT(good, std::string(what) + " is " + shown(got) + ", expected " + shown(wanted) + ": " +
                     c.name());
    return good;
  }

  bool expect_element(int64_t row, int64_t col, int64_t at) const {
    double magnitude = 0;
    double value = c.alpha * product(row, col, 0, c.K, &magnitude);
    if (c.beta != 0) value += c.beta * get(before, kOut, at, c.out);
    if (c.bias) value += get(before, kBias, col, c.out);
    if (c.aux == Aux::kDerivative) {
      value *= slope(c.activation, get(before, kAux, at, c.out));
    } else {
      if (c.aux == Aux::kKept &&
          !expect_close(get(buffers, kAux, at, c.out), value, magnitude, "aux")) {
        return false;
      }
      value = activated(c.activation, value);
    }
    if (c.multiplier) value *= get(before, kMultiplier, at, c.out);
    if (c.residual) value += get(before, kResidual, at, c.out);
    return expect_close(get(buffers, kOut, at, c.out), value, magnitude, "out");
  }

  Random random_;
};

// Every activation and every way of using it for each dtype, at these shapes in turn.
inline std::vector<EpilogueCase> epilogue_cases(const std::vector<std::array<int64_t, 5>>& shapes) {
  std::vector<EpilogueCase> list;
  size_t turn = 0;
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64}) {
    for (int activation = 0; activation < 5; ++activation) {
      for (const Aux aux : {Aux::kNone, Aux::kKept, Aux::kDerivative}) {
        for (int operands = 0; operands < 4; ++operands, ++turn) {
          EpilogueCase c;
          const auto& shape = shapes[turn % shapes.size()];
          c.outer = shape[0];
          c.batch = shape[1];
          c.M = shape[2];
          c.N = shape[3];
          c.K = shape[4];
          c.in = c.out = dtype;
          if (turn % 7 == 3 && is_half_width(dtype)) c.out = DType::kFloat32;
          c.padding = turn % 3 == 1 ? 3 : (turn % 3 == 2 ? 8 : 0);
          c.alpha = turn % 2 == 0 ? 1 : 0.5;
          c.beta = turn % 4 == 1 ? 1 : (turn % 4 == 2 ? -0.5 : 0);
          c.bias = turn % 5 < 3;
          c.activation = static_cast<GemmActivation>(activation);
          c.aux = aux;
          c.multiplier = (operands & 1) != 0;
          c.residual = (operands & 2) != 0;
          c.column_sums = turn % 2 == 1;
          list.push_back(c);
        }
      }
    }
  }
  return list;
}

}  // namespace mixprec::testing
