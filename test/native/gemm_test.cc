// GEMM against sums in float64, at every instruction set this processor has: the executable runs
// itself once more for each lower one. Whole numbers make most sums exact, so that results are
// compared bit for bit; the others have the error bound of a float32 sum.
#include "cpu/gemm/gemm.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/errors.h"
#include "cpu/isa.h"
#include "cpu/thread_pool.h"

namespace {

using namespace mixprec;

int failures = 0;

void fail(const std::string& what) {
  if (++failures <= 20) std::printf("%s: %s\n", cpu::isa_name(cpu::isa()), what.c_str());
}

uint32_t random_state = 1;
uint32_t random_bits() {
  random_state = random_state * 1664525u + 1013904223u;
  return random_state >> 8;
}
int64_t random_below(int64_t n) { return static_cast<int64_t>(random_bits()) % n; }

double read(const char* p, DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return *reinterpret_cast<const double*>(p);
    case DType::kFloat32:
      return *reinterpret_cast<const float*>(p);
    case DType::kFloat16:
      return to_float(*reinterpret_cast<const Float16*>(p));
    case DType::kBFloat16:
      return to_float(*reinterpret_cast<const BFloat16*>(p));
    case DType::kInt64:
      return static_cast<double>(*reinterpret_cast<const int64_t*>(p));
    case DType::kInt32:
      return *reinterpret_cast<const int32_t*>(p);
    case DType::kInt8:
      return *reinterpret_cast<const int8_t*>(p);
    case DType::kUInt8:
    case DType::kBool:
      return *reinterpret_cast<const uint8_t*>(p);
  }
  return 0;
}

void write(char* p, DType dtype, double value) {
  switch (dtype) {
    case DType::kFloat64:
      *reinterpret_cast<double*>(p) = value;
      break;
    case DType::kFloat32:
      *reinterpret_cast<float*>(p) = static_cast<float>(value);
      break;
    case DType::kFloat16:
      *reinterpret_cast<Float16*>(p) = to_float16(static_cast<float>(value));
      break;
    case DType::kBFloat16:
      *reinterpret_cast<BFloat16*>(p) = to_bfloat16(static_cast<float>(value));
      break;
    case DType::kInt64:
      *reinterpret_cast<int64_t*>(p) = static_cast<int64_t>(value);
      break;
    case DType::kInt32:
      *reinterpret_cast<int32_t*>(p) = static_cast<int32_t>(value);
      break;
    case DType::kInt8:
    case DType::kUInt8:
      *reinterpret_cast<uint8_t*>(p) = static_cast<uint8_t>(static_cast<int64_t>(value));
      break;
    case DType::kBool:
      *reinterpret_cast<uint8_t*>(p) = value != 0;
      break;
  }
}

// An operand and exactly the memory that its strides span: one element less would be an overrun.
enum class Layout { kRows, kPaddedRows, kColumns, kPaddedColumns, kStrided, kBroadcast };
constexpr int kLayouts = 6;

struct Matrix {
  std::vector<char> memory;
  GemmOperand operand;

  Matrix(int64_t batch, int64_t rows, int64_t cols, DType dtype, Layout layout) {
    operand.dtype = dtype;
    switch (layout) {
      case Layout::kRows:
      case Layout::kBroadcast:
        operand.row_stride = cols;
        operand.col_stride = 1;
        break;
      case Layout::kPaddedRows:
        operand.row_stride = cols + 3;
        operand.col_stride = 1;
        break;
      case Layout::kColumns:
        operand.row_stride = 1;
        operand.col_stride = rows;
        break;
      case Layout::kPaddedColumns:
        operand.row_stride = 1;
        operand.col_stride = rows + 5;
        break;
      case Layout::kStrided:
        operand.row_stride = 2;
        operand.col_stride = 2 * rows + 1;
        break;
    }
    const int64_t span = rows == 0 || cols == 0 ? 0
                                                : (rows - 1) * operand.row_stride +
                                                      (cols - 1) * operand.col_stride + 1;
    operand.batch_stride = layout == Layout::kBroadcast ? 0 : span;
    const int64_t matrices = layout == Layout::kBroadcast ? 1 : batch;
    memory.resize(static_cast<size_t>(span * matrices) * item_size(dtype));
    operand.data = memory.data();
  }

  template <class Next>
  void fill(const Next& next) {
    const size_t item = item_size(operand.dtype);
    for (size_t at = 0; at < memory.size(); at += item) {
      write(memory.data() + at, operand.dtype, next());
    }
  }

  // [batch, extent, K], rounded as gemm reads it; `extent` is of columns if `transposed`.
  std::vector<double> widened(int64_t batch, int64_t extent, int64_t K, bool transposed,
                              MatmulPrecision precision) const {
    const int64_t extent_stride = transposed ? operand.col_stride : operand.row_stride;
    const int64_t k_stride = transposed ? operand.row_stride : operand.col_stride;
    std::vector<double> result;
    result.reserve(static_cast<size_t>(batch * extent * K));
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t i = 0; i < extent; ++i) {
        for (int64_t k = 0; k < K; ++k) {
          const int64_t at = b * operand.batch_stride + i * extent_stride + k * k_stride;
          result.push_back(rounded(at, precision));
        }
      }
    }
    return result;
  }

 private:
  double rounded(int64_t at, MatmulPrecision precision) const {
    const auto item = static_cast<int64_t>(item_size(operand.dtype));
    const double value = read(memory.data() + at * item, operand.dtype);
    if (operand.dtype != DType::kFloat32) return value;
    const auto value32 = static_cast<float>(value);
    if (precision == MatmulPrecision::kHigh) return round_to_tf32(value32);
    if (precision == MatmulPrecision::kMedium) return to_float(to_bfloat16(value32));
    return value;
  }
};

struct Case {
  int64_t batch = 1, M = 1, N = 1, K = 1;
  DType lhs = DType::kFloat32, rhs = DType::kFloat32, out = DType::kFloat32;
  Layout lhs_layout = Layout::kRows, rhs_layout = Layout::kRows;
  MatmulPrecision precision = MatmulPrecision::kHighest;
  double alpha = 1, beta = 0;
  bool bias = false;
  DType bias_dtype = DType::kFloat32;
  int64_t padding = 0;  // of the output's rows

  std::string name() const {
    char text[256];
    std::snprintf(text, sizeof text,
                  "batch %d, %d x %d x %d, %s x %s -> %s, layouts %d %d, precision %d, alpha %g, "
                  "beta %g, bias %d, padding %d",
                  static_cast<int>(batch), static_cast<int>(M), static_cast<int>(N),
                  static_cast<int>(K), dtype_name(lhs), dtype_name(rhs), dtype_name(out),
                  static_cast<int>(lhs_layout), static_cast<int>(rhs_layout),
                  static_cast<int>(precision), alpha, beta, bias, static_cast<int>(padding));
    return text;
  }
};

// Runs a case and compares it with the reference. `exact`: values are small whole numbers, and
// every sum is exact before it is rounded to the output's type; if not, they are any in [-1, 1).
std::vector<char> run(const Case& c, bool exact) {
  const auto next = [&] {
    if (exact) return static_cast<double>(random_below(7)) - (c.lhs == DType::kUInt8 ? 0 : 3);
    return static_cast<double>(random_bits()) / (1 << 23) - 1;
  };
  Matrix lhs(c.batch, c.M, c.K, c.lhs, c.lhs_layout);
  Matrix rhs(c.batch, c.K, c.N, c.rhs, c.rhs_layout);
  Matrix out(c.batch, c.M, c.N + c.padding, c.out, Layout::kRows);
  Matrix bias(1, 1, c.N, c.bias_dtype, Layout::kRows);
  lhs.fill(next);
  rhs.fill(next);
  bias.fill(next);
  out.fill(next);
  if (c.beta == 0 && is_floating(c.out)) {  // what must not be read
    for (int64_t i = 0; i < c.batch * c.M * (c.N + c.padding); ++i) {
      if (i % (c.N + c.padding) >= c.N) continue;
      write(out.memory.data() + i * static_cast<int64_t>(item_size(c.out)), c.out, std::nan(""));
    }
  }
  const Matrix before = out;
  GemmDesc desc;
  desc.M = c.M;
  desc.N = c.N;
  desc.K = c.K;
  desc.batch = c.batch;
  desc.lhs = lhs.operand;
  desc.rhs = rhs.operand;
  desc.out = out.memory.data();
  desc.out_dtype = c.out;
  desc.out_row_stride = c.N + c.padding;
  desc.out_batch_stride = c.M * (c.N + c.padding);
  desc.bias = c.bias ? bias.memory.data() : nullptr;
  desc.bias_dtype = c.bias_dtype;
  desc.alpha = c.alpha;
  desc.beta = c.beta;
  desc.precision = c.precision;
  cpu::gemm(desc);

  const std::vector<double> lhs_rows = lhs.widened(c.batch, c.M, c.K, false, c.precision);
  const std::vector<double> rhs_columns = rhs.widened(c.batch, c.N, c.K, true, c.precision);
  const auto item = static_cast<int64_t>(item_size(c.out));
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t i = 0; i < c.M; ++i) {
      for (int64_t j = 0; j < c.N + c.padding; ++j) {
        const int64_t at = (((b * c.M) + i) * (c.N + c.padding) + j) * item;
        char expected[8];
        double magnitude = 0;
        std::memcpy(expected, before.memory.data() + at, static_cast<size_t>(item));
        if (j < c.N) {
          double sum = 0;
          const double* left = lhs_rows.data() + (b * c.M + i) * c.K;
          const double* right = rhs_columns.data() + (b * c.N + j) * c.K;
          for (int64_t k = 0; k < c.K; ++k) {
            const double product = left[k] * right[k];
            sum += product;
            magnitude += std::fabs(product);
          }
          sum *= c.alpha;
          magnitude = magnitude * std::fabs(c.alpha) + std::fabs(sum) + 3;
          if (c.beta != 0) sum += c.beta * read(before.memory.data() + at, c.out);
          if (c.bias)
            sum += read(bias.memory.data() + j * static_cast<int64_t>(item_size(c.bias_dtype)),
                        c.bias_dtype);
          write(expected, c.out, sum);
        }
        const double wanted = read(expected, c.out);
        const double got = read(out.memory.data() + at, c.out);
        if (exact || j >= c.N ? wanted == got : false) continue;
        const double eps = c.out == DType::kFloat64 ? 0x1p-53 : 0x1p-24;
        const double rounding = c.out == DType::kFloat16    ? 0x1p-10
                                : c.out == DType::kBFloat16 ? 0x1p-7
                                                            : 0.0;
        const double bound =
            magnitude * eps * static_cast<double>(c.K + 4) + rounding * std::fabs(wanted);
        if (!exact && j < c.N && std::fabs(got - wanted) <= bound) continue;
        char text[160];
        std::snprintf(text, sizeof text, "[%d, %d, %d] is %.9g, not %.9g: ", static_cast<int>(b),
                      static_cast<int>(i), static_cast<int>(j), got, wanted);
        fail(text + c.name());
        return out.memory;
      }
    }
  }
  return out.memory;
}

constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
constexpr DType kIntegers[] = {DType::kInt64, DType::kInt32, DType::kInt8, DType::kUInt8,
                               DType::kBool};

// Every pair of layouts at sizes around those of tiles and vectors, the rest drawn by lot.
void test_shapes_and_layouts() {
  for (const int64_t M : {1, 2, 5, 6, 7, 13, 14, 15, 31}) {
    for (const int64_t N : {1, 3, 8, 15, 16, 17, 32, 33, 70}) {
      for (const int64_t K : {0, 1, 7, 16, 33, 100, 390}) {
        for (int layouts = 0; layouts < kLayouts * kLayouts; ++layouts) {
          if (random_below(K > 100 ? 24 : K > 30 ? 6 : 2) != 0) continue;
          Case c;
          c.M = M;
          c.N = N;
          c.K = K;
          c.batch = 1 + random_below(3);
          c.lhs_layout = static_cast<Layout>(layouts % kLayouts);
          c.rhs_layout = static_cast<Layout>(layouts / kLayouts);
          c.alpha = random_below(2) == 0 ? 1 : 0.5;
          c.beta = std::vector<double>{0, 1, -2}[static_cast<size_t>(random_below(3))];
          c.bias = random_below(2) == 0;
          c.padding = random_below(2) * 5;
          if (random_below(5) == 0) {
            c.lhs = c.rhs = c.out = c.bias_dtype = DType::kFloat64;
          } else {
            c.lhs = kFloats[random_below(3)];
            c.rhs = kFloats[random_below(3)];
            c.out = kFloats[random_below(3)];
            c.bias_dtype = kFloats[random_below(3)];
            c.precision = static_cast<MatmulPrecision>(random_below(3));
          }
          run(c, true);
        }
      }
    }
  }
}

// Beyond one region, one block of columns and one block of depth, and long vectors.
void test_large() {
  struct Size {
    int64_t M, N, K;
  };
  for (const Size size : {Size{1100, 40, 30}, Size{33, 1100, 30}, Size{40, 450, 800},
                          Size{1, 5000, 70}, Size{5000, 1, 70}, Size{3, 2, 5000}}) {
    for (int layouts = 0; layouts < 4; ++layouts) {
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
        Case c;
        c.M = size.M;
        c.N = size.N;
        c.K = size.K;
        c.lhs = c.rhs = c.out = dtype;
        c.lhs_layout = layouts % 2 == 0 ? Layout::kRows : Layout::kColumns;
        c.rhs_layout = layouts / 2 == 0 ? Layout::kRows : Layout::kColumns;
        c.bias = true;
        c.bias_dtype = dtype;
        run(c, true);
      }
    }
  }
}

void test_integers() {
  for (const DType lhs : kIntegers) {
    for (const DType rhs : kIntegers) {
      for (const DType out : kIntegers) {
        for (int layouts = 0; layouts < kLayouts * kLayouts; layouts += 5) {
          Case c;
          c.batch = 2;
          c.M = 1 + random_below(9);
          c.N = 1 + random_below(40);
          c.K = random_below(20);
          c.lhs = lhs;
          c.rhs = rhs;
          c.out = out;
          c.lhs_layout = static_cast<Layout>(layouts % kLayouts);
          c.rhs_layout = static_cast<Layout>(layouts / kLayouts);
          c.alpha = 1 + static_cast<double>(random_below(2));
          c.beta = static_cast<double>(random_below(3)) - 1;
          c.bias = random_below(2) == 0;
          c.bias_dtype = out;
          run(c, true);
        }
      }
    }
  }
  const int64_t lhs = std::numeric_limits<int64_t>::max();
  const int64_t rhs = 3;
  int64_t out = 0;
  GemmDesc desc;
  desc.M = desc.N = desc.K = 1;
  desc.lhs = {&lhs, DType::kInt64, 1, 1, 0};
  desc.rhs = {&rhs, DType::kInt64, 1, 1, 0};
  desc.out = &out;
  desc.out_dtype = DType::kInt64;
  desc.out_row_stride = 1;
  cpu::gemm(desc);
  if (out != std::numeric_limits<int64_t>::max() - 2) fail("int64 does not wrap around");
}

// Fractions: within the bound of a float32 (float64) sum at every precision.
void test_accuracy() {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64}) {
    for (int precision = 0; precision < 3; ++precision) {
      for (int layouts = 0; layouts < 4; ++layouts) {
        for (const int64_t M : {1, 20}) {
          Case c;
          c.M = M;
          c.N = 50;
          c.K = 500;
          c.lhs = c.rhs = dtype;
          c.out = layouts == 3 && dtype != DType::kFloat64 ? DType::kFloat32 : dtype;
          c.lhs_layout = layouts % 2 == 0 ? Layout::kRows : Layout::kColumns;
          c.rhs_layout = layouts / 2 == 0 ? Layout::kRows : Layout::kColumns;
          c.precision = static_cast<MatmulPrecision>(precision);
          run(c, false);
        }
      }
    }
  }
}

GemmDesc describe(const float* lhs, const float* rhs, void* out, int64_t M, int64_t N, int64_t K) {
  GemmDesc desc;
  desc.M = M;
  desc.N = N;
  desc.K = K;
  desc.lhs = {lhs, DType::kFloat32, K, 1, 0};
  desc.rhs = {rhs, DType::kFloat32, N, 1, 0};
  desc.out = out;
  desc.out_row_stride = N;
  return desc;
}

bool same(float a, float b) { return float_bits(a) == float_bits(b) || (a != a && b != b); }

// Times 1, any bit pattern shows how it was rounded as it was read, and as it was written.
void test_rounding() {
  std::vector<float> x;
  for (const uint32_t bits :
       {0u,          1u,          0x7fffffu,   0x800000u,   0x3f800000u, 0x3f800fffu,
        0x3f801000u, 0x3f801001u, 0x3f803000u, 0x3f807fffu, 0x3f808000u, 0x3f808001u,
        0x3f818000u, 0x477fefffu, 0x477ff000u, 0x33000000u, 0x33000001u, 0x387fc000u,
        0x387fe000u, 0x7f7fffffu, 0x7f800000u, 0x7f800001u, 0x7fc00000u, 0x7fffffffu}) {
    x.push_back(float_from_bits(bits));
    x.push_back(float_from_bits(bits | 0x80000000u));
  }
  for (int i = 0; i < 1000; ++i) x.push_back(float_from_bits(random_bits() << 8 ^ random_bits()));
  const auto n = static_cast<int64_t>(x.size());
  for (const int64_t copies : {1, 2, 20}) {  // rows of the vector path, rows of tiles
    const std::vector<float> ones(static_cast<size_t>(copies), 1.0f);
    std::vector<float> out(x.size() * ones.size());
    std::vector<BFloat16> out16(out.size());
    for (int precision = 0; precision < 3; ++precision) {
      GemmDesc desc = describe(ones.data(), x.data(), out.data(), copies, n, 1);
      desc.precision = static_cast<MatmulPrecision>(precision);
      cpu::gemm(desc);
      for (size_t i = 0; i < out.size(); ++i) {
        const float value = x[i % x.size()];
        const float wanted = precision == 1   ? round_to_tf32(value)
                             : precision == 2 ? to_float(to_bfloat16(value))
                                              : value;
        // A sum begins with +0, to which -0 is added.
        if (!same(out[i], wanted + 0.0f))
          fail("rounded wrongly at precision " + std::to_string(precision));
      }
      for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
        desc.precision = MatmulPrecision::kHighest;
        desc.out = out16.data();
        desc.out_dtype = dtype;
        cpu::gemm(desc);
        for (size_t i = 0; i < out.size(); ++i) {
          const float value = x[i % x.size()] + 0.0f;
          const bool half = dtype == DType::kFloat16;
          const float got = half ? to_float(Float16{out16[i].bits}) : to_float(out16[i]);
          const float wanted = half ? to_float(to_float16(value)) : to_float(to_bfloat16(value));
          if (!same(got, wanted)) fail(std::string("stored wrongly as ") + dtype_name(dtype));
        }
      }
    }
  }
}

// A NaN or an infinity reaches its row and column, and nothing else.
void test_special_values() {
  const int64_t M = 20, N = 37, K = 50;
  std::vector<float> lhs(M * K, 1.0f), rhs(K * N, 1.0f), out(M * N);
  lhs[3 * K + 7] = std::nanf("");
  rhs[11 * N + 35] = std::numeric_limits<float>::infinity();
  cpu::gemm(describe(lhs.data(), rhs.data(), out.data(), M, N, K));
  for (int64_t i = 0; i < M; ++i) {
    for (int64_t j = 0; j < N; ++j) {
      const float got = out[static_cast<size_t>(i * N + j)];
      const bool right = i == 3 ? std::isnan(got) : j == 35 ? std::isinf(got) && got > 0 : got == K;
      if (!right) fail("a special value went astray");
    }
  }
}

// The same bits with any number of threads, alone and inside a parallel region.
void test_threads() {
  const int initial = cpu::num_threads();
  for (const DType out : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    struct Size {
      int64_t batch, M, N, K;
    };
    for (const Size size : {Size{1, 150, 170, 500}, Size{5, 40, 50, 60}, Size{1, 1, 900, 800},
                            Size{3, 1, 100, 700}, Size{1, 700, 33, 129}}) {
      std::vector<char> first;
      for (const int threads : {1, 2, 3, 7}) {
        cpu::set_num_threads(threads);
        Case c;
        c.batch = size.batch;
        c.M = size.M;
        c.N = size.N;
        c.K = size.K;
        c.lhs = c.rhs = c.out = out;
        c.bias = true;
        c.bias_dtype = out;
        random_state = 5;
        const std::vector<char> bytes = run(c, false);
        if (first.empty()) first = bytes;
        if (bytes != first) fail("another number of threads changes " + c.name());
      }
    }
  }
  cpu::set_num_threads(3);
  const int64_t n = 100;
  std::vector<float> x(n * n);
  for (float& value : x) value = static_cast<float>(random_bits()) / (1 << 23) - 1;
  std::vector<float> alone(n * n);
  cpu::gemm(describe(x.data(), x.data(), alone.data(), n, n, n));
  std::vector<std::vector<float>> nested(6, std::vector<float>(n * n));
  cpu::parallel_for(6, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cpu::gemm(describe(x.data(), x.data(), nested[static_cast<size_t>(i)].data(), n, n, n));
    }
  });
  for (const auto& one : nested) {
    if (one != alone) fail("a product inside a parallel region differs");
  }
  cpu::set_num_threads(initial);
}

void test_empty_and_wrong() {
  float out[4] = {1, 2, 3, 4};
  for (const int64_t M : {0, 2}) {
    GemmDesc desc = describe(nullptr, nullptr, out, M, M == 0 ? 2 : 0, 5);
    cpu::gemm(desc);
    desc = describe(nullptr, nullptr, out, 2, 2, 0);
    desc.batch = 0;
    cpu::gemm(desc);
  }
  if (out[0] != 1 || out[3] != 4) fail("an empty product wrote something");
  double wide[4] = {};
  GemmDesc mixed = describe(out, out, out, 2, 2, 2);
  mixed.lhs = {wide, DType::kFloat64, 2, 1, 0};
  try {
    cpu::gemm(mixed);
    fail("float64 was multiplied with float32");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInternal) fail("a wrong description got another error");
  }
}

// Runs this executable at the lower instruction sets; the level of a process is fixed.
void run_lower_levels(const char* executable) {
  if (std::getenv("MIXPREC_CPU_ISA") != nullptr) return;
  for (int level = 0; level < static_cast<int>(cpu::isa()); ++level) {
    setenv("MIXPREC_CPU_ISA", cpu::isa_name(static_cast<cpu::Isa>(level)), 1);
    if (std::system(("\"" + std::string(executable) + "\"").c_str()) != 0) ++failures;
  }
}

}  // namespace

int main(int, char** arguments) {
  test_shapes_and_layouts();
  test_large();
  test_integers();
  test_accuracy();
  test_rounding();
  test_special_values();
  test_threads();
  test_empty_and_wrong();
  run_lower_levels(arguments[0]);
  if (failures > 0) std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
