// Reductions over every set of dimensions, against long double sums, and the row kernels they are
// made of at every instruction set.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

using Wide = long double;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

const std::vector<Shape> kShapes = {{},           {1},         {7},       {1000},
                                    {5, 3},       {70, 33},    {3, 1, 4}, {2, 65, 9},
                                    {4, 3, 2, 5}, {300, 2, 7}, {1, 9000}, {9000, 2}};

// The values that make up each output of a reduction over the dimensions in `dims`.
std::vector<Values> groups_of(const Tensor& x, int64_t dims) {
  const Values values = values_of(x);
  const Shape shape = shape_of(x);
  int64_t outputs = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (((dims >> d) & 1) == 0) outputs *= shape[d];
  }
  std::vector<Values> groups(static_cast<size_t>(outputs));
  for (size_t i = 0; i < values.size(); ++i) {
    int64_t rest = static_cast<int64_t>(i);
    int64_t at = 0;
    int64_t step = 1;
    for (size_t d = shape.size(); d-- > 0;) {
      const int64_t index = rest % shape[d];
      rest /= shape[d];
      if (((dims >> d) & 1) != 0) continue;
      at += index * step;
      step *= shape[d];
    }
    groups[static_cast<size_t>(at)].push_back(values[i]);
  }
  return groups;
}

Shape kept_shape(const Tensor& x, int64_t dims) {
  Shape shape;
  for (int32_t d = 0; d < x.rank; ++d) {
    if (((dims >> d) & 1) == 0) shape.push_back(x.shape[d]);
  }
  return shape;
}

// What a value computed in the arithmetic of a dtype may be off: half a unit for the last rounding,
// and `terms` for the sums before it.
double allowance(double exact, DType dtype, double units, Wide terms) {
  const DType arithmetic = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  return 1.01 * epsilon(dtype) * std::abs(exact) +
         units * epsilon(arithmetic) * static_cast<double>(terms) + 1e-45;
}

// Calls body(view, what) for the tensor in several layouts and on several threads.
template <class Body>
void in_layouts(const Tensor& x, const Body& body) {
  cpu::set_num_threads(1);
  body(x, std::string("dense"));
  cpu::set_num_threads(3);
  body(scattered(x), std::string("scattered"));
}

template <class Body>
void for_each_reduction(const std::vector<DType>& dtypes, const Body& body) {
  Random random(1);
  for (const DType dtype : dtypes) {
    for (const Shape& shape : kShapes) {
      const Tensor x = random_tensor(dtype, shape, random, dtype == DType::kUInt8 ? 0 : -20, 100);
      for (int64_t dims = 0; dims < (int64_t{1} << shape.size()); ++dims) {
        const std::vector<Values> groups = groups_of(x, dims);
        in_layouts(x, [&](const Tensor& view, const std::string& layout) {
          std::string what = std::string(dtype_name(dtype)) + " " + layout + " dims " + shown(dims);
          for (const int64_t extent : shape) what += " " + shown(extent);
          body(view, dims, groups, what);
        });
      }
    }
  }
}

void expect_within(const Tensor& y, const std::vector<Wide>& exact, double units,
                   const std::vector<Wide>& terms, const std::string& what) {
  const Values got = values_of(y);
  const Values wanted(exact.begin(), exact.end());
  expect_all(got, wanted, what, [&](size_t i) {
    // Beyond the largest number of the dtype comes infinity.
    const double nearest = rounded(wanted[i], y.dtype);
    return same_number(got[i], std::isinf(nearest) ? nearest : wanted[i]) ||
           std::abs(got[i] - wanted[i]) <= allowance(wanted[i], y.dtype, units, terms[i]);
  });
}

TEST("sums and means of every dtype over every set of dimensions") {
  for_each_reduction(kAllDTypes, [](const Tensor& x, int64_t dims,
                                    const std::vector<Values>& groups, const std::string& what) {
    const DType out = is_floating(x.dtype) ? x.dtype : DType::kInt64;
    std::vector<Wide> sums, sizes, means;
    for (const Values& group : groups) {
      Wide sum = 0, size = 0;
      for (const double value : group) {
        sum += value;
        size += std::abs(value);
      }
      sums.push_back(sum);
      sizes.push_back(size);
      means.push_back(sum / static_cast<Wide>(group.size()));
    }
    const auto attr = static_cast<double>(dims);
    const Shape shape = kept_shape(x, dims);
    expect_within(run("sum", {x}, {attr, 1}, out, shape), sums, 8, sizes, "sum " + what);
    if (!is_floating(x.dtype)) return;
    const auto count = static_cast<double>(groups[0].size());
    for (Wide& size : sizes) size /= count;
    expect_within(run("sum", {x}, {attr, 1 / count}, out, shape), means, 8, sizes, "mean " + what);
  });
}

TEST("variance over every set of dimensions, with and without correction") {
  for_each_reduction(kFloats, [](const Tensor& x, int64_t dims, const std::vector<Values>& groups,
                                 const std::string& what) {
    for (const double correction : {0.0, 1.0}) {
      std::vector<Wide> exact, sizes;
      for (const Values& group : groups) {
        const auto count = static_cast<Wide>(group.size());
        Wide mean = 0, squares = 0;
        for (const double value : group) mean += value / count;
        for (const double value : group) squares += (value - mean) * (value - mean);
        const Wide divisor = std::max(count - static_cast<Wide>(correction), Wide(0));
        exact.push_back(divisor == 0 ? Wide(kNan) : squares / divisor);
        sizes.push_back(exact.back() + 1);
      }
      // One element has no deviation to divide by 0.
      expect_within(run("variance", {x}, {static_cast<double>(dims), correction}, x.dtype,
                        kept_shape(x, dims)),
                    exact, 64, sizes, "variance " + what);
    }
  });
}

TEST("extrema over every set of dimensions, in every dtype") {
  for_each_reduction(kAllDTypes, [](const Tensor& x, int64_t dims,
                                    const std::vector<Values>& groups, const std::string& what) {
    Values most, least;
    for (const Values& group : groups) {
      most.push_back(*std::max_element(group.begin(), group.end()));
      least.push_back(*std::min_element(group.begin(), group.end()));
    }
    const auto attr = static_cast<double>(dims);
    expect_values(run("amax", {x}, {attr}, x.dtype, kept_shape(x, dims)), most, "amax " + what);
    expect_values(run("amin", {x}, {attr}, x.dtype, kept_shape(x, dims)), least, "amin " + what);
  });
}

// The first NaN, else the first of the best.
double best_position(const Values& group, bool largest) {
  size_t best = 0;
  for (size_t i = 1; i < group.size(); ++i) {
    if (std::isnan(group[best])) break;
    const bool better = largest ? group[i] > group[best] : group[i] < group[best];
    if (better || std::isnan(group[i])) best = i;
  }
  return static_cast<double>(best);
}

TEST("argmax and argmin give the first of equal elements, along a dimension or of all") {
  Random random(2);
  for (const DType dtype : kAllDTypes) {
    for (const Shape& shape : kShapes) {
      Values values(static_cast<size_t>(count_of(shape)));
      for (double& value : values) value = static_cast<double>(random.below(50));
      const Tensor x = make_tensor(dtype, shape, values);
      for (int64_t dim = -1; dim < static_cast<int64_t>(shape.size()); ++dim) {
        const int64_t dims = dim < 0 ? (int64_t{1} << shape.size()) - 1 : int64_t{1} << dim;
        in_layouts(x, [&](const Tensor& view, const std::string& layout) {
          for (const bool largest : {true, false}) {
            Values expected;
            for (const Values& group : groups_of(x, dims)) {
              expected.push_back(best_position(group, largest));
            }
            expect_values(run(largest ? "argmax" : "argmin", {view}, {static_cast<double>(dim)},
                              DType::kInt64, kept_shape(x, dims)),
                          expected, layout + " along " + shown(dim));
          }
        });
      }
    }
  }
}

TEST("extrema and their positions are NaN's where there is one, wherever it stands") {
  for (const DType dtype : kFloats) {
    for (const size_t n : {1, 5, 40, 1500, 5000}) {
      for (const size_t place : {size_t{0}, n / 2, n - 1}) {
        Values values(n, 1.0);
        values[n / 3] = kInf;
        values[place] = kNan;
        values[n - 1] = place == n - 1 ? kNan : -kInf;
        const auto extent = static_cast<int64_t>(n);
        const Tensor row = make_tensor(dtype, {1, extent}, values);
        const Tensor column = make_tensor(dtype, {extent, 1}, values);
        for (const char* op : {"amax", "amin"}) {
          expect_values(run(op, {row}, {2}, dtype, {1}), {kNan}, op);
          expect_values(run(op, {column}, {1}, dtype, {1}), {kNan}, op);
        }
        for (const char* op : {"argmax", "argmin"}) {
          expect_values(run(op, {row}, {1}, DType::kInt64, {1}), {static_cast<double>(place)}, op);
          expect_values(run(op, {column}, {-1}, DType::kInt64, {}), {static_cast<double>(place)},
                        op);
        }
      }
    }
  }
}

TEST("logsumexp over every set of dimensions") {
  for_each_reduction(kFloats, [](const Tensor& x, int64_t dims, const std::vector<Values>& groups,
                                 const std::string& what) {
    std::vector<Wide> exact, sizes;
    for (const Values& group : groups) {
      const Wide most = *std::max_element(group.begin(), group.end());
      Wide sum = 0;
      for (const double value : group) sum += std::exp(value - most);
      exact.push_back(most + std::log(sum));
      sizes.push_back(std::abs(most) + 10);
    }
    expect_within(run("logsumexp", {x}, {static_cast<double>(dims)}, x.dtype, kept_shape(x, dims)),
                  exact, 4, sizes, "logsumexp " + what);
  });
}

TEST("logsumexp at infinity") {
  for (const DType dtype : kFloats) {
    const Tensor x = make_tensor(dtype, {4, 2}, {-kInf, -kInf, kInf, 1, -kInf, 3, kNan, 0});
    expect_values(run("logsumexp", {x}, {2}, dtype, {4}), {-kInf, kInf, 3, kNan}, "rows");
    expect_values(run("logsumexp", {x}, {0}, dtype, {4, 2}), values_of(x), "of nothing");
  }
}

TEST("empty dimensions: a sum of nothing is 0, a mean NaN, an extremum an error") {
  for (const DType dtype : kFloats) {
    const Tensor x = make_tensor(dtype, {2, 0, 3}, {});
    expect_values(run("sum", {x}, {2, 1}, dtype, {2, 3}), Values(6, 0.0), "sum");
    expect_values(run("sum", {x}, {2, kInf}, dtype, {2, 3}), Values(6, kNan), "mean");
    expect_values(run("variance", {x}, {2, 1}, dtype, {2, 3}), Values(6, kNan), "variance");
    expect_values(run("logsumexp", {x}, {2}, dtype, {2, 3}), Values(6, -kInf), "logsumexp");
    expect_values(run("amax", {x}, {1}, dtype, {0, 3}), {}, "amax without outputs");
    EXPECT_ERROR(ErrorCode::kArgument, "empty", run("amax", {x}, {2}, dtype, {2, 3}));
    EXPECT_ERROR(ErrorCode::kArgument, "empty", run("argmin", {x}, {1}, DType::kInt64, {2, 3}));
  }
}

TEST("long sums neither stall nor drift: 2^25 ones in float32, 10,000 in 16 bits") {
  Tensor ones = make_tensor(DType::kFloat32, {1}, {1});
  ones.shape[0] = int64_t{1} << 25;
  ones.strides[0] = 0;
  expect_values(run("sum", {ones}, {1, 1}, DType::kFloat32, {}), {0x1p25}, "expanded");
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const Values values(10000, 1.0);
    const double sum = rounded(10000, dtype);
    expect_values(run("sum", {make_tensor(dtype, {10000}, values)}, {1, 1}, dtype, {}), {sum},
                  "row");
    expect_values(run("sum", {make_tensor(dtype, {5000, 2}, values)}, {1, 1}, dtype, {2}),
                  {rounded(5000, dtype), rounded(5000, dtype)}, "columns");
  }
}

TEST("integers wrap around, and bool counts") {
  Tensor x = make_tensor(DType::kInt64, {2}, {0, 1});
  x.as<int64_t>()[0] = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(run("sum", {x}, {1, 1}, DType::kInt64, {}).as<int64_t>()[0],
            std::numeric_limits<int64_t>::min());
  const Tensor flags = make_tensor(DType::kBool, {5}, {1, 0, 1, 1, 0});
  expect_values(run("sum", {flags}, {1, 1}, DType::kInt64, {}), {3}, "bool");
}

TEST("results are the same bit for bit with any number of threads") {
  Random random(3);
  const Tensor x = random_tensor(DType::kFloat32, {40, 1000, 30}, random);
  for (const char* op : {"sum", "variance", "logsumexp", "amax"}) {
    for (const double dims : {1.0, 2.0, 4.0, 5.0, 7.0}) {
      const Shape shape = kept_shape(x, static_cast<int64_t>(dims));
      cpu::set_num_threads(1);
      const Tensor one = run(op, {x}, {dims, 1}, DType::kFloat32, shape);
      for (const int threads : {2, 5, 8}) {
        cpu::set_num_threads(threads);
        EXPECT(same_bits(one, run(op, {x}, {dims, 1}, DType::kFloat32, shape)), op);
      }
    }
  }
}

// ---- Row kernels ----

template <class T>
void check_reduction(const cpu::Reduction<T>& op, const cpu::Reduction<T>& reference,
                     const std::vector<T>& x, const std::vector<T>& shifts,
                     const std::string& what) {
  const auto n = static_cast<int64_t>(x.size());
  const T shift = n > 0 ? shifts[0] : T{0};
  const T row = op.row(x.data(), n, shift);
  const T expected = reference.row(x.data(), n, shift);
  EXPECT(std::memcmp(&row, &expected, sizeof(T)) == 0, what + " row");
  std::vector<T> sums(x.size(), op.identity), other = sums;
  for (int round = 0; round < 3; ++round) {
    op.columns(sums.data(), x.data(), shifts.data(), n);
    reference.columns(other.data(), x.data(), shifts.data(), n);
  }
  op.merge(sums.data(), x.data(), shifts.data(), n);
  reference.merge(other.data(), x.data(), shifts.data(), n);
  EXPECT(n == 0 || std::memcmp(sums.data(), other.data(), x.size() * sizeof(T)) == 0,
         what + " columns");
}

template <class T>
void check_row_levels() {
  Random random(4);
  const cpu::RowTable<T>& reference = row_kernels(cpu::Isa::kPortable).table<T>();
  for (const size_t n : {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200, 1000}) {
    std::vector<T> x(n), g(n), weight(n), shifts(n);
    for (size_t i = 0; i < n; ++i) {
      x[i] = static_cast<T>(random.uniform(-5, 5));
      g[i] = static_cast<T>(random.uniform(-1, 1));
      weight[i] = static_cast<T>(random.uniform(0, 2));
      shifts[i] = static_cast<T>(random.uniform(-5, 5));
    }
    const auto length = static_cast<int64_t>(n);
    for (const cpu::Isa level : isa_levels()) {
      const cpu::RowTable<T>& table = row_kernels(level).table<T>();
      const std::string what = std::string(cpu::isa_name(level)) + " " + shown(n) + " ";
      check_reduction(table.sum, reference.sum, x, shifts, what + "sum");
      check_reduction(table.max, reference.max, x, shifts, what + "max");
      check_reduction(table.min, reference.min, x, shifts, what + "min");
      check_reduction(table.sum_squares, reference.sum_squares, x, shifts, what + "sum_squares");
      check_reduction(table.sum_exp, reference.sum_exp, x, shifts, what + "sum_exp");
      if (n == 0) continue;
      // Outputs and statistics of each kernel, one after the other.
      const auto outputs = [&](const cpu::RowTable<T>& kernels) {
        std::vector<T> all, y(n), z = weight;
        const auto keep = [&] { all.insert(all.end(), y.begin(), y.end()); };
        T mean = 0, rstd = 0;
        kernels.softmax(x.data(), y.data(), length), keep();
        kernels.softmax_grad(g.data(), x.data(), y.data(), length), keep();
        kernels.log_softmax(x.data(), y.data(), length), keep();
        kernels.log_softmax_grad(g.data(), x.data(), y.data(), length), keep();
        kernels.layer_norm(x.data(), weight.data(), shifts.data(), y.data(), length, T(1e-5), &mean,
                           &rstd);
        keep();
        kernels.layer_norm_grad(g.data(), x.data(), weight.data(), mean, rstd, y.data(), length);
        keep();
        kernels.norm_weight_grad(g.data(), x.data(), mean, rstd, z.data(), length);
        kernels.rms_norm(x.data(), nullptr, y.data(), length, T(1e-5), &rstd), keep();
        kernels.rms_norm_grad(g.data(), x.data(), nullptr, rstd, y.data(), length), keep();
        kernels.scaled_exp(x.data(), y.data(), length, T(0.5), T(2), T(0.25)), keep();
        all.insert(all.end(), z.begin(), z.end());
        all.push_back(mean);
        all.push_back(rstd);
        return all;
      };
      const std::vector<T> got = outputs(table), expected = outputs(reference);
      EXPECT(std::memcmp(got.data(), expected.data(), got.size() * sizeof(T)) == 0, what + "rows");
    }
  }
}

TEST("row kernels give the same bits at every instruction set, at every length") {
  check_row_levels<float>();
  check_row_levels<double>();
}

}  // namespace
