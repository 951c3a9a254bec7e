// Products of float64 by mma.sync as a GPU of sm_80 makes them, which the emulator becomes.
#include <cstdlib>

#include "mma_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

namespace {

// Before the first look at the device.
const bool kIsSm80 = [] {
  setenv("MIXPREC_EMULATOR_CAPABILITY", "80", 1);
  return true;
}();

}  // namespace

DEVICE_TEST(80, "products of float64 in the fragments of sm_80") {
#if defined(MIXPREC_CUDA_EMULATED)
  EXPECT(kIsSm80 && capability() == 80, "the emulator is another GPU");
#else
  static_cast<void>(kIsSm80);
#endif
  expect_products({float64_kind()});
}
