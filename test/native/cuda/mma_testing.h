// What the tests of products by mma.sync share: every kind of operands goes through the same cases,
// in all of its tiles.
#pragma once

#include "cuda/gemm/mma_sm80.h"
#include "product_testing.h"

#if defined(MIXPREC_CUDA_EMULATED)
#include "cuda/emulator/tensor_core.h"
#endif

namespace mixprec::cuda::testing {

struct Shape3 {
  int64_t M, N, K;
};

// Extents of one, one less than a tile, a tile, one more, and several, in all three directions.
inline std::vector<Shape3> shapes_for(const MmaTile& tile) {
  return {{1, 1, 1},
          {tile.m - 1, tile.n + 1, tile.depth},
          {tile.m, tile.n, tile.depth * 2},
          {tile.m + 1, tile.n - 1, tile.depth * tile.slots + 1},
          {3, tile.n, tile.depth - 1}};
}

inline std::vector<char> run(Product& product, int32_t variant, int32_t splits = 1) {
  GemmConfig config;
  config.family = GemmFamily::kMmaSm80;
  config.variant = variant;
  config.splits = splits;
  return product.run([&](const GemmDesc& desc) { mma_gemm(cuda::backend(0), desc, config); });
}

// What a kind of kernel promises.
struct Kind {
  MmaKind kind;
  DType dtype;
  MatmulPrecision precision;
  double (*operand)(double);  // to what it rounds operands
  // The error that K products may add up to, in units of 2^-24 of the sum of their magnitudes. A
  // tensor core cuts its sums off, once in each of its steps; the emulator rounds them instead.
  double (*units)(int64_t K);
  std::vector<DType> outs;
};

// A chain of K fused multiply-adds.
inline Kind float64_kind() {
  return {MmaKind::kFloat64,
          DType::kFloat64,
          MatmulPrecision::kHighest,
          [](double value) { return value; },
          [](int64_t K) { return 0x1p-29 * static_cast<double>(K + 2); },
          {DType::kFloat64}};
}

template <class Body>
void each_variant(const Kind& kind, const Body& body) {
  for (int32_t variant = 0; variant < kMmaTileCount; ++variant) {
    if (kMmaTiles[variant].kind == kind.kind) body(variant, kMmaTiles[variant]);
  }
}

inline ProductCase case_of(const Kind& kind, const Shape3& shape) {
  ProductCase c;
  c.M = shape.M;
  c.N = shape.N;
  c.K = shape.K;
  c.dtype = kind.dtype;
  c.precision = kind.precision;
  c.out = kind.outs[0];
  return c;
}

inline void check(const Kind& kind, const ProductCase& c, int32_t variant, int32_t splits = 1,
                  uint64_t seed = 1) {
  Product product(c, seed);
  run(product, variant, splits);
  product.expect_result(kind.units(c.K), kind.operand);
}

inline void expect_all_layouts(const Kind& kind) {
  each_variant(kind, [&](int32_t variant, const MmaTile& tile) {
    const std::vector<Shape3> shapes = shapes_for(tile);
    auto at = static_cast<size_t>(variant);
    for (const Lie lhs : kAllLies) {
      for (const Lie rhs : kAllLies) {
        ProductCase c = case_of(kind, shapes[at % shapes.size()]);
        c.lhs = lhs;
        c.rhs = rhs;
        c.out = kind.outs[at / 2 % kind.outs.size()];
        c.out_gap = static_cast<int64_t>(at % 4);
        check(kind, c, variant, 1, at++);
      }
    }
  });
}

inline void expect_any_order(const Kind& kind) {
  each_variant(kind, [&](int32_t variant, const MmaTile& tile) {
    for (const Lie rhs : {Lie::kColumns, Lie::kOffset}) {
      ProductCase c = case_of(kind, {tile.m + 3, 9, tile.depth * tile.slots * 2 + 5});
      c.lhs = rhs == Lie::kColumns ? Lie::kRows : Lie::kColumns;
      c.rhs = rhs;
      Product product(c);
      std::vector<char> first;
      each_order([&] {
        const std::vector<char> result = run(product, variant);
        product.expect_result(kind.units(c.K), kind.operand);
        if (first.empty()) first = result;
        EXPECT(result == first, c.name() + ": another result in another order");
      });
    }
  });
}

inline void expect_batches(const Kind& kind) {
  each_variant(kind, [&](int32_t variant, const MmaTile& tile) {
    ProductCase c = case_of(kind, {tile.m + 1, 5, 7});
    c.batch = 3;
    c.outer = 2;
    c.lhs = Lie::kColumns;
    check(kind, c, variant);
    c.broadcast_rhs = true;
    c.rhs = Lie::kPaddedT;
    check(kind, c, variant);
    // More rows of tiles than lie together.
    ProductCase tall = case_of(kind, {tile.m * 9 + 1, tile.n + 1, 3});
    check(kind, tall, variant);
  });
}

inline void expect_shares(const Kind& kind) {
  each_variant(kind, [&](int32_t variant, const MmaTile& tile) {
    for (const int32_t splits : {2, 5}) {
      // The last shares of five are empty.
      ProductCase c = case_of(kind, {tile.m - 3, 30 + splits, tile.depth * 3 + 1});
      c.batch = 2;
      c.bias = true;
      c.out_gap = 2;
      check(kind, c, variant, splits);
    }
  });
}

inline void expect_epilogues(const Kind& kind) {
  each_variant(kind, [&](int32_t variant, const MmaTile& tile) {
    for (const int64_t N : {tile.n, int32_t{21}}) {
      ProductCase c = case_of(kind, {tile.m + 2, N, 20});
      c.out = kind.outs.back();
      c.alpha = kind.dtype == DType::kInt8 ? 3 : 0.75;
      c.beta = kind.dtype == DType::kInt8 ? -2 : 0.5;
      c.bias = true;
      check(kind, c, variant);
      if (kind.dtype == DType::kInt8) continue;
      c.activation = GemmActivation::kSilu;
      c.keep_input = true;
      c.residual = true;
      check(kind, c, variant);
      c.keep_input = false;
      c.derivative = true;
      c.multiplier = true;
      c.batch = 2;
      check(kind, c, variant);
    }
  });
}

inline void expect_specials(const Kind& kind) {
  const double inf = std::numeric_limits<double>::infinity();
  if (kind.dtype == DType::kInt8) return;
  each_variant(kind, [&](int32_t variant, const MmaTile& tile) {
    ProductCase c = case_of(kind, {tile.m + 1, 12, tile.depth + 3});
    c.low = 0.5;
    Product product(c);
    const auto set_lhs = [&](int64_t row, int64_t k, double value) {
      product.lhs.buffer->set(product.lhs.at(0, 0, row, k), value);
    };
    set_lhs(1, 2, inf);
    set_lhs(2, 3, -inf);
    set_lhs(3, tile.depth + 2, std::nan(""));
    set_lhs(4, 0, inf);
    set_lhs(4, 1, -inf);
    product.rhs.buffer->set(product.rhs.at(0, 0, 2, 7), 0);
    run(product, variant);
    product.expect_result(kind.units(c.K), kind.operand);
    EXPECT_EQ(product.out->get(product.row_stride), inf);
    EXPECT_EQ(product.out->get(2 * product.row_stride), -inf);
    EXPECT(std::isnan(product.out->get(product.row_stride + 7)), "infinity times zero");
    EXPECT(std::isnan(product.out->get(3 * product.row_stride)), "NaN times a number");
    EXPECT(std::isnan(product.out->get(4 * product.row_stride)), "infinity less infinity");
  });
}

// With sums that are cut off as the hardware does.
inline void expect_truncated(const Kind& kind) {
#if defined(MIXPREC_CUDA_EMULATED)
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kTruncating);
  each_variant(kind, [&](int32_t variant, const MmaTile&) {
    check(kind, case_of(kind, {5, 9, 150}), variant);
  });
  emulator::set_tensor_core_model(emulator::TensorCoreModel::kExact);
#else
  static_cast<void>(kind);
#endif
}

// The cases of some kinds, in this order since the first ones tell most.
inline void expect_products(const std::vector<Kind>& kinds) {
  for (const Kind& kind : kinds) {
    expect_all_layouts(kind);
    expect_any_order(kind);
    expect_batches(kind);
    expect_shares(kind);
    expect_epilogues(kind);
    expect_specials(kind);
    expect_truncated(kind);
  }
}

}  // namespace mixprec::cuda::testing
