// Optimizer steps, unscaling, norms, clipping and the loss scale, against sums and formulas in
// double.
#include "testing.h"

#include "cpu/simd/optim.h"

using namespace mixprec;
using namespace mixprec::testing;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

const std::vector<Shape> kShapes = {{1}, {7}, {}, {0, 3}, {1024}, {33, 32}, {3, 5, 70}};

using Tensors = std::vector<Tensor>;

Tensors random_list(DType dtype, Random& random, bool strided, double low = -2, double high = 2) {
  Tensors list;
  for (const Shape& shape : kShapes) {
    const Tensor dense = random_tensor(dtype, shape, random, low, high);
    list.push_back(strided ? scattered(dense) : dense);
  }
  return list;
}

Tensor scalar(double value, DType dtype = DType::kFloat32) {
  return make_tensor(dtype, {}, {value});
}

Tensors scalars(size_t count, double value) {
  Tensors list;
  for (size_t i = 0; i < count; ++i) list.push_back(scalar(value));
  return list;
}

std::vector<Values> values_of_all(const Tensors& list) {
  std::vector<Values> values;
  for (const Tensor& tensor : list) values.push_back(values_of(tensor));
  return values;
}

Tensors copies_of(const Tensors& list) {
  Tensors copies;
  for (const Tensor& tensor : list) {
    copies.push_back(make_tensor(tensor.dtype, shape_of(tensor), values_of(tensor)));
  }
  return copies;
}

void append(Tensors& list, const Tensors& more) {
  list.insert(list.end(), more.begin(), more.end());
}

// ---- Adam ----

struct AdamOptions {
  double lr = 0.03, beta1 = 0.9, beta2 = 0.99, eps = 1e-6, weight_decay = 0.1;
  bool decoupled = false, maximize = false, amsgrad = false;
  double grad_scale = 0, found_inf = -1;  // 0 and -1: not passed
};

struct AdamState {
  Tensors params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, masters, steps;

  AdamState(DType dtype, DType state_dtype, bool with_masters, Random& random, bool strided)
      : params(random_list(dtype, random, strided)),
        grads(random_list(dtype, random, strided)),
        exp_avgs(random_list(state_dtype, random, strided)),
        exp_avg_sqs(random_list(state_dtype, random, strided, 0.1, 1)),
        max_exp_avg_sqs(random_list(state_dtype, random, strided, 0.1, 1)),
        steps(scalars(kShapes.size(), 4)) {
    // Of the second parameter the master is itself: it has none.
    if (with_masters) masters = random_list(DType::kFloat32, random, strided);
    if (with_masters) masters[1] = params[1];
  }
  AdamState(const AdamState& other) = default;

  AdamState copy() const {
    AdamState result(*this);
    for (Tensors* list : {&result.params, &result.grads, &result.exp_avgs, &result.exp_avg_sqs,
                          &result.max_exp_avg_sqs, &result.masters, &result.steps}) {
      *list = copies_of(*list);
    }
    if (!masters.empty()) result.masters[1] = result.params[1];
    return result;
  }

  void step(const AdamOptions& o) const {
    const auto n = static_cast<double>(params.size());
    Tensors inputs = params;
    for (const Tensors* list : {&grads, &exp_avgs, &exp_avg_sqs, &steps}) append(inputs, *list);
    if (o.amsgrad) append(inputs, max_exp_avg_sqs);
    append(inputs, masters);
    if (o.grad_scale != 0) inputs.push_back(scalar(o.grad_scale));
    if (o.found_inf >= 0) inputs.push_back(scalar(o.found_inf));
    std::vector<double> attrs = {n, o.amsgrad ? 1.0 : 0.0, masters.empty() ? 0.0 : 1.0,
                                 o.grad_scale != 0 ? 1.0 : 0.0, o.found_inf >= 0 ? 1.0 : 0.0};
    // Two groups, the second with twice the learning rate.
    attrs.push_back(2);
    for (const double group : {0.0, 1.0}) {
      for (const double value :
           {group == 0 ? 2.0 : n - 2, o.lr * (1 + group), o.beta1, o.beta2, o.eps, o.weight_decay,
            o.decoupled ? 1.0 : 0.0, o.maximize ? 1.0 : 0.0}) {
        attrs.push_back(value);
      }
    }
    run_many("adam_step", inputs, attrs, {});
  }
};

// A step that began at `before` and ended at `after`, step 4 to 5.
void expect_adam(const AdamState& before, const AdamState& after, const AdamOptions& o,
                 const std::string& what) {
  for (size_t i = 0; i < before.params.size(); ++i) {
    const bool own_master = !before.masters.empty() && i != 1;
    const Tensor& old_weight = own_master ? before.masters[i] : before.params[i];
    const Tensor& weight = own_master ? after.masters[i] : after.params[i];
    const Values p = values_of(old_weight), g = values_of(before.grads[i]);
    const Values m = values_of(before.exp_avgs[i]), v = values_of(before.exp_avg_sqs[i]);
    const Values largest = values_of(before.max_exp_avg_sqs[i]);
    const Values new_m = values_of(after.exp_avgs[i]);
    const Values new_v = values_of(o.amsgrad ? after.max_exp_avg_sqs[i] : after.exp_avg_sqs[i]);
    const double lr = i < 2 ? o.lr : 2 * o.lr;
    const double scale = o.grad_scale != 0 ? o.grad_scale : 1;
    Values first, second, maximum, moved;
    for (size_t k = 0; k < p.size(); ++k) {
      double weight_k = p[k], grad = g[k] / scale * (o.maximize ? -1 : 1);
      if (o.decoupled) weight_k *= 1 - lr * o.weight_decay;
      if (!o.decoupled) grad += o.weight_decay * weight_k;
      first.push_back(m[k] * o.beta1 + (1 - o.beta1) * grad);
      second.push_back(v[k] * o.beta2 + (1 - o.beta2) * grad * grad);
      maximum.push_back(std::max(second.back(), largest[k]));
      // From the moments as they are stored.
      const double bias1 = 1 - std::pow(o.beta1, 5), bias2 = 1 - std::pow(o.beta2, 5);
      const double denominator = std::sqrt(new_v[k]) / std::sqrt(bias2) + o.eps;
      moved.push_back(weight_k - lr / bias1 * new_m[k] / denominator);
    }
    // Computed in float32 or better, stored with one rounding.
    expect_close(after.exp_avgs[i], first, 4, 2, what + " expAvg");
    expect_close(after.exp_avg_sqs[i], second, 4, 1, what + " expAvgSq");
    if (o.amsgrad) expect_close(after.max_exp_avg_sqs[i], maximum, 4, 1, what + " maxExpAvgSq");
    expect_close(weight, moved, 6, 2, what + " weight");
    if (own_master) {
      Values narrowed = values_of(weight);
      for (double& value : narrowed) value = rounded(value, after.params[i].dtype);
      expect_values(after.params[i], narrowed, what + " parameter");
    }
    if (o.grad_scale != 0) {
      Values unscaled = g;
      for (double& value : unscaled) value = rounded(value / scale, before.grads[i].dtype);
      expect_values(after.grads[i], unscaled, what + " gradient");
    } else {
      expect_values(after.grads[i], g, what + " gradient");
    }
    expect_values(after.steps[i], {5}, what + " count");
  }
}

std::string adam_name(DType dtype, const AdamOptions& o, bool strided) {
  return std::string("adam ") + dtype_name(dtype) + (o.decoupled ? " decoupled" : "") +
         (o.amsgrad ? " amsgrad" : "") + (o.maximize ? " maximize" : "") +
         (o.grad_scale != 0 ? " scaled" : "") + (strided ? " strided" : "");
}

TEST("adam_step follows its formula in every dtype, layout and combination of options") {
  Random random(1);
  for (const DType dtype : kFloats) {
    for (int bits = 0; bits < 32; ++bits) {
      AdamOptions o;
      o.decoupled = (bits & 1) != 0;
      o.amsgrad = (bits & 2) != 0;
      o.maximize = (bits & 4) != 0;
      if ((bits & 8) != 0) o.grad_scale = 8;
      if ((bits & 8) != 0) o.found_inf = 0;
      const bool strided = (bits & 16) != 0;
      const AdamState before(dtype, dtype, false, random, strided);
      AdamState after = strided ? before : before.copy();
      const AdamState old = before.copy();
      after.step(o);
      expect_adam(old, after, o, adam_name(dtype, o, strided));
    }
  }
}

TEST("adam_step computes in masters and float32 moments where there are some") {
  Random random(2);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const bool strided : {false, true}) {
      for (const bool scaled : {false, true}) {
        AdamOptions o;
        o.decoupled = true;
        if (scaled) o.grad_scale = 16;
        const AdamState state(dtype, DType::kFloat32, true, random, strided);
        const AdamState old = state.copy();
        state.step(o);
        expect_adam(old, state, o, adam_name(dtype, o, strided) + " masters");
      }
    }
  }
}

TEST("no decay and large beta1 leave what they should") {
  Random random(3);
  AdamOptions o;
  o.weight_decay = 0;
  o.beta1 = 0.25;  // torch's lerp starts from the gradient
  const AdamState state(DType::kFloat32, DType::kFloat32, false, random, false);
  const AdamState old = state.copy();
  state.step(o);
  expect_adam(old, state, o, "adam beta1 0.25");
}

TEST("after an overflow a step writes nothing") {
  Random random(4);
  for (const DType dtype : kFloats) {
    AdamOptions o;
    o.amsgrad = true;
    o.grad_scale = 4;
    o.found_inf = 1;
    const AdamState state(dtype, dtype, false, random, false);
    const AdamState old = state.copy();
    state.step(o);
    for (size_t i = 0; i < kShapes.size(); ++i) {
      EXPECT(same_bits(state.params[i], old.params[i]), dtype_name(dtype));
      EXPECT(same_bits(state.grads[i], old.grads[i]), dtype_name(dtype));
      EXPECT(same_bits(state.exp_avgs[i], old.exp_avgs[i]), dtype_name(dtype));
      EXPECT(same_bits(state.exp_avg_sqs[i], old.exp_avg_sqs[i]), dtype_name(dtype));
      EXPECT(same_bits(state.max_exp_avg_sqs[i], old.max_exp_avg_sqs[i]), dtype_name(dtype));
      expect_values(state.steps[i], {4}, "count");
    }
  }
}

TEST("a maximum that is NaN stays, and a new NaN wins") {
  Tensors lists;
  for (const double value : {1.0, 1.0, 0.0, 1.0}) {
    lists.push_back(make_tensor(DType::kFloat32, {2}, {value, value}));
  }
  lists[1] = make_tensor(DType::kFloat32, {2}, {1, kNan});
  lists.push_back(scalar(0));
  lists.push_back(make_tensor(DType::kFloat32, {2}, {kNan, 1}));
  run_many("adam_step", lists, {1, 1, 0, 0, 0, 1, 1, 0.1, 0.9, 0.99, 1e-8, 0, 0, 0}, {});
  expect_values(lists[5], {kNan, kNan}, "maxExpAvgSq");
}

// ---- SGD ----

struct SgdOptions {
  double lr = 0.1, momentum = 0, dampening = 0, weight_decay = 0.2;
  bool nesterov = false, maximize = false, first = false, masters = false;
  double grad_scale = 0;
};

void check_sgd(DType dtype, const SgdOptions& o, bool strided, Random& random) {
  const Tensors params = random_list(dtype, random, strided);
  const Tensors grads = random_list(dtype, random, strided);
  const DType state_dtype = o.masters ? DType::kFloat32 : dtype;
  const Tensors buffers = random_list(state_dtype, random, strided);
  const Tensors masters = random_list(DType::kFloat32, random, strided);
  const Tensors steps = scalars(params.size(), o.first ? 0 : 3);
  const bool has_momentum = o.momentum != 0;
  const auto p = values_of_all(o.masters ? masters : params);
  const auto g = values_of_all(grads), b = values_of_all(buffers);
  Tensors inputs = params;
  append(inputs, grads);
  if (has_momentum) append(inputs, buffers);
  if (has_momentum) append(inputs, steps);
  if (o.masters) append(inputs, masters);
  if (o.grad_scale != 0) inputs.push_back(scalar(o.grad_scale));
  const auto n = static_cast<double>(params.size());
  run_many("sgd_step", inputs,
           {n, has_momentum ? 1.0 : 0.0, o.masters ? 1.0 : 0.0, o.grad_scale != 0 ? 1.0 : 0.0, 0, 1,
            n, o.lr, o.momentum, o.dampening, o.weight_decay, o.nesterov ? 1.0 : 0.0,
            o.maximize ? 1.0 : 0.0},
           {});
  const std::string what = std::string("sgd ") + dtype_name(dtype);
  for (size_t i = 0; i < params.size(); ++i) {
    Values moved, kept;
    for (size_t k = 0; k < p[i].size(); ++k) {
      double grad = g[i][k] / (o.grad_scale != 0 ? o.grad_scale : 1) * (o.maximize ? -1 : 1);
      grad += o.weight_decay * p[i][k];
      double direction = grad;
      if (has_momentum) {
        const double next = b[i][k] * o.momentum + (1 - o.dampening) * grad;
        kept.push_back(o.first ? grad : next);
        direction = o.nesterov ? grad + o.momentum * kept.back() : kept.back();
      }
      moved.push_back(p[i][k] - o.lr * direction);
    }
    expect_close(o.masters ? masters[i] : params[i], moved, 4, 2, what + " weight");
    if (!has_momentum) continue;
    expect_close(buffers[i], kept, 4, 4, what + " buffer");
    expect_values(steps[i], {o.first ? 1.0 : 4.0}, what + " count");
  }
}

TEST("sgd_step follows its formula in every dtype, layout and combination of options") {
  Random random(5);
  for (const DType dtype : kFloats) {
    for (int bits = 0; bits < 64; ++bits) {
      SgdOptions o;
      if ((bits & 1) != 0) o.momentum = 0.9;
      if ((bits & 2) != 0) o.dampening = 0.3;
      o.nesterov = (bits & 3) == 1 && (bits & 4) != 0;
      o.maximize = (bits & 8) != 0;
      o.first = (bits & 16) != 0;
      if ((bits & 32) != 0) o.grad_scale = 4;
      check_sgd(dtype, o, (bits & 4) != 0, random);
    }
  }
  for (const bool strided : {false, true}) {
    SgdOptions o;
    o.masters = true;
    o.momentum = 0.5;
    check_sgd(DType::kBFloat16, o, strided, random);
    check_sgd(DType::kFloat16, o, strided, random);
  }
}

// ---- Unscaling ----

double unscale(const Tensors& grads, double scale, double found_inf = 0) {
  Tensors inputs = grads;
  inputs.push_back(scalar(scale));
  inputs.push_back(scalar(found_inf));
  run_many("unscale_grads", inputs, {static_cast<double>(grads.size())}, {});
  return values_of(inputs.back())[0];
}

TEST("unscale_grads multiplies with the inverse as it is in float32") {
  Random random(6);
  for (const DType dtype : kFloats) {
    for (const bool strided : {false, true}) {
      for (const double scale : {1.0, 65536.0, 3.0}) {
        const Tensors grads = random_list(dtype, random, strided);
        const auto before = values_of_all(grads);
        EXPECT_EQ(unscale(grads, scale), 0.0);
        const double inverse = static_cast<float>(1.0 / scale);
        for (size_t i = 0; i < grads.size(); ++i) {
          Values expected = before[i];
          for (double& value : expected) {
            value = dtype == DType::kFloat64
                        ? value * inverse
                        : rounded(static_cast<float>(value) * static_cast<float>(inverse), dtype);
          }
          expect_values(grads[i], expected, std::string("unscaled ") + dtype_name(dtype));
        }
      }
    }
  }
}

TEST("unscale_grads finds each infinity and NaN, wherever it is") {
  Random random(7);
  for (const DType dtype : kFloats) {
    for (const double bad : {kInf, -kInf, kNan}) {
      for (size_t i = 0; i < kShapes.size(); ++i) {
        for (const bool strided : {false, true}) {
          const Tensors grads = random_list(dtype, random, strided);
          if (grads[i].numel() == 0) continue;
          set_element(element_at(grads[i], random.below(grads[i].numel())), dtype, bad);
          EXPECT_EQ(unscale(grads, 1024), 1.0);
          EXPECT_EQ(unscale(grads, 1), 1.0);
        }
      }
    }
    // The largest finite number is fine, and what was found before stays.
    const double largest = dtype == DType::kFloat64   ? 1.7976931348623157e308
                           : dtype == DType::kFloat16 ? 65504
                                                      : 3.38e38;
    const Tensors grads = {make_tensor(dtype, {3}, {largest, -largest, 0})};
    EXPECT_EQ(unscale(grads, 2), 0.0);
    EXPECT_EQ(unscale(grads, 2, 1), 1.0);
  }
}

// ---- Norms ----

double norm(const Tensors& grads, double type, DType dtype) {
  return values_of(
      run("grad_norm", grads, {static_cast<double>(grads.size()), type}, dtype, {}))[0];
}

TEST("grad_norm is the norm of all elements") {
  Random random(8);
  for (const DType dtype : kFloats) {
    for (const bool strided : {false, true}) {
      const Tensors grads = random_list(dtype, random, strided);
      for (const double type : {1.0, 2.0, 3.5, 0.5, kInf}) {
        double total = 0;
        for (const Values& values : values_of_all(grads)) {
          for (const double value : values) {
            if (type == kInf) total = std::max(total, std::abs(value));
            if (type != kInf) total += std::pow(std::abs(value), type);
          }
        }
        if (type != kInf) total = std::pow(total, 1 / type);
        const double found = norm(grads, type, DType::kFloat64);
        EXPECT(std::abs(found - total) <= 1e-12 * total, shown(found) + " for " + shown(total));
        EXPECT_EQ(norm(grads, type, DType::kFloat32), static_cast<float>(found));
      }
    }
  }
}

TEST("grad_norm of gradients of several dtypes, of infinities and NaN") {
  const Tensors mixed = {make_tensor(DType::kFloat64, {1}, {3}),
                         make_tensor(DType::kBFloat16, {1}, {-4}),
                         make_tensor(DType::kFloat16, {1}, {12})};
  EXPECT_EQ(norm(mixed, 2, DType::kFloat64), 13.0);
  EXPECT_EQ(norm(mixed, kInf, DType::kFloat64), 12.0);
  EXPECT_EQ(norm(mixed, 1, DType::kFloat64), 19.0);
  for (const DType dtype : kFloats) {
    for (const double type : {1.0, 2.0, 3.0, kInf}) {
      const Tensor infinite = make_tensor(dtype, {3}, {1, -kInf, 2});
      const Tensor nan = make_tensor(dtype, {3}, {1, 2, kNan});
      EXPECT_EQ(norm({infinite}, type, DType::kFloat32), kInf);
      EXPECT(std::isnan(norm({nan, infinite}, type, DType::kFloat32)), shown(type));
      EXPECT(std::isnan(norm({infinite, nan}, type, DType::kFloat32)), shown(type));
    }
  }
  const Tensor large = make_tensor(DType::kFloat32, {2}, {3e30, 4e30});
  EXPECT_EQ(norm({large}, 2, DType::kFloat32), static_cast<double>(5e30f));
}

// ---- Clipping ----

TEST("clip_grads scales by min(1, bound / (norm + 1e-6)), NaN as NaN") {
  const auto clip = [](DType dtype, double total, DType norm_dtype, double bound) {
    const Tensor grad = make_tensor(dtype, {3}, {2, -4, kInf});
    run_many("clip_grads", {grad, scalar(total, norm_dtype)}, {1, bound}, {});
    return grad;
  };
  for (const DType dtype : kFloats) {
    for (const DType norm_dtype : {DType::kFloat32, DType::kFloat64}) {
      // As exact as the coarser of gradient and norm.
      const double units = 4 * std::max(1.0, epsilon(norm_dtype) / epsilon(dtype));
      expect_close(clip(dtype, 4, norm_dtype, 2), {1 / (1 + 2.5e-7), -2 / (1 + 2.5e-7), kInf},
                   units, 0, "halved");
      expect_values(clip(dtype, 4, norm_dtype, 8), {2, -4, kInf}, "small enough");
      expect_values(clip(dtype, 4, norm_dtype, kInf), {2, -4, kInf}, "no bound");
      expect_values(clip(dtype, kInf, norm_dtype, 1), {0, 0, kNan}, "infinite");
      expect_values(clip(dtype, kNan, norm_dtype, 1), {kNan, kNan, kNan}, "NaN");
    }
  }
}

TEST("clip_grads and clamp_grads write to strided gradients of every dtype") {
  Random random(9);
  for (const DType dtype : kFloats) {
    const Tensors grads = random_list(dtype, random, true);
    const auto before = values_of_all(grads);
    Tensors inputs = grads;
    inputs.push_back(scalar(3.999999));
    run_many("clip_grads", inputs, {static_cast<double>(grads.size()), 1}, {});
    run_many("clamp_grads", grads, {static_cast<double>(grads.size()), 0.25}, {});
    for (size_t i = 0; i < grads.size(); ++i) {
      Values expected = before[i];
      for (double& value : expected) value = std::clamp(value / 4, -0.25, 0.25);
      expect_close(grads[i], expected, 4, 0, dtype_name(dtype));
    }
  }
  const Tensor special = make_tensor(DType::kFloat32, {4}, {kNan, kInf, -kInf, -0.0});
  run_many("clamp_grads", {special}, {1, 0.5}, {});
  expect_values(special, {kNan, 0.5, -0.5, 0}, "clamped");
}

// ---- The loss scale ----

TEST("scaler_update backs off, counts and grows") {
  const auto update = [](double scale, double tracker, double found, double smallest) {
    const Tensor scale_tensor = scalar(scale), found_inf = scalar(found);
    const Tensor count = scalar(tracker, DType::kInt32);
    run_many("scaler_update", {scale_tensor, count, found_inf}, {2, 0.5, 10, smallest}, {});
    expect_values(found_inf, {0}, "foundInf");
    return std::vector<double>{values_of(scale_tensor)[0], values_of(count)[0]};
  };
  const auto expect = [](const std::vector<double>& got, double scale, double tracker) {
    EXPECT_EQ(got[0], scale);
    EXPECT_EQ(got[1], tracker);
  };
  expect(update(1024, 7, 1, 0), 512, 0);
  expect(update(1024, 7, 2, 0), 512, 0);  // found on two devices
  expect(update(1024, 7, 0, 0), 1024, 8);
  expect(update(1024, 9, 0, 0), 2048, 0);
  expect(update(1.5, 3, 1, 1), 1, 0);
  expect(update(0x1p127, 9, 0, 0), 0x1p127, 0);  // growing would make it infinite
  expect(update(0x1p-149, 9, 1, 0), 0, 0);
}

// ---- Reproducible ----

TEST("results do not depend on threads") {
  const int initial = cpu::num_threads();
  Random random(10);
  Tensors params, grads, first, second, steps;
  for (const Shape& shape : {Shape{300'001}, Shape{5}, Shape{70, 1003}}) {
    params.push_back(random_tensor(DType::kFloat32, shape, random));
    grads.push_back(random_tensor(DType::kFloat32, shape, random));
    first.push_back(random_tensor(DType::kBFloat16, shape, random));
    second.push_back(random_tensor(DType::kBFloat16, shape, random, 0, 1));
  }
  std::vector<Tensors> results;
  for (const int threads : {1, 2, 5}) {
    cpu::set_num_threads(threads);
    const Tensors p = copies_of(params), g = copies_of(grads);
    const Tensor total = run("grad_norm", g, {3, 2}, DType::kFloat64, {});
    Tensors clip = g;
    clip.push_back(total);
    run_many("clip_grads", clip, {3, 1.0}, {});
    Tensors inputs = p;
    append(inputs, g);
    append(inputs, copies_of(first));
    append(inputs, copies_of(second));
    append(inputs, scalars(3, 0));
    run_many("adam_step", inputs, {3, 0, 0, 0, 0, 1, 3, 0.1, 0.9, 0.99, 1e-8, 0.1, 1, 0}, {});
    results.push_back(inputs);
    results.back().push_back(total);
  }
  cpu::set_num_threads(initial);
  for (size_t other = 1; other < results.size(); ++other) {
    for (size_t i = 0; i < results[0].size(); ++i) {
      EXPECT(same_bits(results[0][i], results[other][i]), "tensor " + std::to_string(i));
    }
  }
}

const cpu::OptimKernels& kernels_of([[maybe_unused]] cpu::Isa level) {
#if MIXPREC_X86
  if (level == cpu::Isa::kAvx512) return cpu::optim_avx512();
  if (level == cpu::Isa::kAvx2) return cpu::optim_avx2();
#endif
  return cpu::optim_portable();
}

template <class T>
std::vector<double> kernel_results(const cpu::OptimTable<T>& kernels, int64_t n) {
  Random random(11);
  std::vector<std::vector<T>> arrays(5, std::vector<T>(static_cast<size_t>(n)));
  for (auto& array : arrays) {
    for (T& value : array) value = static_cast<T>(random.uniform(-2, 2));
  }
  for (const size_t squares : {3, 4}) {
    for (T& value : arrays[squares]) value = std::abs(value);
  }
  T *p = arrays[0].data(), *g = arrays[1].data(), *m = arrays[2].data();
  T *v = arrays[3].data(), *v_max = arrays[4].data();
  std::vector<double> results;
  for (const T l2 : {T(0), T(0.1)}) {
    const AdamScalars<T> adam = {T(0.7),  T(0.99), l2,     T(0.9),  T(0.1),
                                 T(0.99), T(0.01), T(0.3), T(1e-7), T(-0.2)};
    kernels.adam_moments(adam, p, g, m, v, nullptr, n);
    kernels.adam_apply(adam, p, m, v, n);
    kernels.adam_moments(adam, p, g, m, v, v_max, n);
    kernels.adam_apply(adam, p, m, v_max, n);
    const SgdScalars<T> sgd = {T(0.7), l2, T(0.9), T(0.8), T(-0.1), true, false, true};
    kernels.sgd(sgd, p, g, m, n);
  }
  kernels.scale(g, T(1.0 / 3), n);
  kernels.clamp(g, T(0.5), n);
  results.push_back(kernels.all_finite(g, n) ? 1 : 0);
  results.push_back(kernels.sum_abs(p, n));
  results.push_back(kernels.sum_squares(p, n));
  results.push_back(kernels.sum_powers(p, n, 2.5));
  results.push_back(static_cast<double>(kernels.max_abs(p, n)));
  for (const auto& array : arrays) results.insert(results.end(), array.begin(), array.end());
  return results;
}

TEST("kernels give the same bits at every instruction set") {
  for (const int64_t n : {0, 1, 7, 16, 31, 64, 1023}) {
    const auto narrow = kernel_results(cpu::optim_portable().f32, n);
    const auto wide = kernel_results(cpu::optim_portable().f64, n);
    for (const cpu::Isa level : isa_levels()) {
      const cpu::OptimKernels& kernels = kernels_of(level);
      EXPECT(kernel_results(kernels.f32, n) == narrow, cpu::isa_name(level));
      EXPECT(kernel_results(kernels.f64, n) == wide, cpu::isa_name(level));
    }
  }
}

TEST("tensors that do not belong together are refused") {
  const Tensor p = make_tensor(DType::kFloat32, {3}, {1, 2, 3});
  const Tensor small = make_tensor(DType::kFloat32, {2}, {1, 2});
  const Tensor whole = make_tensor(DType::kInt32, {3}, {1, 2, 3});
  const std::vector<double> attrs = {1, 0, 0, 0, 0, 1, 1, 0.1, 0, 0, 0, 0, 0};
  const auto step = [&](const Tensors& inputs, const std::vector<double>& given) {
    run_many("sgd_step", inputs, given, {});
  };
  EXPECT_ERROR(ErrorCode::kInternal, "do not belong together", step({p, small}, attrs));
  EXPECT_ERROR(ErrorCode::kInternal, "do not belong together", step({p, whole}, attrs));
  EXPECT_ERROR(ErrorCode::kInternal, "too few tensors", step({p}, attrs));
  EXPECT_ERROR(ErrorCode::kInternal, "no parameters", step({}, attrs));
  const std::vector<double> two = {1, 0, 0, 0, 0, 1, 2, 0.1, 0, 0, 0, 0, 0};
  EXPECT_ERROR(ErrorCode::kInternal, "wrong size", step({p, p}, two));
  EXPECT_ERROR(ErrorCode::kInternal, "not floating point",
               run("grad_norm", {whole}, {1, 2}, DType::kFloat32, {}));
  EXPECT_ERROR(ErrorCode::kInternal, "float32 scalar",
               run_many("unscale_grads", {p, whole, scalar(0)}, {1}, {}));
  expect_values(p, {1, 2, 3}, "untouched");
}

}  // namespace
