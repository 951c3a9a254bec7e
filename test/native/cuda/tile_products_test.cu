// The products of gemm_kernels.h, at whole and at ragged sizes.
#include "gemm_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

struct Sizes {
  int m, n, k;
};

std::string name_of(const Sizes& x) {
  return std::to_string(x.m) + " x " + std::to_string(x.n) + " x " + std::to_string(x.k);
}

void test_sm80() {
  for (const Sizes& x : {Sizes{64, 64, 32}, Sizes{128, 128, 128}, Sizes{1, 1, 8}, Sizes{65, 63, 40},
                         Sizes{130, 200, 264}}) {
    const GemmOperands operands(x.m, x.n, x.k);
    const std::vector<float> c = run_sm80<Fault::kNone>(operands);
    expect_healthy();
    if (c.empty()) continue;
    expect_product(operands.a_values, operands.b_values, c, x.m, x.n, x.k, 32, name_of(x));
  }
}

template <uint32_t kCluster>
void test_sm90() {
  for (const Sizes& x : {Sizes{64, 64, 64}, Sizes{128, 128, 512}, Sizes{1, 8, 8},
                         Sizes{65, 72, 200}, Sizes{200, 136, 336}}) {
    const GemmOperands operands(x.m, x.n, x.k);
    const std::vector<float> c = run_sm90<Fault::kNone, kCluster>(operands);
    expect_healthy();
    if (c.empty()) continue;
    // The result is rounded to bfloat16.
    expect_product(operands.a_values, operands.b_values, c, x.m, x.n, x.k, 0x1.1p15, name_of(x));
  }
}

DEVICE_TEST(80, "a product by cp.async, ldmatrix and mma.sync") { each_order(test_sm80); }
DEVICE_TEST(90, "a product by TMA, mbarriers and wgmma") { each_order(test_sm90<1>); }
DEVICE_TEST(90, "the same in clusters, with multicast") { each_order(test_sm90<2>); }

}  // namespace
