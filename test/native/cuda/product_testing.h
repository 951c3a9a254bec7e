// Products of matrices that lie in the device's memory in any way, for the tests of kernels: made
// at random, run, and compared with sums in float64.
#pragma once

#include <cmath>
#include <memory>

#include "cuda/cuda_backend.h"
#include "device_testing.h"

namespace mixprec::cuda::testing {

using namespace mixprec::testing;

// How an operand's elements lie.
enum class Lie {
  kRows,       // columns side by side, rows dense
  kColumns,    // rows side by side
  kPadded,     // as kRows, with a leading dimension that is no multiple of 16 bytes
  kPaddedT,    // as kColumns, likewise
  kOffset,     // as kRows, beginning an element after an aligned place
  kOffsetT,    // as kColumns, likewise
  kScattered,  // gaps in both directions
};
inline const std::vector<Lie> kAllLies = {Lie::kRows,     Lie::kColumns, Lie::kPadded,
                                          Lie::kPaddedT,  Lie::kOffset,  Lie::kOffsetT,
                                          Lie::kScattered};

struct ProductCase {
  int64_t M = 1, N = 1, K = 1;
  int64_t batch = 1, outer = 1;
  DType dtype = DType::kBFloat16;
  DType out = DType::kFloat32;
  MatmulPrecision precision = MatmulPrecision::kHighest;
  Lie lhs = Lie::kRows;
  Lie rhs = Lie::kRows;
  bool broadcast_rhs = false;  // over the batch
  int64_t out_gap = 0;         // elements between the rows of out
  double alpha = 1;
  double beta = 0;
  bool bias = false;
  GemmActivation activation = GemmActivation::kNone;  // kRelu or kSilu
  bool keep_input = false;                            // of the activation
  bool derivative = false;
  bool multiplier = false;
  bool residual = false;
  double low = -2, high = 2;  // of the operands' elements

  std::string name() const {
    std::ostringstream text;
    text << M << " x " << N << " x " << K << " " << dtype_name(dtype) << " to " << dtype_name(out)
         << ", lhs " << static_cast<int>(lhs) << ", rhs " << static_cast<int>(rhs) << ", batch "
         << outer << " x " << batch;
    return text.str();
  }
};

// Memory on the device, and what it holds as the host knows it.
class Buffer {
 public:
  // `elements` of it, all bits set: NaN, or -1.
  Buffer(DType dtype, int64_t elements)
      : dtype_(dtype), bytes_(static_cast<size_t>(elements) * item_size(dtype), '\xff') {
    data_ = static_cast<char*>(backend(0).allocate(bytes_.size()));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { backend(0).deallocate(data_, bytes_.size()); }

  void set(int64_t at, double value) { set_element(place(at), dtype_, value); }
  double get(int64_t at) const {
    return element_value(const_cast<Buffer*>(this)->place(at), dtype_);
  }
  void send() { backend(0).copy_from_host(data_, bytes_.data(), bytes_.size()); }
  void fetch() { backend(0).copy_to_host(bytes_.data(), data_, bytes_.size()); }
  void* device(int64_t at = 0) const {
    return data_ + at * static_cast<int64_t>(item_size(dtype_));
  }
  const std::vector<char>& bytes() const { return bytes_; }
  void fill_random(Random& random, double low, double high) {
    for (size_t at = 0; at < bytes_.size() / item_size(dtype_); ++at) {
      set(static_cast<int64_t>(at), random.uniform(low, high));
    }
  }

 private:
  char* place(int64_t at) { return bytes_.data() + at * static_cast<int64_t>(item_size(dtype_)); }
  DType dtype_;
  std::vector<char> bytes_;
  char* data_;
};

// A batch of matrices as they lie.
struct Matrices {
  Matrices(DType dtype, Lie lie, int64_t rows, int64_t cols, int64_t batch, int64_t outer) {
    const bool transposed = lie == Lie::kColumns || lie == Lie::kPaddedT || lie == Lie::kOffsetT;
    const bool padded = lie == Lie::kPadded || lie == Lie::kPaddedT;
    operand.dtype = dtype;
    const int64_t inner = transposed ? rows : cols;
    const int64_t lines = transposed ? cols : rows;
    const int64_t element = lie == Lie::kScattered ? 2 : 1;
    // Odd, so that rows have no alignment at all; or one that an aligned row has.
    const int64_t line = lie == Lie::kScattered ? inner * 2 + 3
                         : padded               ? inner + 1 + inner % 2
                                                : (inner + 15) / 16 * 16;
    offset = lie == Lie::kOffset || lie == Lie::kOffsetT ? 1 : 0;
    operand.row_stride = transposed ? element : line;
    operand.col_stride = transposed ? line : element;
    operand.batch_stride = batch > 1 ? lines * line : 0;
    operand.outer_stride = outer > 1 ? batch * lines * line : 0;
    const int64_t last = offset + (outer - 1) * operand.outer_stride +
                         (batch - 1) * operand.batch_stride + (lines - 1) * line +
                         (inner - 1) * element;
    buffer = std::make_unique<Buffer>(dtype, last + 1);
    operand.data = buffer->device(offset);
  }
  int64_t at(int64_t outer, int64_t batch, int64_t row, int64_t col) const {
    return offset + outer * operand.outer_stride + batch * operand.batch_stride +
           row * operand.row_stride + col * operand.col_stride;
  }
  int64_t offset = 0;
  GemmOperand operand;
  std::unique_ptr<Buffer> buffer;
};

class Product {
 public:
  explicit Product(const ProductCase& of, uint64_t seed = 7)
      : c(of),
        random_(seed),
        lhs(c.dtype, c.lhs, c.M, c.K, c.batch, c.outer),
        rhs(c.dtype, c.rhs, c.K, c.N, c.broadcast_rhs ? 1 : c.batch, c.outer) {
    const auto fill = [&](Matrices& m, int64_t batch, int64_t rows, int64_t cols) {
      for (int64_t o = 0; o < c.outer; ++o) {
        for (int64_t b = 0; b < batch; ++b) {
          for (int64_t i = 0; i < rows; ++i) {
            for (int64_t j = 0; j < cols; ++j) {
              const double value = random_.uniform(c.low, c.high);
              m.buffer->set(m.at(o, b, i, j), c.dtype == DType::kInt8 ? value * 63 : value);
            }
          }
        }
      }
    };
    fill(lhs, c.batch, c.M, c.K);
    fill(rhs, c.broadcast_rhs ? 1 : c.batch, c.K, c.N);
    row_stride = c.N + c.out_gap;
    const int64_t count = c.outer * c.batch * c.M * row_stride;
    const auto make = [&](bool wanted) {
      if (!wanted) return std::unique_ptr<Buffer>();
      auto made = std::make_unique<Buffer>(c.out, count);
      made->fill_random(random_, -2, 2);
      return made;
    };
    out = std::make_unique<Buffer>(c.out, count);
    if (c.beta != 0) out->fill_random(random_, -2, 2);
    aux = make(c.keep_input || c.derivative);
    multiplier = make(c.multiplier);
    residual = make(c.residual);
    if (c.bias) {
      bias = std::make_unique<Buffer>(c.out, c.N);
      bias->fill_random(random_, -2, 2);
    }
    start_ = out->bytes();
  }

  GemmDesc desc() const {
    GemmDesc d;
    d.M = c.M;
    d.N = c.N;
    d.K = c.K;
    d.batch = c.batch;
    d.outer = c.outer;
    d.lhs = lhs.operand;
    d.rhs = rhs.operand;
    d.out = out->device();
    d.out_dtype = c.out;
    d.out_row_stride = row_stride;
    d.out_batch_stride = c.M * row_stride;
    d.out_outer_stride = c.batch * c.M * row_stride;
    d.alpha = c.alpha;
    d.beta = c.beta;
    d.precision = c.precision;
    d.bias_dtype = c.out;
    if (bias) d.bias = bias->device();
    d.epilogue.activation = c.activation;
    d.epilogue.derivative = c.derivative;
    if (aux) d.epilogue.aux = aux->device();
    if (multiplier) d.epilogue.multiplier = multiplier->device();
    if (residual) d.epilogue.residual = residual->device();
    return d;
  }

  // The product as body(desc) makes it; what `out` holds afterwards.
  template <class Body>
  std::vector<char> run(const Body& body) {
    for (Buffer* buffer : {lhs.buffer.get(), rhs.buffer.get(), out.get(), aux.get(),
                           multiplier.get(), residual.get(), bias.get()}) {
      if (buffer != nullptr && !(buffer == out.get() && !start_.empty())) buffer->send();
    }
    backend(0).copy_from_host(out->device(), start_.data(), start_.size());
    body(desc());
    out->fetch();
    if (c.keep_input) aux->fetch();
    return out->bytes();
  }

  // Expects every element of out within `units` of 2^-24 of the sum of magnitudes of the products
  // (with the number that a product's operands are rounded to first), and the rounding of out's
  // dtype, or within `least`; the gaps between rows untouched.
  template <class Rounding>
  void expect_result(double units, const Rounding& operand_value, double least = 0) const {
    const double step = c.out == DType::kBFloat16  ? 0x1p-8
                        : c.out == DType::kFloat16 ? 0x1p-11
                        : c.out == DType::kFloat32 ? 0x1p-24
                        : c.out == DType::kFloat64 ? 0x1p-53
                                                   : 0;
    const bool plain = c.activation == GemmActivation::kNone && !c.multiplier && !c.residual &&
                       c.beta == 0 && !c.bias;
    const auto value = [&](const Matrices& m, int64_t at) {
      return operand_value(m.buffer->get(at));
    };
    Values columns(static_cast<size_t>(c.N * c.K));
    for (int64_t o = 0; o < c.outer; ++o) {
      for (int64_t b = 0; b < c.batch; ++b) {
        for (int64_t j = 0; j < c.N; ++j) {
          for (int64_t k = 0; k < c.K; ++k) {
            columns[static_cast<size_t>(j * c.K + k)] =
                value(rhs, rhs.at(o, c.broadcast_rhs ? 0 : b, k, j));
          }
        }
        Values row(static_cast<size_t>(c.K));
        for (int64_t i = 0; i < c.M; ++i) {
          for (int64_t k = 0; k < c.K; ++k) {
            row[static_cast<size_t>(k)] = value(lhs, lhs.at(o, b, i, k));
          }
          const int64_t first = ((o * c.batch + b) * c.M + i) * row_stride;
          for (int64_t j = 0; j < c.N; ++j) {
            double sum = 0;
            double magnitude = 0;
            for (size_t k = 0; k < row.size(); ++k) {
              const double product = row[k] * columns[static_cast<size_t>(j * c.K) + k];
              sum += product;
              magnitude += std::abs(product);
            }
            const int64_t at = first + j;
            sum *= c.alpha;
            magnitude *= std::abs(c.alpha);
            if (!plain) magnitude += add_epilogue(at, j, sum);
            const double got = out->get(at);
            const double error = units * 0x1p-24 * magnitude + step * std::abs(sum) +
                                 (c.out == DType::kFloat16 ? 0x1p-24 : 0) + least;
            if (!close(got, sum, error, c.name(), i, j)) return;
          }
          for (int64_t j = c.N; j < row_stride; ++j) expect_untouched(first + j);
        }
      }
    }
  }
  void expect_result(double units) const {
    expect_result(units, [](double value) { return value; });
  }

  static bool close(double got, double expected, double error, const std::string& what, int64_t i,
                    int64_t j) {
    const bool good = std::isnan(expected)   ? std::isnan(got)
                      : std::isinf(expected) ? got == expected
                                             : std::abs(got - expected) <= error;
    EXPECT(good, what + " [" + std::to_string(i) + "][" + std::to_string(j) + "] is " + shown(got) +
                     ", expected " + shown(expected) + " within " + shown(error));
    return good;
  }

  const ProductCase c;

 private:
  Random random_;

 public:
  Matrices lhs;
  Matrices rhs;
  int64_t row_stride;
  std::unique_ptr<Buffer> out, aux, multiplier, residual, bias;

 private:
  double start_value(int64_t at) const {
    return element_value(start_.data() + at * static_cast<int64_t>(item_size(c.out)), c.out);
  }
  void expect_untouched(int64_t at) const {
    const auto item = static_cast<int64_t>(item_size(c.out));
    EXPECT(std::memcmp(out->bytes().data() + at * item, start_.data() + at * item,
                       static_cast<size_t>(item)) == 0,
           c.name() + ": the gap at " + std::to_string(at) + " is written");
  }

  // What GemmDesc and its epilogue make of a sum; returns what it adds to the sum's magnitude.
  double add_epilogue(int64_t at, int64_t column, double& value) const {
    double magnitude = 0;
    if (c.beta != 0) {
      value += c.beta * start_value(at);
      magnitude += std::abs(c.beta * start_value(at));
    }
    if (bias) {
      value += bias->get(column);
      magnitude += std::abs(bias->get(column));
    }
    const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
    if (c.derivative) {
      const double x = aux->get(at);
      const double s = 1 / (1 + std::exp(-x));
      value *= c.activation == GemmActivation::kRelu ? (x > 0 ? 1 : 0) : s * (1 + x * (1 - s));
    } else {
      if (c.keep_input) {
        close(aux->get(at), value, 0x1p-7 * (std::abs(value) + magnitude), c.name() + ", input of",
              at, column);
      }
      if (c.activation == GemmActivation::kRelu) value = value > 0 ? value : 0;
      if (c.activation == GemmActivation::kSilu) value = silu(value);
    }
    if (multiplier) value *= multiplier->get(at);
    if (residual) value += residual->get(at);
    // Derivatives and factors are at most two.
    return magnitude + (multiplier || c.derivative ? 64 : 16) * (1 + std::abs(value) + magnitude);
  }

  std::vector<char> start_;  // what out holds before
};

}  // namespace mixprec::cuda::testing
