// Scaled dot-product attention and its gradients against long double loops: masks, causality,
// dropout, lengths beyond one block of rows, layouts, dtypes, threads.
#include "testing.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

using Wide = long double;
using WideValues = std::vector<Wide>;

constexpr double kInf = std::numeric_limits<double>::infinity();

enum class Mask { kNone, kBool, kAdded };

struct Problem {
  int64_t B, H, L, S, D, DV;
  double scale;
  bool causal = false;
  double dropout = 0;
  Mask mask = Mask::kNone;
  Shape mask_shape = {};
};
constexpr uint64_t kSeed = 21;
constexpr uint64_t kOffset = 4;

std::vector<double> attrs_of(const Problem& p) {
  return {p.scale,
          p.causal ? 1. : 0.,
          p.dropout,
          static_cast<double>(kSeed),
          static_cast<double>(kOffset),
          p.mask != Mask::kNone ? 1. : 0.,
          0};
}

// Element [b, h, i, j] of a dense tensor that broadcasts to [B, H, L, S].
size_t broadcast_at(const Shape& shape, const int64_t (&at)[4]) {
  int64_t position = 0;
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t index = at[4 - shape.size() + d];
    position = position * shape[d] + (shape[d] == 1 ? 0 : index);
  }
  return static_cast<size_t>(position);
}

struct Inputs {
  Tensor q, k, v, g, mask;
};

Inputs make_inputs(const Problem& p, DType dtype, Random& random) {
  Inputs inputs;
  inputs.q = random_tensor(dtype, {p.B, p.H, p.L, p.D}, random);
  inputs.k = random_tensor(dtype, {p.B, p.H, p.S, p.D}, random);
  inputs.v = random_tensor(dtype, {p.B, p.H, p.S, p.DV}, random);
  inputs.g = random_tensor(dtype, {p.B, p.H, p.L, p.DV}, random);
  if (p.mask == Mask::kBool) {
    Values kept(static_cast<size_t>(count_of(p.mask_shape)));
    for (double& value : kept) value = random.below(4) != 0 ? 1 : 0;
    inputs.mask = make_tensor(DType::kBool, p.mask_shape, kept);
  } else if (p.mask == Mask::kAdded) {
    Values added(static_cast<size_t>(count_of(p.mask_shape)));
    for (double& value : added) value = random.below(5) == 0 ? -kInf : random.uniform(-2, 2);
    inputs.mask = make_tensor(dtype, p.mask_shape, added);
  }
  return inputs;
}

struct Reference {
  WideValues out, logsumexp, grad_q, grad_k, grad_v;
};

// Outputs have the dimensions [B, rows, H, D], as the op's.
Reference reference(const Problem& p, const Inputs& inputs) {
  const Values q = values_of(inputs.q), k = values_of(inputs.k), v = values_of(inputs.v);
  const Values g = values_of(inputs.g);
  const Values mask = p.mask == Mask::kNone ? Values{} : values_of(inputs.mask);
  const auto size = [](int64_t count) { return static_cast<size_t>(count); };
  Reference r;
  r.out.assign(size(p.B * p.L * p.H * p.DV), 0);
  r.grad_q.assign(size(p.B * p.L * p.H * p.D), 0);
  r.grad_k.assign(size(p.B * p.S * p.H * p.D), 0);
  r.grad_v.assign(size(p.B * p.S * p.H * p.DV), 0);
  const uint64_t threshold = dropout_threshold(p.dropout);
  for (int64_t b = 0; b < p.B; ++b) {
    for (int64_t h = 0; h < p.H; ++h) {
      const double* keys = k.data() + (b * p.H + h) * p.S * p.D;
      const double* values = v.data() + (b * p.H + h) * p.S * p.DV;
      for (int64_t i = 0; i < p.L; ++i) {
        const int64_t row = (b * p.H + h) * p.L + i;
        const double* query = q.data() + row * p.D;
        const double* grad = g.data() + row * p.DV;
        WideValues weights(size(p.S)), kept(size(p.S), 1);
        Wide most = -HUGE_VALL, sum = 0;
        for (int64_t j = 0; j < p.S; ++j) {
          Wide score = 0;
          for (int64_t d = 0; d < p.D; ++d) score += Wide(query[d]) * keys[j * p.D + d];
          score *= p.scale;
          if (!mask.empty()) {
            const double own = mask[broadcast_at(p.mask_shape, {b, h, i, j})];
            score = p.mask == Mask::kBool ? (own != 0 ? score : -HUGE_VALL) : score + own;
          }
          if (p.causal && j > i) score = -HUGE_VALL;
          weights[size(j)] = score;
          most = std::max(most, score);
          if (p.dropout == 0) continue;
          const auto at = static_cast<uint64_t>(row * p.S + j);
          const bool stays = philox_word(kSeed, kOffset, at) >= threshold;
          kept[size(j)] = stays ? 1 / (1 - Wide(p.dropout)) : Wide(0);
        }
        for (Wide& weight : weights) sum += std::exp(weight - (std::isinf(most) ? 0 : most));
        r.logsumexp.push_back(sum == 0 ? -HUGE_VALL : most + std::log(sum));
        for (Wide& weight : weights) {
          weight = sum == 0 ? Wide(0) : std::exp(weight - r.logsumexp.back());
        }
        const auto out_at = [&](int64_t place, int64_t rows, int64_t width, int64_t d) {
          return size(((b * rows + place) * p.H + h) * width + d);
        };
        WideValues slopes(size(p.S));
        Wide delta = 0;
        for (int64_t j = 0; j < p.S; ++j) {
          for (int64_t d = 0; d < p.DV; ++d) {
            const Wide dropped = weights[size(j)] * kept[size(j)];
            r.out[out_at(i, p.L, p.DV, d)] += dropped * values[j * p.DV + d];
            r.grad_v[out_at(j, p.S, p.DV, d)] += dropped * grad[d];
            slopes[size(j)] += kept[size(j)] * grad[d] * values[j * p.DV + d];
          }
          delta += weights[size(j)] * slopes[size(j)];
        }
        for (int64_t j = 0; j < p.S; ++j) {
          const Wide score_grad = weights[size(j)] * (slopes[size(j)] - delta) * p.scale;
          for (int64_t d = 0; d < p.D; ++d) {
            r.grad_q[out_at(i, p.L, p.D, d)] += score_grad * keys[j * p.D + d];
            r.grad_k[out_at(j, p.S, p.D, d)] += score_grad * query[d];
          }
        }
      }
    }
  }
  return r;
}

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

// [B, rows, H, D] seen as [B, H, rows, D].
Tensor by_heads(Tensor tensor) {
  std::swap(tensor.shape[1], tensor.shape[2]);
  std::swap(tensor.strides[1], tensor.strides[2]);
  return tensor;
}

std::vector<Tensor> forward(const Problem& p, const Inputs& inputs, bool other_layout) {
  const auto view = [&](const Tensor& tensor) { return other_layout ? scattered(tensor) : tensor; };
  std::vector<Tensor> list = {view(inputs.q), view(inputs.k), view(inputs.v)};
  if (p.mask != Mask::kNone) list.push_back(view(inputs.mask));
  const DType dtype = inputs.q.dtype;
  const DType wide = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  return run_many("attention", list, attrs_of(p),
                  {{dtype, {p.B, p.L, p.H, p.DV}}, {wide, {p.B, p.H, p.L}}});
}

std::vector<Tensor> backward(const Problem& p, const Inputs& inputs,
                             const std::vector<Tensor>& saved, bool other_layout) {
  const auto view = [&](const Tensor& tensor) { return other_layout ? scattered(tensor) : tensor; };
  std::vector<Tensor> list = {view(inputs.g), view(inputs.q),           view(inputs.k),
                              view(inputs.v), view(by_heads(saved[0])), saved[1]};
  if (p.mask != Mask::kNone) list.push_back(view(inputs.mask));
  const DType dtype = inputs.q.dtype;
  return run_many("attention_grad", list, attrs_of(p),
                  {{dtype, {p.B, p.L, p.H, p.D}},
                   {dtype, {p.B, p.S, p.H, p.D}},
                   {dtype, {p.B, p.S, p.H, p.DV}}});
}

void check(const Problem& p, DType dtype, Random& random) {
  const Inputs inputs = make_inputs(p, dtype, random);
  const Reference expected = reference(p, inputs);
  std::string what = std::string(dtype_name(dtype)) + " " + shown(p.L) + "x" + shown(p.S);
  if (p.causal) what += " causal";
  if (p.mask != Mask::kNone) what += p.mask == Mask::kBool ? " bool mask" : " added mask";
  if (p.dropout > 0) what += " dropout";
  // Backward is given the rounded output of forward; of 16 bits, that costs its rounding in the
  // sums over a row.
  const double given = epsilon(dtype) / epsilon(dtype == DType::kFloat64 ? dtype : DType::kFloat32);
  const double units = 60 + (is_half_width(dtype) ? 4 * given : 0);
  const double length = std::sqrt(static_cast<double>(p.L)) + 4;
  for (const bool other_layout : {false, true}) {
    const std::vector<Tensor> results = forward(p, inputs, other_layout);
    expect_near(results[0], expected.out, 60, 4, what + " out");
    expect_near(results[1], expected.logsumexp, 30, 8, what + " logsumexp");
    const std::vector<Tensor> grads = backward(p, inputs, results, other_layout);
    expect_near(grads[0], expected.grad_q, units, length, what + " grad q");
    expect_near(grads[1], expected.grad_k, units, length, what + " grad k");
    expect_near(grads[2], expected.grad_v, 60, length, what + " grad v");
  }
}

const std::vector<Problem> kProblems = {
    {1, 1, 1, 1, 1, 1, 1.0},
    {2, 3, 5, 7, 4, 4, 0.5},
    {2, 2, 6, 6, 8, 8, 0.35, true},
    {1, 2, 9, 4, 8, 5, 0.35, true},
    {2, 3, 5, 7, 4, 6, 0.5, false, 0, Mask::kBool, {2, 1, 1, 7}},
    {2, 3, 5, 7, 4, 4, 0.5, true, 0, Mask::kBool, {5, 7}},
    {2, 3, 5, 7, 4, 4, 0.5, false, 0, Mask::kAdded, {2, 1, 5, 7}},
    {1, 3, 8, 8, 4, 4, 0.5, true, 0, Mask::kAdded, {1, 3, 1, 8}},
    {2, 2, 17, 30, 16, 16, 0.25, false, 0.3},
    {1, 2, 12, 12, 8, 8, 0.35, true, 0.5, Mask::kBool, {12, 12}},
    {1, 2, 64, 600, 16, 16, 0.25, false, 0, Mask::kBool, {1, 1, 1, 600}},
    // Beyond one block of rows.
    {1, 1, 100, 1300, 8, 8, 0.35},
    {1, 1, 300, 300, 8, 8, 0.35, true, 0.1},
};

TEST("attention and its gradients, in every float dtype and layout") {
  Random random(1);
  for (const DType dtype : kFloats) {
    for (const Problem& problem : kProblems) check(problem, dtype, random);
  }
}

TEST("a row that is masked as a whole gives 0 and has gradients of 0") {
  Problem p = {1, 1, 2, 3, 2, 2, 1.0, false, 0, Mask::kBool, {2, 3}};
  Random random(2);
  Inputs inputs = make_inputs(p, DType::kFloat32, random);
  inputs.mask = make_tensor(DType::kBool, {2, 3}, {0, 0, 0, 1, 0, 1});
  const std::vector<Tensor> results = forward(p, inputs, false);
  const Values out = values_of(results[0]);
  EXPECT(out[0] == 0 && out[1] == 0, shown(out[0]));
  EXPECT_EQ(values_of(results[1])[0], -kInf);
  for (const Tensor& grad : backward(p, inputs, results, false)) {
    for (const double value : values_of(grad)) EXPECT(std::isfinite(value), shown(value));
  }
  const Values grad_q = values_of(backward(p, inputs, results, false)[0]);
  EXPECT(grad_q[0] == 0 && grad_q[1] == 0, shown(grad_q[0]));
}

TEST("scores far apart neither overflow nor vanish") {
  const Problem p = {1, 1, 1, 3, 1, 1, 1.0};
  Inputs inputs;
  inputs.q = make_tensor(DType::kFloat32, {1, 1, 1, 1}, {1});
  inputs.k = make_tensor(DType::kFloat32, {1, 1, 3, 1}, {1e4, -1e4, 1e4});
  inputs.v = make_tensor(DType::kFloat32, {1, 1, 3, 1}, {1, 5, 2});
  const std::vector<Tensor> results = forward(p, inputs, false);
  expect_values(results[0], {1.5}, "out");
}

TEST("no queries and no keys") {
  Random random(3);
  for (const auto& [L, S] : {std::pair<int64_t, int64_t>{0, 4}, {3, 0}, {0, 0}}) {
    const Problem p = {2, 2, L, S, 4, 4, 0.5};
    const Inputs inputs = make_inputs(p, DType::kFloat32, random);
    const std::vector<Tensor> results = forward(p, inputs, false);
    for (const double value : values_of(results[0])) EXPECT_EQ(value, 0.0);
    for (const Tensor& grad : backward(p, inputs, results, false)) {
      for (const double value : values_of(grad)) EXPECT_EQ(value, 0.0);
    }
  }
}

TEST("results are the same bit for bit with any number of threads") {
  Random random(4);
  const Problem p = {2, 3, 150, 500, 16, 16, 0.25, true, 0.2};
  const Inputs inputs = make_inputs(p, DType::kFloat32, random);
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3, 8}) {
    cpu::set_num_threads(threads);
    std::vector<Tensor> all = forward(p, inputs, false);
    for (const Tensor& grad : backward(p, inputs, all, false)) all.push_back(grad);
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT(same_bits(all[i], first[i]), shown(threads));
  }
}

}  // namespace
