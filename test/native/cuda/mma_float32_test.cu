// Products of float32 by mma.sync, rounded first or not.
#include "mma_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

const std::vector<DType> kOuts = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
double same(double value) { return value; }
double tf32(double value) { return round_to_tf32(static_cast<float>(value)); }
double bf16(double value) { return rounded(value, DType::kBFloat16); }
double steps(int64_t K, int64_t depth) { return static_cast<double>((K + depth - 1) / depth); }

const Kind kHigh = {MmaKind::kTf32,
                    DType::kFloat32,
                    MatmulPrecision::kHigh,
                    tf32,
                    [](int64_t K) { return 2 + 2 * steps(K, 8); },
                    kOuts};
const Kind kMedium = {MmaKind::kTf32,
                      DType::kFloat32,
                      MatmulPrecision::kMedium,
                      bf16,
                      [](int64_t K) { return 2 + 2 * steps(K, 16); },
                      kOuts};
// Six steps to each 16 steps of k, the sums of 64 of which are added up in float32.
const Kind kHighest = {
    MmaKind::kFloat32,
    DType::kFloat32,
    MatmulPrecision::kHighest,
    same,
    [](int64_t K) { return 2 + 12 * std::min(steps(K, 16), 4.0) + steps(K, 64); },
    kOuts};

// The error of a product, relative to its size, and that of a loop of fused multiply-adds.
void expect_no_worse_than_float32(double low, double high) {
  ProductCase c = case_of(kHighest, {24, 24, 1024});
  c.low = low;
  c.high = high;
  Product product(c);
  each_variant(kHighest, [&](int32_t variant, const MmaTile&) {
    run(product, variant);
    double size = 0;
    double error = 0;
    double plain_error = 0;
    for (int64_t i = 0; i < c.M; ++i) {
      for (int64_t j = 0; j < c.N; ++j) {
        double sum = 0;
        float plain = 0;
        for (int64_t k = 0; k < c.K; ++k) {
          const double a = product.lhs.buffer->get(product.lhs.at(0, 0, i, k));
          const double b = product.rhs.buffer->get(product.rhs.at(0, 0, k, j));
          sum += a * b;
          plain = std::fma(static_cast<float>(a), static_cast<float>(b), plain);
        }
        const auto square = [](double x) { return x * x; };
        size += square(sum);
        error += square(product.out->get(i * product.row_stride + j) - sum);
        plain_error += square(plain - sum);
      }
    }
    EXPECT(error <= plain_error, "error " + shown(std::sqrt(error / size)) + " in the place of " +
                                     shown(std::sqrt(plain_error / size)));
  });
}

}  // namespace

DEVICE_TEST(80, "products of float32 rounded to TF32") { expect_products({kHigh}); }
DEVICE_TEST(80, "products of float32 rounded to bfloat16") { expect_products({kMedium}); }
DEVICE_TEST(80, "products of float32 in three planes") { expect_products({kHighest}); }

DEVICE_TEST(80, "three planes are as accurate as float32") {
  expect_no_worse_than_float32(-2, 2);
  expect_no_worse_than_float32(0, 1);
#if defined(MIXPREC_CUDA_EMULATED)
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kTruncating);
  expect_no_worse_than_float32(-2, 2);
  expect_no_worse_than_float32(0, 1);
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kExact);
#endif
}

// One pair of scales after the other in lhs and rhs, from the least float32 to the largest.
DEVICE_TEST(80, "three planes have the exponents of float32") {
  struct Scales {
    double lhs, rhs;
  };
  for (const Scales& scales :
       {Scales{0x1p-149, 0x1p100}, Scales{0x1p-130, 0x1p127}, Scales{0x1p-126, 1},
        Scales{0x1p-120, 0x1p100}, Scales{0x1p-110, 0x1p-20}, Scales{0x1p-70, 0x1p-70},
        Scales{0x1p104, 1}, Scales{0x1p125, 0x1p-126}, Scales{0x1p60, 0x1p60},
        Scales{0x1p40, 0x1p43}, Scales{0x1p127, 0x1p-149}}) {
    each_variant(kHighest, [&](int32_t variant, const MmaTile&) {
      ProductCase c = case_of(kHighest, {9, 17, 70});
      c.low = 1;
      c.high = 1.999;
      Product product(c);
      const auto scale = [](Matrices& m, int64_t rows, int64_t cols, double by) {
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < cols; ++j) {
            const int64_t at = m.at(0, 0, i, j);
            m.buffer->set(at, m.buffer->get(at) * by);
          }
        }
      };
      scale(product.lhs, c.M, c.K, scales.lhs);
      scale(product.rhs, c.K, c.N, scales.rhs);
      run(product, variant);
      // Sums of subnormal products lose what float32 has no bits for, K times at most.
      product.expect_result(kHighest.units(c.K), same, static_cast<double>(c.K) * 0x1p-149);
    });
  }
}

DEVICE_TEST(80, "three planes overflow where float32 does") {
  each_variant(kHighest, [&](int32_t variant, const MmaTile& tile) {
    ProductCase c = case_of(kHighest, {tile.m + 1, 3, 2});
    Product product(c);
    const auto set = [](Matrices& m, int64_t i, int64_t j, double x) {
      m.buffer->set(m.at(0, 0, i, j), x);
    };
    // The largest float32 rounds up to infinity as bfloat16.
    const double most = std::numeric_limits<float>::max();
    for (int64_t row = 0; row < c.M; ++row) {
      set(product.lhs, row, 0, row == 1 ? most : row == 2 ? -0x1p100 : 1);
      set(product.lhs, row, 1, 0);
    }
    for (int64_t column = 0; column < 3; ++column) {
      set(product.rhs, 0, column, column == 0 ? 1 : column == 1 ? 0x1p90 : 0x1p-30);
      set(product.rhs, 1, column, 1);
    }
    run(product, variant);
    const auto out = [&](int64_t row, int64_t column) {
      return product.out->get(row * product.row_stride + column);
    };
    const double inf = std::numeric_limits<double>::infinity();
    EXPECT_EQ(out(0, 0), 1.0);
    EXPECT_EQ(out(1, 0), most);
    EXPECT_EQ(out(1, 1), inf);
    EXPECT_EQ(out(1, 2), most * 0x1p-30);
    EXPECT_EQ(out(2, 1), -inf);
    EXPECT_EQ(out(2, 2), -0x1p70);
    EXPECT_EQ(out(tile.m, 1), 0x1p90);
  });
}
