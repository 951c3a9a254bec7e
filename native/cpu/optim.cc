// The steps of Adam, AdamW and SGD, over all parameters in one pass through memory. Scalars are
// computed in double; elements in float32, or float64 for a parameter (or its master) that is.

#include "optim.h"

#include <cmath>
#include <initializer_list>

#include "cpu_backend.h"
#include "simd/optim.h"

namespace mixprec::cpu {
namespace {

constexpr int64_t kMaxGroups = 1 << 20;

// The lists of a call, and which of the optional ones it has.
class Inputs {
 public:
  Inputs(const OpCall& call, int64_t count) : call_(call), count_(count) {
    check(count > 0 && count <= call.num_inputs, "an optimizer step got no parameters");
  }

  const Tensor* list(bool present) {
    if (!present) return nullptr;
    check(at_ + count_ <= call_.num_inputs, "an optimizer step got too few tensors");
    const Tensor* first = call_.inputs + at_;
    at_ += count_;
    return first;
  }
  const Tensor* scalar(bool present) {
    if (!present) return nullptr;
    return &call_.in(static_cast<int32_t>(at_++));
  }

 private:
  const OpCall& call_;
  int64_t count_;
  int64_t at_ = 0;
};

// Every list that is there fits the parameters, and the step counts are scalars.
void check_lists(const Tensor* params, int64_t n, std::initializer_list<const Tensor*> lists,
                 const Tensor* steps) {
  for (int64_t i = 0; i < n; ++i) {
    for (const Tensor* list : lists) {
      if (list != nullptr) check_same_size(params[i], list[i]);
    }
    if (steps != nullptr) scalar_of(steps[i]);
  }
}

// Attributes after the flags: the groups' number, then for each its parameters' and its options.
template <class Group>
std::vector<Group> read_groups(const OpCall& call, int32_t at, int64_t count) {
  const int64_t groups = call.int_attr(at++);
  check(groups > 0 && groups <= kMaxGroups, "an optimizer step got no groups");
  std::vector<Group> by_parameter;
  by_parameter.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < groups; ++i) {
    const int64_t size = call.int_attr(at++);
    check(size >= 0 && size <= count, "an optimizer group has a wrong size");
    const Group group(call, at);
    at += Group::kOptions;
    by_parameter.insert(by_parameter.end(), static_cast<size_t>(size), group);
  }
  check(static_cast<int64_t>(by_parameter.size()) == count, "groups do not cover the parameters");
  return by_parameter;
}

struct AdamGroup {
  static constexpr int32_t kOptions = 7;
  AdamGroup(const OpCall& call, int32_t at)
      : lr(call.attr(at)),
        beta1(call.attr(at + 1)),
        beta2(call.attr(at + 2)),
        eps(call.attr(at + 3)),
        weight_decay(call.attr(at + 4)),
        decoupled(call.flag(at + 5)),
        maximize(call.flag(at + 6)) {}
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled, maximize;

  AdamScalars<double> scalars(double step, double inverse_scale) const {
    const double bias1 = 1.0 - std::pow(beta1, step);
    const double bias2 = 1.0 - std::pow(beta2, step);
    AdamScalars<double> s;
    s.grad_factor = maximize ? -inverse_scale : inverse_scale;
    s.decay_factor = decoupled ? 1.0 - lr * weight_decay : 1.0;
    s.l2 = decoupled ? 0.0 : weight_decay;
    s.beta1 = beta1;
    s.one_minus_beta1 = 1.0 - beta1;
    s.beta2 = beta2;
    s.one_minus_beta2 = 1.0 - beta2;
    s.root_bias2 = std::sqrt(bias2);
    s.eps = eps;
    s.negative_step = -(lr / bias1);
    return s;
  }
};

template <class T>
AdamScalars<T> rounded(const AdamScalars<double>& s) {
  AdamScalars<T> r;
  r.grad_factor = static_cast<T>(s.grad_factor);
  r.decay_factor = static_cast<T>(s.decay_factor);
  r.l2 = static_cast<T>(s.l2);
  r.beta1 = static_cast<T>(s.beta1);
  r.one_minus_beta1 = static_cast<T>(s.one_minus_beta1);
  r.beta2 = static_cast<T>(s.beta2);
  r.one_minus_beta2 = static_cast<T>(s.one_minus_beta2);
  r.root_bias2 = static_cast<T>(s.root_bias2);
  r.eps = static_cast<T>(s.eps);
  r.negative_step = static_cast<T>(s.negative_step);
  return r;
}

struct SgdGroup {
  static constexpr int32_t kOptions = 6;
  SgdGroup(const OpCall& call, int32_t at)
      : lr(call.attr(at)),
        momentum(call.attr(at + 1)),
        dampening(call.attr(at + 2)),
        weight_decay(call.attr(at + 3)),
        nesterov(call.flag(at + 4)),
        maximize(call.flag(at + 5)) {}
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;

  template <class T>
  SgdScalars<T> scalars(bool has_momentum, bool first, T inverse_scale) const {
    SgdScalars<T> s;
    s.grad_factor = maximize ? -inverse_scale : inverse_scale;
    s.l2 = static_cast<T>(weight_decay);
    s.momentum = static_cast<T>(momentum);
    s.grad_share = static_cast<T>(1.0 - dampening);
    s.negative_lr = static_cast<T>(-lr);
    s.has_momentum = has_momentum;
    s.first = first;
    s.nesterov = nesterov;
    return s;
  }
};

// The gradient's factor, and whether the step is to be left out.
struct Scaling {
  Scaling(const Tensor* grad_scale, const Tensor* found_inf)
      : scaled(grad_scale != nullptr),
        inverse(scaled ? inverse_of(scalar_of(*grad_scale)) : 1.0f),
        skipped(found_inf != nullptr && scalar_of(*found_inf) != 0.0f) {}
  bool scaled;
  float inverse;
  bool skipped;
};

// What a step reads first and writes last: the weight, which is the master or else the parameter,
// and the gradient.
template <class T>
class WeightView {
 public:
  WeightView(const Tensor& parameter, const Tensor& gradient, const Tensor* master)
      : parameter_(parameter),
        weight_(master != nullptr ? *master : parameter),
        gradient_(gradient),
        has_master_(master != nullptr) {}

  T* load(int64_t begin, int64_t count, T* scratch) const {
    return weight_.load(begin, count, scratch);
  }
  T* load_gradient(int64_t begin, int64_t count, T* scratch) const {
    return gradient_.load(begin, count, scratch);
  }
  void store(int64_t begin, int64_t count, const T* weight) const {
    weight_.store(begin, count, weight);
    if (has_master_) parameter_.write(begin, count, weight);
  }
  // Leaves the gradient unscaled; the step has used it unrounded.
  void unscale_gradient(int64_t begin, int64_t count, T* gradient, float inverse) const {
    optim_kernels().table<T>().scale(gradient, static_cast<T>(inverse), count);
    gradient_.store(begin, count, gradient);
  }

 private:
  BlockView<T> parameter_;
  BlockView<T> weight_;
  BlockView<T> gradient_;
  bool has_master_;
};

// The master of parameter i, where it is not the parameter itself.
const Tensor* master_of(const Tensor* masters, const Tensor* params, int64_t i) {
  return masters != nullptr && masters[i].data != params[i].data ? &masters[i] : nullptr;
}

// Calls body with a value of the type that a weight is updated in.
template <class Body>
void by_weight(const Tensor& parameter, const Tensor* master, const Body& body) {
  by_arithmetic(master != nullptr ? master->dtype : parameter.dtype, body);
}

}  // namespace

void CpuBackend::adam_step(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  Inputs inputs(call, n);
  const Tensor* params = inputs.list(true);
  const Tensor* grads = inputs.list(true);
  const Tensor* exp_avgs = inputs.list(true);
  const Tensor* exp_avg_sqs = inputs.list(true);
  const Tensor* steps = inputs.list(true);
  const Tensor* max_exp_avg_sqs = inputs.list(call.flag(1));
  const Tensor* masters = inputs.list(call.flag(2));
  const Tensor* grad_scale = inputs.scalar(call.flag(3));
  const Scaling scaling(grad_scale, inputs.scalar(call.flag(4)));
  const std::vector<AdamGroup> groups = read_groups<AdamGroup>(call, 5, n);
  check_lists(params, n, {grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, masters}, steps);
  if (scaling.skipped) return;

  std::vector<AdamScalars<double>> scalars;
  scalars.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const float step = scalar_of(steps[i]) += 1.0f;
    scalars.push_back(groups[static_cast<size_t>(i)].scalars(static_cast<double>(step),
                                                             static_cast<double>(scaling.inverse)));
  }
  for_each_range(params, n, [&](int64_t i, int64_t first, int64_t last) {
    const Tensor* master = master_of(masters, params, i);
    by_weight(params[i], master, [&]<class T>(T) {
      alignas(64) T scratch[5][kOptimBlock];
      const OptimTable<T>& kernels = optim_kernels().table<T>();
      const AdamScalars<T> s = rounded<T>(scalars[static_cast<size_t>(i)]);
      const WeightView<T> weight(params[i], grads[i], master);
      const BlockView<T> exp_avg(exp_avgs[i]);
      const BlockView<T> exp_avg_sq(exp_avg_sqs[i]);
      const bool amsgrad = max_exp_avg_sqs != nullptr;
      const BlockView<T> max_exp_avg_sq(amsgrad ? max_exp_avg_sqs[i] : exp_avg_sqs[i]);
      for_each_block(first, last, [&](int64_t begin, int64_t count) {
        T* p = weight.load(begin, count, scratch[0]);
        T* g = weight.load_gradient(begin, count, scratch[1]);
        T* m = exp_avg.load(begin, count, scratch[2]);
        T* v = exp_avg_sq.load(begin, count, scratch[3]);
        T* v_max = amsgrad ? max_exp_avg_sq.load(begin, count, scratch[4]) : nullptr;
        kernels.adam_moments(s, p, g, m, v, v_max, count);
        exp_avg.round(begin, count, m);
        exp_avg_sq.round(begin, count, v);
        if (amsgrad) max_exp_avg_sq.round(begin, count, v_max);
        kernels.adam_apply(s, p, m, amsgrad ? v_max : v, count);
        weight.store(begin, count, p);
        if (scaling.scaled) weight.unscale_gradient(begin, count, g, scaling.inverse);
      });
    });
  });
}

void CpuBackend::sgd_step(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const bool has_momentum = call.flag(1);
  Inputs inputs(call, n);
  const Tensor* params = inputs.list(true);
  const Tensor* grads = inputs.list(true);
  const Tensor* buffers = inputs.list(has_momentum);
  const Tensor* steps = inputs.list(has_momentum);
  const Tensor* masters = inputs.list(call.flag(2));
  const Tensor* grad_scale = inputs.scalar(call.flag(3));
  const Scaling scaling(grad_scale, inputs.scalar(call.flag(4)));
  const std::vector<SgdGroup> groups = read_groups<SgdGroup>(call, 5, n);
  check_lists(params, n, {grads, buffers, masters}, steps);
  if (scaling.skipped) return;

  for_each_range(params, n, [&](int64_t i, int64_t first, int64_t last) {
    const Tensor* master = master_of(masters, params, i);
    by_weight(params[i], master, [&]<class T>(T) {
      alignas(64) T scratch[3][kOptimBlock];
      const OptimTable<T>& kernels = optim_kernels().table<T>();
      const bool fresh = has_momentum && scalar_of(steps[i]) == 0.0f;
      const SgdScalars<T> s = groups[static_cast<size_t>(i)].scalars<T>(
          has_momentum, fresh, static_cast<T>(scaling.inverse));
      const WeightView<T> weight(params[i], grads[i], master);
      const BlockView<T> momentum(has_momentum ? buffers[i] : params[i]);
      for_each_block(first, last, [&](int64_t begin, int64_t count) {
        T* p = weight.load(begin, count, scratch[0]);
        T* g = weight.load_gradient(begin, count, scratch[1]);
        T* buffer = has_momentum ? momentum.load(begin, count, scratch[2]) : nullptr;
        kernels.sgd(s, p, g, buffer, count);
        if (has_momentum) momentum.store(begin, count, buffer);
        weight.store(begin, count, p);
        if (scaling.scaled) weight.unscale_gradient(begin, count, g, scaling.inverse);
      });
    });
  });
  for (int64_t i = 0; has_momentum && i < n; ++i) scalar_of(steps[i]) += 1.0f;
}

}  // namespace mixprec::cpu
