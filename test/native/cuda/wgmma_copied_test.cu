// The Hopper kernels of products whose operands are copied first: float32 at each precision, and
// int8, in every order and alignment.
#include "cuda/gemm/planes.h"
#include "wgmma_gemm_testing.h"

#if defined(MIXPREC_CUDA_EMULATED)
#include "cuda/emulator/tensor_core.h"
#endif

namespace {

double as_tf32(double x) { return round_to_tf32(static_cast<float>(x)); }
double as_bfloat16(double x) { return to_float(to_bfloat16(static_cast<float>(x))); }

void test_layouts(ProductCase c, int32_t variant, int turn) {
  const WgmmaTile& tile = kWgmmaTiles[variant];
  const Sizes sizes[] = {{1, 1, 1},
                         {tile.m - 1, tile.n + 1, 31},
                         {tile.m + 1, tile.n - 1, 33},
                         {2 * tile.m + 8, 72, 264}};
  for (const Sizes& size : sizes) {
    for (int layout = 0; layout < 4; ++layout, ++turn) {
      c.size = size;
      c.lhs_transposed = layout / 2 == 1;
      c.rhs_transposed = layout % 2 == 1;
      c.odd_pitch = turn % 3 == 1;
      c.padded_out = turn % 4 < 2;
      c.bias = turn % 5 < 2;
      c.alpha = turn % 7 == 0 ? 2 : 1;
      c.beta = turn % 11 == 0 ? -2 : 0;
      expect_product(c, {GemmFamily::kWgmmaSm90, variant, turn % 6 == 5 ? 2 : 1});
    }
  }
}

DEVICE_TEST(90, "float32 as TF32 and as bfloat16") {
  for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
    ProductCase c;
    c.in = c.out = DType::kFloat32;
    c.precision = MatmulPrecision::kHigh;
    c.rounded = as_tf32;
    test_layouts(c, variant, variant);
    c.precision = MatmulPrecision::kMedium;
    c.rounded = as_bfloat16;
    if (variant % 2 == 0) test_layouts(c, variant, variant);
  }
}

DEVICE_TEST(90, "int8 in int32") {
  for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
    ProductCase c;
    c.in = DType::kInt8;
    c.out = DType::kInt32;
    test_layouts(c, variant, variant);
  }
}

ProductCase highest() {
  ProductCase c;
  c.in = c.out = DType::kFloat32;
  c.tolerance = 0x1p-21;
  return c;
}

DEVICE_TEST(90, "float32 of the highest precision") {
  test_layouts(highest(), kWgmmaPlanesTile, 0);
  ProductCase c = highest();
  c.batch = 2;
  c.outer = 2;
  c.size = {130, 70, 100};
  for (const int splits : {1, 2}) {
    expect_product(c, {GemmFamily::kWgmmaSm90, kWgmmaPlanesTile, splits});
    c.rhs_repeated = true;
    c.lhs_repeated = splits == 2;
  }
}

DEVICE_TEST(90, "the same bits in any order of threads and copies") {
  std::vector<char> first[2];
  each_order([&] {
    for (int i = 0; i < 2; ++i) {
      ProductCase c = highest();
      c.size = {140, 136, 200};
      c.lhs_transposed = c.bias = true;
      if (i == 1) {
        c.precision = MatmulPrecision::kHigh;
        c.rounded = as_tf32;
      }
      const std::vector<char> got = expect_product(c, {GemmFamily::kWgmmaSm90, 3, 1});
      if (first[i].empty()) first[i] = got;
      EXPECT(got == first[i], c.name());
    }
  });
}

// Where planes do not do, general arithmetic takes over.
DEVICE_TEST(90, "the whole range of float32") {
  using Edit = void (*)(std::vector<double>&, std::vector<double>&);
  const auto scale = [](std::vector<double>& values, double by) {
    for (double& value : values) value *= by;
  };
  static const auto scaled = scale;
  const Edit edits[] = {
      [](auto& lhs, auto&) { lhs[75] = INFINITY; },
      [](auto& lhs, auto& rhs) {
        lhs[75] = -INFINITY;
        rhs[5] = 0;
      },
      [](auto&, auto& rhs) { rhs[9] = NAN; },
      // Products that overflow, that are subnormal, and that are neither though operands are.
      [](auto& lhs, auto& rhs) { scaled(lhs, 0x1p127), scaled(rhs, 0x1p3); },
      [](auto& lhs, auto& rhs) { scaled(lhs, 0x1p-70), scaled(rhs, 0x1p-70); },
      [](auto& lhs, auto& rhs) { scaled(lhs, 0x1p-140), scaled(rhs, 0x1p127); },
      [](auto& lhs, auto& rhs) { scaled(lhs, 0x1p-149), scaled(rhs, 0x1p100); },
      // Too far apart, and just not.
      [](auto& lhs, auto&) { lhs[0] = 0x1p120, lhs[80] = 0x1.234567p-120; },
      [](auto& lhs, auto&) { lhs[0] = 0x1p28, lhs[80] = 0x1.234567p-126; },
      [](auto& lhs, auto& rhs) { scaled(lhs, 0), scaled(rhs, 0); },
      [](auto& lhs, auto&) {
        for (size_t i = 0; i < lhs.size(); i += 3) lhs[i] = 0x1.abcdeep-145 * double(i % 7);
      },
  };
  for (const Edit edit : edits) {
    for (const int splits : {1, 2}) {
      // Sums of shares may overflow to both sides.
      if (splits == 2 && edit == edits[3]) continue;
      ProductCase c = highest();
      c.size = {70, 68, 70};
      c.edit = edit;
      c.tolerance = 70 * 0x1p-24;
      c.bias = splits == 1;
      expect_product(c, {GemmFamily::kWgmmaSm90, kWgmmaPlanesTile, splits});
    }
  }
}

#if defined(MIXPREC_CUDA_EMULATED)

// Sums that are cut off, as Hopper's are, must not cost accuracy: the error has to be below that of
// float32 sums one by one.
DEVICE_TEST(90, "planes are as accurate as float32") {
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kTruncating);
  for (const double low : {-1.0, 0.0}) {
    constexpr int64_t kSide = 32;
    constexpr int64_t kDepth = 1024;
    Random random(5);
    std::vector<float> lhs(kSide * kDepth), rhs(lhs);
    for (float& x : lhs) x = static_cast<float>(random.uniform(low, 1));
    for (float& x : rhs) x = static_cast<float>(random.uniform(low, 1));
    const DeviceArray<float> lhs_device(lhs), rhs_device(rhs);
    DeviceArray<float> out(kSide * kSide);
    GemmDesc desc;
    desc.M = desc.N = kSide;
    desc.K = kDepth;
    desc.lhs = {lhs_device.data, DType::kFloat32, kDepth, 1};
    desc.rhs = {rhs_device.data, DType::kFloat32, 1, kDepth};
    desc.out = out.data;
    desc.out_row_stride = kSide;
    wgmma_gemm(backend(0), desc, {GemmFamily::kWgmmaSm90, kWgmmaPlanesTile, 1});
    backend(0).synchronize();
    const std::vector<float> got = out.read();
    double error = 0, plain_error = 0, norm = 0;
    for (int64_t at = 0; at < kSide * kSide; ++at) {
      double sum = 0;
      float plain = 0;
      for (int64_t k = 0; k < kDepth; ++k) {
        const float x = lhs[static_cast<size_t>(at / kSide * kDepth + k)];
        const float y = rhs[static_cast<size_t>(at % kSide * kDepth + k)];
        sum += double{x} * y;
        plain = std::fma(x, y, plain);
      }
      const double off = got[static_cast<size_t>(at)] - sum;
      error += off * off;
      plain_error += (plain - sum) * (plain - sum);
      norm += sum * sum;
    }
    const std::string what = "relative error " + shown(std::sqrt(error / norm)) +
                             ", of plain sums " + shown(std::sqrt(plain_error / norm));
    EXPECT(error < plain_error, what);
    std::printf("from %g: %s\n", low, what.c_str());
  }
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kExact);
}

#endif

}  // namespace
