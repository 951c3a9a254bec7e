// The Hopper kernels of products against sums in float64: every tile, order of operands and output,
// at whole and ragged sizes, in several orders of threads and copies.
#include "wgmma_gemm_testing.h"

namespace {

DEVICE_TEST(90, "products of 16 bits in every tile and layout") {
  int turn = 0;
  for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
    const WgmmaTile& tile = kWgmmaTiles[variant];
    const Sizes sizes[] = {{1, 1, 1},
                           {tile.m - 1, tile.n + 1, 63},
                           {tile.m, tile.n, 64},
                           {tile.m + 1, tile.n - 1, 65},
                           {3 * tile.m + 8, tile.n + 40, 200}};
    for (const Sizes& size : sizes) {
      for (int layout = 0; layout < 4; ++layout, ++turn) {
        ProductCase c;
        c.size = size;
        c.lhs_transposed = layout / 2 == 1;
        c.rhs_transposed = layout % 2 == 1;
        c.in = turn % 2 == 0 ? DType::kBFloat16 : DType::kFloat16;
        c.out = turn % 3 == 0 ? DType::kFloat32 : (turn % 13 == 1 ? DType::kBFloat16 : c.in);
        c.padded_out = turn % 4 < 2;
        c.bias = turn % 5 < 2;
        c.alpha = turn % 7 == 0 ? 0.5 : 1;
        c.beta = turn % 11 == 0 ? -2 : 0;
        expect_product(c, {GemmFamily::kWgmmaSm90, variant, 1});
      }
    }
  }
}

DEVICE_TEST(90, "the same bits in any order of threads and copies") {
  std::vector<char> first[kWgmmaTileCount];
  each_order([&] {
    for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
      ProductCase c;
      // Of whole clusters, and of one whose second block has nothing to store.
      const WgmmaTile& tile = kWgmmaTiles[variant];
      c.size = {variant % 2 == 0 ? 3 * tile.m + 72 : 4 * tile.m + 8, tile.n + 8, 150};
      c.lhs_transposed = variant % 2 == 1;
      c.rhs_transposed = variant % 2 == 0;
      c.batch = variant == 5 ? 40 : 1;  // more than there are blocks
      c.bias = true;
      const std::vector<char> got = expect_product(c, {GemmFamily::kWgmmaSm90, variant, 1});
      if (first[variant].empty()) first[variant] = got;
      EXPECT(got == first[variant], c.name());
    }
  });
}

DEVICE_TEST(90, "batches, repeated and not, and shares of K") {
  int turn = 0;
  for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
    for (const int splits : {1, 2, 5}) {
      for (const bool repeated : {false, true}) {
        ProductCase c;
        c.size = {kWgmmaTiles[variant].m + 8, 72, 264};
        c.lhs_transposed = turn % 2 == 1;
        c.batch = 3;
        c.outer = 2;
        c.lhs_repeated = repeated && turn % 3 == 0;
        c.rhs_repeated = repeated;
        c.out = turn % 2 == 0 ? DType::kFloat32 : DType::kBFloat16;
        c.bias = turn % 3 == 1;
        ++turn;
        expect_product(c, {GemmFamily::kWgmmaSm90, variant, splits});
      }
    }
  }
  // More shares than there is of K.
  ProductCase c;
  c.size = {40, 33, 70};
  expect_product(c, {GemmFamily::kWgmmaSm90, 4, 6});
}

DEVICE_TEST(90, "infinities and NaN go where they belong") {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (int32_t variant = 0; variant < kWgmmaTileCount; ++variant) {
      ProductCase c;
      c.size = {70, 80, 72};
      c.in = c.out = dtype;
      c.edit = [](std::vector<double>& lhs, std::vector<double>& rhs) {
        lhs[3 * 72 + 5] = INFINITY;
        lhs[69 * 72 + 71] = -INFINITY;
        lhs[10 * 72] = NAN;
        rhs[9 * 72 + 5] = 0;  // times infinity
        rhs[79 * 72 + 7] = NAN;
      };
      expect_product(c, {GemmFamily::kWgmmaSm90, variant, 1});
    }
  }
}

DEVICE_TEST(90, "operands that are not aligned, and neither dense in rows nor in k") {
  for (int layout = 0; layout < 4; ++layout) {
    ProductCase c;
    c.size = {70, 80, 72};
    c.in = layout % 2 == 0 ? DType::kFloat16 : DType::kBFloat16;
    c.lhs_transposed = layout / 2 == 1;
    c.rhs_transposed = layout % 2 == 1;
    c.odd_pitch = true;
    c.spread = layout == 3;
    c.batch = 2;
    c.rhs_repeated = layout == 0;
    expect_product(c, {GemmFamily::kWgmmaSm90, layout, 1});
  }
}

TEST("which products the kernels make") {
  api::DeviceProperties hopper;
  hopper.major = 9;
  alignas(16) static char memory[16];
  GemmDesc desc;
  desc.M = desc.N = desc.K = 128;
  desc.lhs = {memory, DType::kBFloat16, 128, 1, 0, 0};
  desc.rhs = {memory, DType::kBFloat16, 128, 1, 0, 0};
  desc.out_dtype = DType::kBFloat16;
  EXPECT(wgmma_supports(desc, hopper), "plain");
  EXPECT_EQ(wgmma_copied_bytes(desc), 0);
  const auto copied = [&](auto change) {
    GemmDesc changed = desc;
    change(changed);
    return wgmma_copied_bytes(changed);
  };
  const int64_t both = 128 * 128 * 2 * 2;
  EXPECT_EQ(copied([](GemmDesc& d) { d.lhs.row_stride = 129; }), both);
  EXPECT_EQ(copied([](GemmDesc& d) { d.rhs.data = memory + 2; }), both);
  EXPECT_EQ(copied([](GemmDesc& d) { d.lhs.batch_stride = 4; }), 0);  // of one batch
  EXPECT_EQ(copied([](GemmDesc& d) { d.batch = 2, d.lhs.batch_stride = 4; }), 2 * both);
  EXPECT_EQ(copied([](GemmDesc& d) { d.rhs.row_stride = 1, d.rhs.col_stride = 128; }), 0);
  const auto as_int8 = [](GemmDesc& d) {
    d.lhs.dtype = d.rhs.dtype = DType::kInt8;
    d.out_dtype = DType::kInt32;
  };
  EXPECT_EQ(copied(as_int8), both / 2);  // only rhs, a byte each way
  const auto supported = [&](auto change) {
    GemmDesc changed = desc;
    api::DeviceProperties device = hopper;
    change(changed, device);
    return wgmma_supports(changed, device);
  };
  EXPECT(!supported([](GemmDesc&, auto& device) { device.major = 10; }), "a later device");
  EXPECT(!supported([](GemmDesc&, auto& device) { device.major = 8; }), "an earlier device");
  EXPECT(!supported([](GemmDesc& d, auto&) { d.K = 0; }), "no K");
  EXPECT(!supported([](GemmDesc& d, auto&) { d.lhs.dtype = DType::kFloat32; }), "two dtypes");
  EXPECT(!supported([](GemmDesc& d, auto&) { d.out_dtype = DType::kFloat64; }), "float64 out");
  EXPECT(!supported([](GemmDesc& d, auto&) { d.M = int64_t{1} << 31; }), "too many rows");
  EXPECT(!supported([](GemmDesc& d, auto&) { d.batch = int64_t{1} << 28; }), "too many tiles");
  desc.lhs.dtype = desc.rhs.dtype = DType::kFloat32;
  EXPECT(wgmma_tile_fits(kWgmmaPlanesTile, desc) && !wgmma_tile_fits(0, desc), "tiles of planes");
  EXPECT(!wgmma_tile_fits(kWgmmaTileCount, desc) && !wgmma_tile_fits(-1, desc), "no such tile");
}

DEVICE_TEST(90, "activations and what else follows a product") {
  int turn = 0;
  for (const EpilogueCase& c : epilogue_cases({{1, 1, 129, 72, 40}, {2, 1, 65, 40, 8}})) {
    if (c.in == DType::kFloat64) continue;
    EpilogueProblem problem(c);
    std::array<std::unique_ptr<DeviceArray<char>>, kBuffers> memory;
    std::array<char*, kBuffers> at{};
    for (size_t i = 0; i < kBuffers; ++i) {
      if (problem.buffers[i].empty()) continue;
      memory[i] = std::make_unique<DeviceArray<char>>(problem.buffers[i]);
      at[i] = memory[i]->data;
    }
    const GemmDesc desc = problem.describe(at);
    const bool planes = wgmma_kind(desc) == WgmmaKind::kPlanes;
    const int32_t variant = planes ? kWgmmaPlanesTile : turn % kWgmmaTileCount;
    EXPECT(wgmma_supports(desc, backend(0).properties()), c.name());
    wgmma_gemm(backend(0), desc, {GemmFamily::kWgmmaSm90, variant, turn % 9 == 0 ? 2 : 1});
    if (c.column_sums) sum_columns(backend(0), desc);
    ++turn;
    backend(0).synchronize();
    for (size_t i = 0; i < kBuffers; ++i) {
      if (memory[i]) problem.buffers[i] = memory[i]->read();
    }
    problem.expect_finished();
  }
}

}  // namespace
