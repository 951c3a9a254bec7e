// Products of a matrix and a few vectors: either side, every layout and alignment, any number of
// vectors.
#include "cuda/gemm/gemv.h"
#include "product_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

std::vector<char> run(Product& product, int32_t splits = 1) {
  GemmConfig config;
  config.family = GemmFamily::kGemv;
  config.splits = splits;
  return product.run([&](const GemmDesc& desc) {
    EXPECT(gemv_supports(desc), product.c.name());
    gemv_gemm(cuda::backend(0), desc, config);
  });
}

// Sums of K rounded products in float32, in any order, by way of partial sums.
double units(int64_t K) { return 2 + static_cast<double>(K) / 8; }

void check(const ProductCase& c, uint64_t seed, int32_t splits = 1) {
  Product product(c, seed);
  run(product, splits);
  product.expect_result(units(c.K), [&](double value) {
    const auto narrow = static_cast<float>(value);
    if (c.dtype != DType::kFloat32 || c.precision == MatmulPrecision::kHighest) return value;
    return static_cast<double>(c.precision == MatmulPrecision::kHigh
                                   ? round_to_tf32(narrow)
                                   : to_float(to_bfloat16(narrow)));
  });
}

const std::vector<DType> kGemvFloats = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Vectors on the left, if any, and a column on the right.
std::vector<ProductCase> product_cases() {
  std::vector<ProductCase> made;
  for (const int64_t M : {1, 2, 4, 5, 9, 16}) {
    for (const int64_t N : {1, 7, 130}) {
      for (const int64_t K : {1, 31, 560}) {
        ProductCase c;
        c.M = M;
        c.N = N;
        c.K = K;
        made.push_back(c);
        if (M == 5) {
          c.M = N * 3 + 1;
          c.N = 1;
          made.push_back(c);
        }
      }
    }
  }
  return made;
}

}  // namespace

DEVICE_TEST(80, "vectors times matrices of all layouts and alignments") {
  size_t at = 0;
  for (ProductCase c : product_cases()) {
    for (const Lie matrix : kAllLies) {
      const bool one_column = c.N == 1;
      (one_column ? c.lhs : c.rhs) = matrix;
      (one_column ? c.rhs : c.lhs) = kAllLies[at * 3 % kAllLies.size()];
      c.dtype = kGemvFloats[at % 3];
      c.out = kGemvFloats[at / 3 % 3];
      c.precision = static_cast<MatmulPrecision>(at / 2 % 3);
      c.out_gap = static_cast<int64_t>(at % 5);
      check(c, ++at);
    }
  }
}

DEVICE_TEST(80, "vectors and matrices in any order of threads, twice the same") {
  for (const Lie lie : {Lie::kRows, Lie::kColumns}) {
    for (const int64_t M : {1, 3, 9}) {
      ProductCase c;
      c.M = M;
      c.N = 40;
      c.K = 2100;
      c.rhs = lie;
      Product product(c);
      std::vector<char> first;
      each_order([&] {
        const std::vector<char> result = run(product);
        product.expect_result(units(c.K));
        if (first.empty()) first = result;
        EXPECT(result == first, c.name() + ": another result in another order");
      });
    }
  }
}

DEVICE_TEST(80, "vectors and matrices in batches, shares of K and what follows") {
  for (const Lie lie : {Lie::kRows, Lie::kColumns}) {
    for (const int64_t M : {12, 30}) {
      ProductCase c;
      c.M = M;
      c.N = M == 12 ? 45 : 1;
      c.K = 250;
      (M == 12 ? c.rhs : c.lhs) = lie;
      c.batch = 3;
      c.outer = 2;
      c.dtype = DType::kFloat16;
      c.out = DType::kFloat16;
      c.alpha = 0.5;
      c.beta = 0.25;
      c.bias = true;
      c.activation = GemmActivation::kSilu;
      c.residual = true;
      check(c, 1);
      check(c, 2, 3);
      c.broadcast_rhs = true;
      c.derivative = true;
      c.multiplier = true;
      check(c, 3);
      check(c, 4, 40);
    }
  }
}

DEVICE_TEST(80, "infinities and NaN of vectors and matrices go where they belong") {
  for (const Lie lie : {Lie::kRows, Lie::kColumns}) {
    ProductCase c;
    c.M = 2;
    c.N = 50;
    c.K = 70;
    c.rhs = lie;
    Product product(c);
    const double inf = std::numeric_limits<double>::infinity();
    product.rhs.buffer->set(product.rhs.at(0, 0, 69, 1), std::nan(""));
    product.rhs.buffer->set(product.rhs.at(0, 0, 3, 2), inf);
    product.rhs.buffer->set(product.rhs.at(0, 0, 3, 3), inf);
    product.rhs.buffer->set(product.rhs.at(0, 0, 68, 3), -inf);
    product.lhs.buffer->set(product.lhs.at(0, 0, 0, 3), 1);
    product.lhs.buffer->set(product.lhs.at(0, 0, 0, 68), 1);
    run(product);
    product.expect_result(units(c.K));
    EXPECT(std::isnan(product.out->get(1)), "NaN times a number");
    EXPECT_EQ(product.out->get(2), inf);
    EXPECT(std::isnan(product.out->get(3)), "infinity less infinity");
  }
}
