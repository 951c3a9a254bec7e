// Softmax, log-softmax and cross entropy with their gradients, against long double references.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

using Wide = long double;
using WideValues = std::vector<Wide>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

// A bound in units of the arithmetic's epsilon beside half a unit of the output's own rounding.
void expect_near(const Tensor& y, const WideValues& exact, double units, double scale,
                 const std::string& what) {
  const Values got = values_of(y);
  const Values wanted(exact.begin(), exact.end());
  const double arithmetic = epsilon(y.dtype == DType::kFloat64 ? y.dtype : DType::kFloat32);
  expect_all(got, wanted, what, [&](size_t i) {
    const double size = std::abs(wanted[i]);
    // Subnormal numbers of float16 are coarser than its epsilon says.
    const double last = 1.01 * epsilon(y.dtype) * size + (y.dtype == DType::kFloat16 ? 0x1p-25 : 0);
    const double bound = last + units * arithmetic * std::max(size, scale);
    return same_number(got[i], wanted[i]) || std::abs(got[i] - wanted[i]) <= bound;
  });
}

const std::vector<Shape> kShapes = {{1},       {6},          {33},         {5, 1},   {4, 100},
                                    {3, 7, 5}, {2, 3, 4, 9}, {2, 1000, 3}, {3, 4000}};

// Calls body(positions) with the elements of each row along `dim`.
template <class Body>
void for_rows(const Shape& shape, size_t dim, const Body& body) {
  int64_t inner = 1;
  for (size_t d = dim + 1; d < shape.size(); ++d) inner *= shape[d];
  const int64_t rows = count_of(shape) / std::max<int64_t>(shape[dim], 1);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<size_t> positions;
    for (int64_t i = 0; i < shape[dim]; ++i) {
      positions.push_back(
          static_cast<size_t>(row / inner * shape[dim] * inner + i * inner + row % inner));
    }
    body(positions);
  }
}

WideValues log_softmax(const Values& x, const Shape& shape, size_t dim) {
  WideValues y(x.size());
  for_rows(shape, dim, [&](const std::vector<size_t>& row) {
    Wide most = -HUGE_VALL, sum = 0;
    for (const size_t at : row) most = std::max(most, static_cast<Wide>(x[at]));
    for (const size_t at : row) sum += std::exp(x[at] - most);
    for (const size_t at : row) y[at] = x[at] - most - std::log(sum);
  });
  return y;
}

TEST("softmax and log-softmax along every dimension, in every float dtype and layout") {
  Random random(1);
  for (const DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const Tensor x = random_tensor(dtype, shape, random, -12, 12);
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        const WideValues logs = log_softmax(values_of(x), shape, dim);
        WideValues weights;
        for (const Wide value : logs) weights.push_back(std::exp(value));
        const auto along = static_cast<double>(dim);
        for (const Tensor& view : {x, scattered(x)}) {
          expect_near(run("softmax", {view}, {along, 0}, dtype, shape), weights, 60, 0, "softmax");
          expect_near(run("softmax", {view}, {along, 1}, dtype, shape), logs, 4, 12, "log_softmax");
        }
      }
    }
  }
}

TEST("their gradients along every dimension, in every float dtype and layout") {
  Random random(2);
  for (const DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const Tensor x = random_tensor(dtype, shape, random, -4, 4);
      const Tensor g = random_tensor(dtype, shape, random, -1, 1);
      const Values gradients = values_of(g);
      for (size_t dim = 0; dim < shape.size(); ++dim) {
        const auto along = static_cast<double>(dim);
        for (const double log : {0.0, 1.0}) {
          // From the rounded output, which is what the op is given.
          const Tensor y = run("softmax", {x}, {along, log}, dtype, shape);
          const Values outputs = values_of(y);
          WideValues expected(outputs.size());
          for_rows(shape, dim, [&](const std::vector<size_t>& row) {
            Wide sum = 0;
            for (const size_t at : row) {
              sum += log != 0 ? Wide(gradients[at]) : Wide(gradients[at]) * outputs[at];
            }
            for (const size_t at : row) {
              expected[at] = log != 0 ? gradients[at] - std::exp(Wide(outputs[at])) * sum
                                      : outputs[at] * (gradients[at] - sum);
            }
          });
          for (const bool other_layout : {false, true}) {
            const std::vector<Tensor> inputs = other_layout
                                                   ? std::vector<Tensor>{scattered(g), scattered(y)}
                                                   : std::vector<Tensor>{g, y};
            expect_near(run("softmax_grad", inputs, {along, log}, dtype, shape), expected, 60, 1,
                        log != 0 ? "log_softmax_grad" : "softmax_grad");
          }
        }
      }
    }
  }
}

TEST("softmax of infinities: masked elements get 0, a row without any other NaN") {
  for (const DType dtype : kFloats) {
    const Tensor x = make_tensor(dtype, {4, 2}, {-kInf, 0, -kInf, -kInf, 3, kNan, kInf, 0});
    expect_values(run("softmax", {x}, {1, 0}, dtype, {4, 2}),
                  {0, 1, kNan, kNan, kNan, kNan, kNan, kNan}, "softmax");
    const Values logs = values_of(run("softmax", {x}, {1, 1}, dtype, {4, 2}));
    EXPECT(logs[0] == -kInf && logs[1] == 0, "log_softmax");
    // Far apart, and all large: neither overflows.
    const Tensor far = make_tensor(dtype, {2, 2}, {60000, -60000, 60000, 60000});
    expect_values(run("softmax", {far}, {1, 0}, dtype, {2, 2}), {1, 0, 0.5, 0.5}, "far");
  }
}

TEST("rows of nothing, and a scalar") {
  expect_values(
      run("softmax", {make_tensor(DType::kFloat32, {0, 3}, {})}, {1, 0}, DType::kFloat32, {0, 3}),
      {}, "no rows");
  expect_values(
      run("softmax", {make_tensor(DType::kFloat32, {3, 0}, {})}, {1, 1}, DType::kFloat32, {3, 0}),
      {}, "rows of nothing");
  expect_values(
      run("softmax", {make_tensor(DType::kFloat16, {}, {5})}, {0, 0}, DType::kFloat16, {}), {1},
      "scalar");
}

// ---- Cross entropy ----

struct Entropy {
  WideValues loss, logsumexp, grad;
};

Entropy entropy_reference(const Values& logits, const Values& target, const Values& grad_loss,
                          size_t C, double ignore, Wide smoothing) {
  Entropy result;
  for (size_t row = 0; row < target.size(); ++row) {
    const double* x = logits.data() + row * C;
    if (target[row] == ignore) {
      result.loss.push_back(0);
      result.logsumexp.push_back(0);
      result.grad.insert(result.grad.end(), C, 0);
      continue;
    }
    Wide most = -HUGE_VALL, sum = 0, average = 0;
    for (size_t j = 0; j < C; ++j) most = std::max(most, Wide(x[j]));
    for (size_t j = 0; j < C; ++j) {
      sum += std::exp(x[j] - most);
      average += Wide(x[j]) / static_cast<Wide>(C);
    }
    const Wide total = most + std::log(sum);
    const auto label = static_cast<size_t>(target[row]);
    result.logsumexp.push_back(total);
    result.loss.push_back((1 - smoothing) * (total - x[label]) + smoothing * (total - average));
    for (size_t j = 0; j < C; ++j) {
      const Wide wanted = smoothing / static_cast<Wide>(C) + (j == label ? 1 - smoothing : Wide(0));
      result.grad.push_back(grad_loss[row] * (std::exp(x[j] - total) - wanted));
    }
  }
  return result;
}

TEST("cross entropy and its gradient, with ignored rows and label smoothing") {
  Random random(3);
  for (const DType dtype : kFloats) {
    const DType wide = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
    for (const int64_t C : {1, 2, 5, 33, 1000}) {
      for (const double smoothing : {0.0, 0.1, 1.0}) {
        const int64_t N = 9;
        const Tensor logits = random_tensor(dtype, {N, C}, random, -8, 8);
        Values labels;
        for (int64_t i = 0; i < N; ++i) labels.push_back(static_cast<double>(random.below(C)));
        labels[2] = labels[5] = -100;
        const Tensor target = make_tensor(DType::kInt64, {N}, labels);
        const Tensor grad = random_tensor(wide, {N}, random, -1, 1);
        const Entropy expected =
            entropy_reference(values_of(logits), labels, values_of(grad), static_cast<size_t>(C),
                              -100, static_cast<Wide>(smoothing));
        for (const bool other_layout : {false, true}) {
          const auto view = [&](const Tensor& tensor) {
            return other_layout ? scattered(tensor) : tensor;
          };
          const auto results = run_many("cross_entropy", {view(logits), view(target)},
                                        {-100, smoothing}, {{wide, {N}}, {wide, {N}}});
          expect_near(results[0], expected.loss, 16, 8, "loss");
          expect_near(results[1], expected.logsumexp, 4, 8, "logsumexp");
          expect_near(
              run("cross_entropy_grad", {view(grad), view(logits), view(target), view(results[1])},
                  {-100, smoothing}, dtype, {N, C}),
              expected.grad, 40, 1, "grad");
        }
      }
    }
  }
}

TEST("cross entropy of a certain and of an impossible class") {
  const Tensor logits = make_tensor(DType::kFloat32, {3, 2}, {1000, -1000, 1000, -1000, 5, -kInf});
  const Tensor target = make_tensor(DType::kInt64, {3}, {0, 1, 1});
  const auto results = run_many("cross_entropy", {logits, target}, {-100, 0},
                                {{DType::kFloat32, {3}}, {DType::kFloat32, {3}}});
  expect_values(results[0], {0, 2000, kInf}, "loss");
}

TEST("a target that is no class is an ArgumentError that names it and its row") {
  const Tensor logits = make_tensor(DType::kFloat32, {2, 3}, Values(6, 0.0));
  for (const double bad : {3.0, -1.0}) {
    const Tensor target = make_tensor(DType::kInt64, {2}, {0, bad});
    const std::string got = "got " + std::to_string(static_cast<int>(bad)) + " in row 1";
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run_many("cross_entropy", {logits, target}, {-100, 0},
                          {{DType::kFloat32, {2}}, {DType::kFloat32, {2}}}));
    const Tensor grad = make_tensor(DType::kFloat32, {2}, {1, 1});
    EXPECT_ERROR(ErrorCode::kArgument, got,
                 run("cross_entropy_grad", {grad, logits, target, grad}, {-100, 0}, DType::kFloat32,
                     {2, 3}));
  }
}

}  // namespace
