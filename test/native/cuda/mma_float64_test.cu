// Products of float64 by mma.sync, with the fragments of the device (see mma_float64_sm80_test.cu).
#include "mma_testing.h"

using namespace mixprec;
using namespace mixprec::cuda;
using namespace mixprec::cuda::testing;

DEVICE_TEST(80, "products of float64") { expect_products({float64_kind()}); }
