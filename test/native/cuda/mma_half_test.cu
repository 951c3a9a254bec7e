// Products of 16-bit floats and of bytes by mma.sync.
#include "mma_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

double same(double value) { return value; }
const std::vector<DType> kOuts = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
// A step of the tensor cores sums 16 steps of k.
double half_units(int64_t K) { return 2.0 + 2.0 * static_cast<double>((K + 15) / 16); }
double no_units(int64_t) { return 0; }

}  // namespace

DEVICE_TEST(80, "products of bfloat16") {
  expect_products(
      {{MmaKind::kHalf, DType::kBFloat16, MatmulPrecision::kHighest, same, half_units, kOuts}});
}

DEVICE_TEST(80, "products of float16") {
  expect_products(
      {{MmaKind::kHalf, DType::kFloat16, MatmulPrecision::kHighest, same, half_units, kOuts}});
}

DEVICE_TEST(80, "products of int8 are exact") {
  expect_products(
      {{MmaKind::kInt8, DType::kInt8, MatmulPrecision::kHighest, same, no_units, {DType::kInt32}}});
}
