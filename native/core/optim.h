// The optimizers for every backend: what a call of a step holds, and the formulas of its elements.
// They are torch's (its optimizers without foreach or fused) in the same order, without fused
// multiply-adds: `Math` brings add, mul and sqrt, and a Math type that is internal to a translation
// unit makes these functions internal to it as well.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "backend.h"
#include "host_device.h"
#include "pointwise.h"

namespace mixprec {

// ---- The scalars of an update, computed in double and rounded once ----

template <class T>
struct AdamScalars {
  T grad_factor;   // the gradient as it came times this is the gradient
  T decay_factor;  // multiplies the parameter first; 1 for none
  T l2;            // the gradient gets this times the parameter; 0 for none
  T beta1;
  T one_minus_beta1;
  T beta2;
  T one_minus_beta2;
  T root_bias2;  // sqrt(1 - beta2^t)
  T eps;
  T negative_step;  // -lr / (1 - beta1^t)

  template <class U>
  MIXPREC_HD AdamScalars<U> rounded() const {
    return {static_cast<U>(grad_factor),     static_cast<U>(decay_factor),    static_cast<U>(l2),
            static_cast<U>(beta1),           static_cast<U>(one_minus_beta1), static_cast<U>(beta2),
            static_cast<U>(one_minus_beta2), static_cast<U>(root_bias2),      static_cast<U>(eps),
            static_cast<U>(negative_step)};
  }
};

template <class T>
struct SgdScalars {
  T grad_factor;
  T l2;
  T momentum;
  T grad_share;  // 1 - dampening
  T negative_lr;
  bool has_momentum;
  bool first;  // the momentum buffer holds nothing yet
  bool nesterov;
};

// ---- Options of a parameter group, as the attributes have them ----

struct AdamGroup {
  static constexpr int32_t kOptions = 7;
  AdamGroup() = default;
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

  MIXPREC_HD AdamScalars<double> scalars(double step, double inverse_scale) const {
    const double bias1 = 1.0 - ::pow(beta1, step);
    const double bias2 = 1.0 - ::pow(beta2, step);
    AdamScalars<double> s;
    s.grad_factor = maximize ? -inverse_scale : inverse_scale;
    s.decay_factor = decoupled ? 1.0 - lr * weight_decay : 1.0;
    s.l2 = decoupled ? 0.0 : weight_decay;
    s.beta1 = beta1;
    s.one_minus_beta1 = 1.0 - beta1;
    s.beta2 = beta2;
    s.one_minus_beta2 = 1.0 - beta2;
    s.root_bias2 = ::sqrt(bias2);
    s.eps = eps;
    s.negative_step = -(lr / bias1);
    return s;
  }
};

struct SgdGroup {
  static constexpr int32_t kOptions = 6;
  SgdGroup() = default;
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
  MIXPREC_HD SgdScalars<T> scalars(bool has_momentum, bool first, T inverse_scale) const {
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

// ---- Formulas of one element ----

// Decays the parameter and takes the gradient into the moments. `near_m` is one_minus_beta1 < 0.5:
// torch's lerp goes from the nearer end.
template <class Math, bool kL2, class T>
MIXPREC_FORMULA void adam_moments_value(const AdamScalars<T>& s, bool near_m, T& p, T g, T& m,
                                        T& v) {
  const T weight = Math::mul(p, s.decay_factor);
  p = weight;
  T grad = Math::mul(g, s.grad_factor);
  if constexpr (kL2) grad = Math::add(grad, Math::mul(s.l2, weight));
  const T difference = Math::add(grad, -m);
  const T from_m = Math::add(m, Math::mul(s.one_minus_beta1, difference));
  const T from_grad = Math::add(grad, -Math::mul(difference, s.beta1));
  m = near_m ? from_m : from_grad;
  v = Math::add(Math::mul(v, s.beta2), Math::mul(Math::mul(s.one_minus_beta2, grad), grad));
}

// The larger of two second moments; NaN wins, as in torch's maximum.
template <class T>
MIXPREC_FORMULA T adam_max_value(T previous, T second) {
  // No comparison with NaN is true.
  const bool keeps = (previous >= second) | (previous != previous);
  return keeps ? previous : second;
}

// Moves the parameter by moments that may have been rounded to their storage in between.
template <class Math, class T>
MIXPREC_FORMULA T adam_apply_value(const AdamScalars<T>& s, T p, T m, T v) {
  const T denominator = Math::add(Math::sqrt(v) / s.root_bias2, s.eps);
  return Math::add(p, Math::mul(s.negative_step, m) / denominator);
}

template <class Math, class T>
MIXPREC_FORMULA T sgd_gradient_value(const SgdScalars<T>& s, T p, T g) {
  const T grad = Math::mul(g, s.grad_factor);
  return s.l2 != 0 ? Math::add(grad, Math::mul(s.l2, p)) : grad;
}

template <class Math, class T>
MIXPREC_FORMULA T sgd_value(const SgdScalars<T>& s, T p, T g) {
  return Math::add(p, Math::mul(s.negative_lr, sgd_gradient_value<Math>(s, p, g)));
}

// With momentum, whose buffer it moves.
template <class Math, class T>
MIXPREC_FORMULA T sgd_momentum_value(const SgdScalars<T>& s, T p, T g, T& buffer) {
  const T grad = sgd_gradient_value<Math>(s, p, g);
  const T moved =
      s.first ? grad : Math::add(Math::mul(buffer, s.momentum), Math::mul(s.grad_share, grad));
  buffer = moved;
  const T direction = s.nesterov ? Math::add(grad, Math::mul(s.momentum, moved)) : moved;
  return Math::add(p, Math::mul(s.negative_lr, direction));
}

// What scaled gradients are multiplied with.
MIXPREC_HD inline float inverse_of(float scale) {
  return static_cast<float>(1.0 / static_cast<double>(scale));
}

// min(1, bound / (total + 1e-6)) in the dtype of the norm; NaN stays.
template <class T>
MIXPREC_HD inline T clip_coefficient(T total, double bound) {
  const T coefficient = (T{1} / (total + static_cast<T>(1e-6))) * static_cast<T>(bound);
  return coefficient > T{1} ? T{1} : coefficient;
}

// ---- The lists of a call ----

// Takes the lists of a step one after the other, those that it has.
class OptimInputs {
 public:
  OptimInputs(const OpCall& call, int64_t count) : call_(call), count_(count) {
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

inline void check_float_scalar(const Tensor& tensor) {
  check(tensor.dtype == DType::kFloat32 && tensor.numel() == 1,
        "an optimizer op needs a float32 scalar");
}

// Every list that is there fits the parameters, and the step counts are scalars.
inline void check_optim_lists(const Tensor* params, int64_t n,
                              std::initializer_list<const Tensor*> lists, const Tensor* steps) {
  for (int64_t i = 0; i < n; ++i) {
    for (const Tensor* list : lists) {
      if (list == nullptr) continue;
      check(params[i].numel() == list[i].numel() && is_floating(params[i].dtype) &&
                is_floating(list[i].dtype),
            "an optimizer op got tensors that do not belong together");
    }
    if (steps != nullptr) check_float_scalar(steps[i]);
  }
}

// Attributes after the flags: the groups' number, then for each its parameters' and its options.
template <class Group>
std::vector<Group> read_optim_groups(const OpCall& call, int32_t at, int64_t count) {
  constexpr int64_t kMaxGroups = 1 << 20;
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

// The master of parameter i, where it is not the parameter itself.
inline const Tensor* master_of(const Tensor* masters, const Tensor* params, int64_t i) {
  return masters != nullptr && masters[i].data != params[i].data ? &masters[i] : nullptr;
}

// What calls of optimizer steps have in common. Lists have `n` tensors; those that the call lacks
// are null.
template <class Group>
struct OptimCall {
  int64_t n;
  const Tensor* params;
  const Tensor* grads;
  const Tensor* steps;
  const Tensor* masters;
  const Tensor* grad_scale;
  const Tensor* found_inf;
  std::vector<Group> groups;  // one to a parameter

 protected:
  explicit OptimCall(const OpCall& call) : n(call.int_attr(0)) {}

  // What follows the optimizer's own lists: flags 2 to 4 say what of it is there.
  void read_rest(const OpCall& call, OptimInputs& inputs) {
    masters = inputs.list(call.flag(2));
    grad_scale = inputs.scalar(call.flag(3));
    found_inf = inputs.scalar(call.flag(4));
    groups = read_optim_groups<Group>(call, 5, n);
  }
};

// A call of adam_step.
struct AdamCall : OptimCall<AdamGroup> {
  const Tensor* exp_avgs;
  const Tensor* exp_avg_sqs;
  const Tensor* max_exp_avg_sqs;

  explicit AdamCall(const OpCall& call) : OptimCall(call) {
    OptimInputs inputs(call, n);
    params = inputs.list(true);
    grads = inputs.list(true);
    exp_avgs = inputs.list(true);
    exp_avg_sqs = inputs.list(true);
    steps = inputs.list(true);
    max_exp_avg_sqs = inputs.list(call.flag(1));
    read_rest(call, inputs);
    check_optim_lists(params, n, {grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, masters}, steps);
  }
};

// A call of sgd_step.
struct SgdCall : OptimCall<SgdGroup> {
  bool has_momentum;
  const Tensor* buffers;

  explicit SgdCall(const OpCall& call) : OptimCall(call), has_momentum(call.flag(1)) {
    OptimInputs inputs(call, n);
    params = inputs.list(true);
    grads = inputs.list(true);
    buffers = inputs.list(has_momentum);
    steps = inputs.list(has_momentum);
    read_rest(call, inputs);
    check_optim_lists(params, n, {grads, buffers, masters}, steps);
  }
};

// The gradients that an op on them begins with.
inline const Tensor* checked_gradients(const OpCall& call, int64_t n) {
  check(n > 0 && n <= call.num_inputs, "an op on gradients got none");
  for (int64_t i = 0; i < n; ++i) {
    check(is_floating(call.inputs[i].dtype), "a gradient is not floating point");
  }
  return call.inputs;
}

}  // namespace mixprec
