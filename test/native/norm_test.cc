// Layer and RMS normalization with their gradients, against long double references.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

using Wide = long double;
using WideValues = std::vector<Wide>;

constexpr double kEps = 1e-5;

DType arithmetic_of(DType dtype) { return dtype == DType::kFloat64 ? dtype : DType::kFloat32; }

// Within half a unit of the output's rounding, and `units` of the arithmetic's for `scale`.
void expect_near(const Tensor& y, const WideValues& exact, double units, Wide scale,
                 const std::string& what) {
  const Values got = values_of(y);
  const Values wanted(exact.begin(), exact.end());
  const double arithmetic = epsilon(arithmetic_of(y.dtype));
  expect_all(got, wanted, what, [&](size_t i) {
    const double size = std::abs(wanted[i]);
    // Subnormal numbers of float16 are coarser than its epsilon says.
    const double last = 1.01 * epsilon(y.dtype) * size + (y.dtype == DType::kFloat16 ? 0x1p-25 : 0);
    const double bound = last + units * arithmetic * std::max(size, static_cast<double>(scale));
    return same_number(got[i], wanted[i]) || std::abs(got[i] - wanted[i]) <= bound;
  });
}

struct Reference {
  WideValues y, mean, rstd, grad_input, grad_weight, grad_bias;
};

// `centered` tells layer from RMS normalization.
Reference reference(const Values& x, const Values& weight, const Values& bias, const Values& g,
                    size_t n, bool centered) {
  Reference result;
  result.grad_weight.assign(n, 0);
  result.grad_bias.assign(n, 0);
  const auto length = static_cast<Wide>(n);
  for (size_t row = 0; row * n < x.size(); ++row) {
    const double* own = x.data() + row * n;
    const double* grad = g.data() + row * n;
    Wide mean = 0, squares = 0;
    for (size_t i = 0; centered && i < n; ++i) mean += own[i] / length;
    for (size_t i = 0; i < n; ++i) squares += (own[i] - mean) * (own[i] - mean);
    const Wide rstd = 1 / std::sqrt(squares / length + Wide(kEps));
    result.mean.push_back(mean);
    result.rstd.push_back(rstd);
    Wide average = 0, along = 0;
    for (size_t i = 0; i < n; ++i) {
      const Wide h = (own[i] - mean) * rstd;
      const Wide w = weight.empty() ? 1 : weight[i];
      result.y.push_back(h * w + (bias.empty() ? 0 : bias[i]));
      if (centered) average += grad[i] * w / length;
      along += grad[i] * w * h / length;
      result.grad_weight[i] += grad[i] * h;
      result.grad_bias[i] += grad[i];
    }
    for (size_t i = 0; i < n; ++i) {
      const Wide h = (own[i] - mean) * rstd;
      const Wide w = weight.empty() ? 1 : weight[i];
      result.grad_input.push_back(rstd * (grad[i] * w - average - h * along));
    }
  }
  return result;
}

struct Setting {
  Shape shape;  // the last dimension is normalized
  bool weight;
  bool bias;
};
const std::vector<Setting> kSettings = {{{3}, true, true},         {{4, 1}, true, false},
                                        {{2, 3, 8}, false, false}, {{5, 33}, false, true},
                                        {{7, 100}, true, true},    {{300, 17}, true, true},
                                        {{2, 2, 768}, true, true}, {{3, 3000}, true, false}};

void check(DType dtype, const Setting& setting, bool centered, Random& random) {
  const Shape& shape = setting.shape;
  const int64_t n = shape.back();
  const DType wide = arithmetic_of(dtype);
  const Tensor x = random_tensor(dtype, shape, random, -3, 5);
  const Tensor g = random_tensor(dtype, shape, random, -1, 1);
  const Tensor weight = random_tensor(dtype, {n}, random, -2, 2);
  const Tensor bias = random_tensor(dtype, {n}, random, -2, 2);
  const bool has_bias = centered && setting.bias;
  const Reference expected = reference(values_of(x), setting.weight ? values_of(weight) : Values{},
                                       has_bias ? values_of(bias) : Values{}, values_of(g),
                                       static_cast<size_t>(n), centered);
  const int64_t rows = count_of(shape) / n;
  const std::string what = std::string(centered ? "layer_norm " : "rms_norm ") + dtype_name(dtype);
  for (const bool other_layout : {false, true}) {
    const auto view = [&](const Tensor& tensor) {
      return other_layout ? scattered(tensor) : tensor;
    };
    std::vector<Tensor> inputs = {view(x)};
    if (setting.weight) inputs.push_back(view(weight));
    if (has_bias) inputs.push_back(view(bias));
    const double length = static_cast<double>(n);
    std::vector<double> attrs = {length, kEps, setting.weight ? 1. : 0.};
    std::vector<Output> outputs = {{dtype, shape}, {wide, {rows}}};
    if (centered) {
      attrs.push_back(has_bias ? 1. : 0.);
      outputs.push_back({wide, {rows}});
    }
    const auto results = run_many(centered ? "layer_norm" : "rms_norm", inputs, attrs, outputs);
    expect_near(results[0], expected.y, 24, 4, what);
    if (centered) expect_near(results[1], expected.mean, 8, 4, what + " mean");
    expect_near(results.back(), expected.rstd, 32, 1, what + " rstd");

    // Every choice of the gradients that are wanted.
    for (int wanted = 0; wanted < (centered ? 8 : 4); ++wanted) {
      std::vector<Tensor> grad_inputs = {view(g), view(x)};
      for (size_t i = 1; i < results.size(); ++i) grad_inputs.push_back(view(results[i]));
      if (setting.weight) grad_inputs.push_back(view(weight));
      const auto wants = [&](int bit) { return (wanted >> bit & 1) != 0; };
      std::vector<double> grad_attrs = {length, setting.weight ? 1. : 0.};
      std::vector<Output> grad_outputs = {{dtype, wants(0) ? shape : Shape{0}}};
      for (int bit = 0; bit < (centered ? 3 : 2); ++bit) grad_attrs.push_back(wants(bit) ? 1. : 0.);
      for (int bit = 1; bit < (centered ? 3 : 2); ++bit) {
        grad_outputs.push_back({dtype, {wants(bit) ? n : 0}});
      }
      const auto grads = run_many(centered ? "layer_norm_grad" : "rms_norm_grad", grad_inputs,
                                  grad_attrs, grad_outputs);
      const auto largest = [](const WideValues& values) {
        Wide most = 1;
        for (const Wide value : values) most = std::max(most, std::abs(value));
        return most;
      };
      if (wants(0)) {
        // Rows of one element have a gradient of 0, made of large terms.
        expect_near(grads[0], expected.grad_input, 60,
                    largest(expected.grad_input) * largest(expected.rstd), what + " input");
      }
      const auto sums = static_cast<Wide>(rows);
      if (wants(1)) {
        expect_near(grads[1], expected.grad_weight, 16, largest(expected.grad_weight) + sums,
                    what + " weight");
      }
      if (centered && wants(2)) {
        expect_near(grads[2], expected.grad_bias, 8, sums, what + " bias");
      }
    }
  }
}

TEST("layer and RMS normalization with their gradients, in every float dtype and layout") {
  Random random(1);
  for (const DType dtype : kFloats) {
    for (const Setting& setting : kSettings) {
      for (const bool centered : {true, false}) check(dtype, setting, centered, random);
    }
  }
}

TEST("a constant row is normalized to the bias") {
  const Tensor x = make_tensor(DType::kFloat32, {1, 64}, Values(64, 1e6));
  const Tensor bias = make_tensor(DType::kFloat32, {64}, Values(64, 0.25));
  const auto results =
      run_many("layer_norm", {x, bias}, {64, kEps, 0, 1},
               {{DType::kFloat32, {1, 64}}, {DType::kFloat32, {1}}, {DType::kFloat32, {1}}});
  expect_values(results[0], Values(64, 0.25), "constant");
  expect_values(results[1], {1e6}, "mean");
}

TEST("a large mean costs no variance") {
  // One pass over squares would lose all of it.
  Values values;
  for (int i = 0; i < 512; ++i) values.push_back(10000 + (i % 2 == 0 ? 1 : -1));
  const Tensor x = make_tensor(DType::kFloat32, {1, 512}, values);
  const auto results =
      run_many("layer_norm", {x}, {512, 0, 0, 0},
               {{DType::kFloat32, {1, 512}}, {DType::kFloat32, {1}}, {DType::kFloat32, {1}}});
  expect_values(results[2], {1}, "rstd");
}

TEST("no rows: outputs are empty, and gradients of weight and bias 0") {
  const Tensor none = make_tensor(DType::kFloat32, {0, 3}, {});
  const Tensor empty = make_tensor(DType::kFloat32, {0}, {});
  const auto grads =
      run_many("layer_norm_grad", {none, none, empty, empty}, {3, 0, 1, 1, 1},
               {{DType::kFloat32, {0, 3}}, {DType::kFloat32, {3}}, {DType::kFloat32, {3}}});
  expect_values(grads[1], {0, 0, 0}, "weight");
  expect_values(grads[2], {0, 0, 0}, "bias");
}

TEST("gradients are the same bit for bit with any number of threads") {
  Random random(3);
  const Shape shape = {1000, 96};
  const Tensor x = random_tensor(DType::kFloat32, shape, random);
  const Tensor g = random_tensor(DType::kFloat32, shape, random);
  const Tensor weight = random_tensor(DType::kFloat32, {96}, random);
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3, 8}) {
    cpu::set_num_threads(threads);
    const auto results =
        run_many("layer_norm", {x, weight}, {96, kEps, 1, 0},
                 {{DType::kFloat32, shape}, {DType::kFloat32, {1000}}, {DType::kFloat32, {1000}}});
    auto all =
        run_many("layer_norm_grad", {g, x, results[1], results[2], weight}, {96, 1, 1, 1, 1},
                 {{DType::kFloat32, shape}, {DType::kFloat32, {96}}, {DType::kFloat32, {96}}});
    all.insert(all.end(), results.begin(), results.end());
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT(same_bits(all[i], first[i]), shown(threads));
  }
}

}  // namespace
