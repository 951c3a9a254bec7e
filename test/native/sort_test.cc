// cumsum, sort, topk and multinomial.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

// Calls body(first, stride) for the rows of a dense tensor along `dim`, as positions of elements.
template <class Body>
void for_rows(const Shape& shape, size_t dim, const Body& body) {
  int64_t inner = 1;
  for (size_t d = dim + 1; d < shape.size(); ++d) inner *= shape[d];
  int64_t outer = 1;
  for (size_t d = 0; d < dim; ++d) outer *= shape[d];
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < inner; ++i) body(o * shape[dim] * inner + i, inner);
  }
}

Values row_values(const Values& values, int64_t first, int64_t stride, int64_t n) {
  Values row;
  for (int64_t i = 0; i < n; ++i) row.push_back(values[static_cast<size_t>(first + i * stride)]);
  return row;
}

const std::vector<Shape> kShapes = {{1}, {9}, {3, 4}, {2, 5, 3}, {1, 700}, {3, 2, 600}, {2, 0, 3}};

// ---- cumsum ----

TEST("cumsum sums forward and in reverse, along every dimension, in every dtype and layout") {
  Random random(1);
  for (const DType dtype : kAllDTypes) {
    const DType out_dtype = is_floating(dtype) ? dtype : DType::kInt64;
    for (const Shape& shape : kShapes) {
      Values values(static_cast<size_t>(count_of(shape)));
      // Whole numbers, so that sums are exact but for their rounding to the dtype.
      for (double& value : values) value = rounded(static_cast<double>(random.below(3)), dtype);
      const Tensor x = make_tensor(dtype, shape, values);
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        for (const bool reverse : {false, true}) {
          Values expected(values.size());
          for_rows(shape, dim, [&](int64_t first, int64_t stride) {
            double sum = 0;
            for (int64_t i = 0; i < shape[dim]; ++i) {
              const int64_t at = first + stride * (reverse ? shape[dim] - 1 - i : i);
              sum += values[static_cast<size_t>(at)];
              expected[static_cast<size_t>(at)] = rounded(sum, out_dtype);
            }
          });
          const std::vector<double> attrs = {static_cast<double>(dim), reverse ? 1.0 : 0.0};
          const std::string what = std::string("cumsum ") + dtype_name(dtype);
          expect_values(run("cumsum", {x}, attrs, out_dtype, shape), expected, what);
          expect_values(run("cumsum", {scattered(x)}, attrs, out_dtype, shape), expected, what);
        }
      }
    }
  }
}

TEST("cumsum of 16-bit floats does not stall, and of float32 keeps its precision") {
  const int64_t n = 3000;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const Tensor y = run("cumsum", {make_tensor(dtype, {n}, Values(n, 1.0))}, {0, 0}, dtype, {n});
    EXPECT_EQ(values_of(y).back(), rounded(n, dtype));
  }
  const int64_t many = 1 << 20;
  const float tenth = 0.1f;
  const Tensor y = run("cumsum", {make_tensor(DType::kFloat32, {many}, Values(many, 0.1))}, {0, 0},
                       DType::kFloat32, {many});
  EXPECT_EQ(values_of(y).back(), static_cast<double>(static_cast<float>(
                                     static_cast<double>(tenth) * static_cast<double>(many))));
}

TEST("cumsum carries NaN and infinity on, and starts from positive zero") {
  const Tensor x = make_tensor(DType::kFloat32, {5}, {1, kInf, 2, -kInf, 1});
  expect_values(run("cumsum", {x}, {0, 0}, DType::kFloat32, {5}), {1, kInf, kInf, kNan, kNan},
                "cumsum");
  const Tensor zero =
      run("cumsum", {make_tensor(DType::kFloat32, {1}, {-0.0})}, {0, 0}, DType::kFloat32, {1});
  EXPECT(!std::signbit(values_of(zero)[0]), "-0");
  expect_values(
      run("cumsum", {make_tensor(DType::kBFloat16, {}, {2})}, {0, 1}, DType::kBFloat16, {}), {2},
      "of a scalar");
}

TEST("cumsum of int64 wraps around") {
  Tensor x = make_tensor(DType::kInt64, {2}, {0, 1});
  x.as<int64_t>()[0] = std::numeric_limits<int64_t>::max();
  const Tensor y = run("cumsum", {x}, {0, 0}, DType::kInt64, {2});
  EXPECT_EQ(y.as<int64_t>()[1], std::numeric_limits<int64_t>::min());
}

// ---- sort and topk ----

// Order with NaN greatest and equal to itself.
bool less(double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; }

// Positions of a row in their order.
std::vector<size_t> order_of(const Values& row, bool descending) {
  std::vector<size_t> order(row.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return descending ? less(row[b], row[a]) : less(row[a], row[b]);
  });
  return order;
}

// Many ties, both zeros, NaN and infinities where the dtype has them.
Tensor tied_tensor(DType dtype, const Shape& shape, Random& random, int64_t distinct) {
  Values values(static_cast<size_t>(count_of(shape)));
  for (double& value : values) {
    const int64_t pick = random.below(distinct);
    value = static_cast<double>(pick - (dtype == DType::kUInt8 ? 0 : distinct / 2));
    if (!is_floating(dtype)) continue;
    value *= 0.75;
    if (pick == 0) value = kNan;
    if (pick == 1) value = kInf;
    if (pick == 2) value = -kInf;
    if (pick == 3) value = -0.0;
  }
  return make_tensor(dtype, shape, values);
}

void check_sorted(const Tensor& x, size_t dim, int64_t k, bool descending,
                  const std::vector<Tensor>& results, const std::string& what) {
  const Shape shape = shape_of(x);
  const Values values = values_of(x);
  const Values sorted = values_of(results[0]);
  const Values positions = values_of(results[1]);
  std::vector<int64_t> firsts;
  for_rows(shape, dim, [&](int64_t first, int64_t) { firsts.push_back(first); });
  Shape out_shape = shape;
  out_shape[dim] = k;
  size_t row = 0;
  for_rows(out_shape, dim, [&](int64_t first, int64_t stride) {
    const Values from = row_values(values, firsts[row++], stride, shape[dim]);
    const std::vector<size_t> order = order_of(from, descending);
    for (int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<size_t>(first + i * stride);
      const size_t wanted = order[static_cast<size_t>(i)];
      EXPECT(positions[at] == static_cast<double>(wanted),
             what + " position " + shown(positions[at]) + ", expected " + shown(wanted));
      EXPECT(same_number(sorted[at], from[wanted]) &&
                 std::signbit(sorted[at]) == std::signbit(from[wanted]),
             what + " " + shown(sorted[at]) + ", expected " + shown(from[wanted]));
    }
  });
}

TEST("sort is stable, with NaN greatest, in both directions, every dtype, dimension and layout") {
  Random random(2);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : kShapes) {
      for (const int64_t distinct : {2, 9, 120}) {
        const Tensor x = tied_tensor(dtype, shape, random, distinct);
        for (size_t dim = 0; dim < shape.size(); ++dim) {
          for (const bool descending : {false, true}) {
            for (const Tensor& view : {x, scattered(x)}) {
              check_sorted(
                  x, dim, shape[dim], descending,
                  run_many("sort", {view}, {static_cast<double>(dim), descending ? 1. : 0.},
                           {{dtype, shape}, {DType::kInt64, shape}}),
                  std::string("sort ") + dtype_name(dtype));
            }
          }
        }
      }
    }
  }
}

TEST("long rows of whole bit patterns are sorted") {
  Random random(3);
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64}) {
    const Shape shape = {2, 5000};
    Tensor x = filled_tensor(dtype, shape, 10000);
    for (int64_t i = 0; i < 10000; ++i) {
      const uint64_t bits = random.wide();
      std::memcpy(element_at(x, i), &bits, item_size(dtype));
    }
    for (const bool descending : {false, true}) {
      const auto results = run_many("sort", {x}, {1, descending ? 1. : 0.},
                                    {{dtype, shape}, {DType::kInt64, shape}});
      for (int64_t row = 0; row < 2; ++row) {
        std::vector<bool> seen(5000, false);
        for (int64_t i = 0; i < 5000; ++i) {
          const int64_t from = results[1].as<int64_t>()[row * 5000 + i];
          seen[static_cast<size_t>(from)] = true;
          const bool moved = std::memcmp(element_at(results[0], row * 5000 + i),
                                         element_at(x, row * 5000 + from), item_size(dtype)) == 0;
          const double value = element_value(element_at(x, row * 5000 + from), dtype);
          EXPECT(moved || std::isnan(value), dtype_name(dtype));
          if (i == 0) continue;
          const int64_t before = results[1].as<int64_t>()[row * 5000 + i - 1];
          if (dtype == DType::kInt64) {
            const int64_t* own = x.as<int64_t>() + row * 5000;
            EXPECT(descending ? own[before] >= own[from] : own[before] <= own[from], "int64 order");
          } else {
            const double last = element_value(element_at(x, row * 5000 + before), dtype);
            EXPECT(descending ? !less(last, value) : !less(value, last), dtype_name(dtype));
          }
        }
        EXPECT(std::find(seen.begin(), seen.end(), false) == seen.end(), "no permutation");
      }
    }
  }
}

TEST("topk gives the first k of the order, whatever k is") {
  Random random(4);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : {Shape{12}, Shape{4, 300}, Shape{3, 40, 2}}) {
      const Tensor x = tied_tensor(dtype, shape, random, 100);
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        for (const int64_t k : {int64_t{0}, int64_t{1}, shape[dim] / 3, shape[dim]}) {
          for (const bool largest : {false, true}) {
            Shape out = shape;
            out[dim] = k;
            for (const Tensor& view : {x, scattered(x)}) {
              check_sorted(
                  x, dim, k, largest,
                  run_many("topk", {view},
                           {static_cast<double>(k), static_cast<double>(dim), largest ? 1. : 0.},
                           {{dtype, out}, {DType::kInt64, out}}),
                  std::string("topk ") + dtype_name(dtype));
            }
          }
        }
      }
    }
  }
}

TEST("a scalar is sorted") {
  const auto results = run_many("sort", {make_tensor(DType::kFloat32, {}, {4})}, {0, 0},
                                {{DType::kFloat32, {}}, {DType::kInt64, {}}});
  expect_values(results[0], {4}, "value");
  expect_values(results[1], {0}, "position");
}

// ---- multinomial ----

Tensor draw(const Tensor& weights, int64_t samples, bool replacement, double seed = 7,
            double offset = 0) {
  return run("multinomial", {weights}, {seed, offset, replacement ? 1.0 : 0.0}, DType::kInt64,
             {weights.shape[0], samples});
}

TEST("multinomial draws each class as often as its weight says") {
  const int64_t samples = 200000;
  for (const DType dtype : kFloats) {
    const Values weights = {1, 0, 2, 5, 0, 8, 0};
    const Values drawn = values_of(draw(make_tensor(dtype, {1, 7}, weights), samples, true));
    Values counts(7, 0.0);
    for (const double value : drawn) ++counts[static_cast<size_t>(value)];
    for (size_t i = 0; i < 7; ++i) {
      const double p = weights[i] / 16;
      const double deviation = std::sqrt(static_cast<double>(samples) * p * (1 - p));
      EXPECT(std::abs(counts[i] - p * static_cast<double>(samples)) <= 5 * deviation,
             shown(i) + ": " + shown(counts[i]));
    }
  }
}

TEST("multinomial picks by the running sum of the weights and the words of its sample") {
  Random random(5);
  const int64_t rows = 3, n = 11, samples = 50;
  const Tensor weights = random_tensor(DType::kFloat64, {rows, n}, random, 0, 1);
  const Values w = values_of(weights);
  const Tensor drawn = draw(weights, samples, true, 99, 12);
  expect_values(draw(scattered(weights), samples, true, 99, 12), values_of(drawn), "scattered");
  for (int64_t e = 0; e < rows * samples; ++e) {
    const auto at = static_cast<uint64_t>(2 * e);
    const double u = uniform53(philox_word(99, 12, at), philox_word(99, 12, at + 1));
    const double* row = w.data() + e / samples * n;
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += row[i];
    double sum = 0;
    int64_t picked = 0;
    while (picked + 1 < n && (sum += row[picked]) <= u * total) ++picked;
    EXPECT_EQ(drawn.as<int64_t>()[e], picked);
  }
}

TEST("without replacement no class comes twice, and all positive ones can be drawn") {
  for (const int64_t n : {1, 5, 64, 1000}) {
    Values weights(static_cast<size_t>(2 * n));
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = i % 3 == 2 ? 0.0 : 1.0 + i % 7;
    int64_t positive[2] = {0, 0};
    for (int64_t i = 0; i < 2 * n; ++i) positive[i / n] += weights[static_cast<size_t>(i)] > 0;
    const int64_t samples = std::min(positive[0], positive[1]);
    if (samples == 0) continue;
    const Tensor drawn = draw(make_tensor(DType::kFloat32, {2, n}, weights), samples, false);
    for (int64_t row = 0; row < 2; ++row) {
      std::vector<bool> seen(static_cast<size_t>(n), false);
      for (int64_t s = 0; s < samples; ++s) {
        const int64_t picked = drawn.as<int64_t>()[row * samples + s];
        EXPECT(picked >= 0 && picked < n && !seen[static_cast<size_t>(picked)], shown(picked));
        EXPECT(weights[static_cast<size_t>(row * n + picked)] > 0, shown(picked));
        seen[static_cast<size_t>(picked)] = true;
      }
    }
  }
}

TEST("without replacement the first draw follows the weights, and the second those left") {
  const int64_t rows = 60000;
  Values weights;
  for (int64_t row = 0; row < rows; ++row) weights.insert(weights.end(), {1, 3, 6});
  const Tensor drawn = draw(make_tensor(DType::kFloat32, {rows, 3}, weights), 2, false);
  double pairs[3][3] = {};
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t* own = drawn.as<int64_t>() + 2 * row;
    ++pairs[own[0]][own[1]];
  }
  const double w[3] = {0.1, 0.3, 0.6};
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      const double p = a == b ? 0.0 : w[a] * w[b] / (1 - w[a]);
      const double deviation = std::sqrt(rows * p * (1 - p));
      EXPECT(std::abs(pairs[a][b] - p * rows) <= 5 * deviation, shown(a) + shown(b));
    }
  }
}

TEST("multinomial is the same with any number of threads, and another with another seed") {
  Random random(6);
  const Tensor weights = random_tensor(DType::kFloat32, {64, 1000}, random, 0, 1);
  cpu::set_num_threads(1);
  const Tensor one = draw(weights, 40, false);
  cpu::set_num_threads(5);
  EXPECT(same_bits(one, draw(weights, 40, false)), "five threads");
  EXPECT(!same_bits(one, draw(weights, 40, false, 8)), "another seed");
  EXPECT(!same_bits(one, draw(weights, 40, false, 7, 1)), "another offset");
}

TEST("multinomial refuses weights that are no distribution, naming the row") {
  const auto weights = [](const Values& row) {
    Values values(row.size(), 1.0);
    values.insert(values.end(), row.begin(), row.end());
    return make_tensor(DType::kFloat32, {2, static_cast<int64_t>(row.size())}, values);
  };
  for (const double bad : {-1.0, kNan, kInf, -kInf}) {
    EXPECT_ERROR(ErrorCode::kArgument, "at position 1 in row 1",
                 draw(weights({1, bad, 1}), 1, true));
  }
  EXPECT_ERROR(ErrorCode::kArgument, "sum to 0 in row 1", draw(weights({0, 0, 0}), 1, true));
  EXPECT_ERROR(ErrorCode::kArgument, "as many positive weights, got 1 in row 1",
               draw(weights({0, 4, 0}), 2, false));
  EXPECT_ERROR(ErrorCode::kArgument, "overflows",
               draw(make_tensor(DType::kFloat64, {1, 2}, {1.7e308, 1.7e308}), 1, true));
  EXPECT_ERROR(ErrorCode::kArgument, "sum to 0",
               draw(make_tensor(DType::kFloat32, {1, 0}, {}), 1, true));
  expect_values(draw(make_tensor(DType::kFloat32, {0, 3}, {}), 2, true), {}, "no rows");
}

}  // namespace
