// The steps of Adam, AdamW and SGD, over all parameters in one pass through memory. Scalars are
// computed in double; elements in float32, or float64 for a parameter (or its master) that is.

#include "optim.h"

#include "cpu_backend.h"
#include "simd/optim.h"

namespace mixprec::cpu {
namespace {

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

// Calls body with a value of the type that a weight is updated in.
template <class Body>
void by_weight(const Tensor& parameter, const Tensor* master, const Body& body) {
  by_arithmetic(master != nullptr ? master->dtype : parameter.dtype, body);
}

}  // namespace

void CpuBackend::adam_step(const OpCall& call) {
  const AdamCall step(call);
  const Scaling scaling(step.grad_scale, step.found_inf);
  if (scaling.skipped) return;

  std::vector<AdamScalars<double>> scalars;
  scalars.reserve(static_cast<size_t>(step.n));
  for (int64_t i = 0; i < step.n; ++i) {
    const float count = scalar_of(step.steps[i]) += 1.0f;
    scalars.push_back(step.groups[static_cast<size_t>(i)].scalars(
        static_cast<double>(count), static_cast<double>(scaling.inverse)));
  }
  for_each_range(step.params, step.n, [&](int64_t i, int64_t first, int64_t last) {
    const Tensor* master = master_of(step.masters, step.params, i);
    by_weight(step.params[i], master, [&]<class T>(T) {
      alignas(64) T scratch[5][kOptimBlock];
      const OptimTable<T>& kernels = optim_kernels().table<T>();
      const AdamScalars<T> s = scalars[static_cast<size_t>(i)].rounded<T>();
      const WeightView<T> weight(step.params[i], step.grads[i], master);
      const BlockView<T> exp_avg(step.exp_avgs[i]);
      const BlockView<T> exp_avg_sq(step.exp_avg_sqs[i]);
      const bool amsgrad = step.max_exp_avg_sqs != nullptr;
      const BlockView<T> max_exp_avg_sq(amsgrad ? step.max_exp_avg_sqs[i] : step.exp_avg_sqs[i]);
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
  const SgdCall step(call);
  const Scaling scaling(step.grad_scale, step.found_inf);
  if (scaling.skipped) return;

  for_each_range(step.params, step.n, [&](int64_t i, int64_t first, int64_t last) {
    const Tensor* master = master_of(step.masters, step.params, i);
    by_weight(step.params[i], master, [&]<class T>(T) {
      alignas(64) T scratch[3][kOptimBlock];
      const OptimTable<T>& kernels = optim_kernels().table<T>();
      const bool fresh = step.has_momentum && scalar_of(step.steps[i]) == 0.0f;
      const SgdScalars<T> s = step.groups[static_cast<size_t>(i)].scalars<T>(
          step.has_momentum, fresh, static_cast<T>(scaling.inverse));
      const WeightView<T> weight(step.params[i], step.grads[i], master);
      const BlockView<T> momentum(step.has_momentum ? step.buffers[i] : step.params[i]);
      for_each_block(first, last, [&](int64_t begin, int64_t count) {
        T* p = weight.load(begin, count, scratch[0]);
        T* g = weight.load_gradient(begin, count, scratch[1]);
        T* buffer = step.has_momentum ? momentum.load(begin, count, scratch[2]) : nullptr;
        kernels.sgd(s, p, g, buffer, count);
        if (step.has_momentum) momentum.store(begin, count, buffer);
        weight.store(begin, count, p);
        if (scaling.scaled) weight.unscale_gradient(begin, count, g, scaling.inverse);
      });
    });
  });
  for (int64_t i = 0; step.has_momentum && i < step.n; ++i) scalar_of(step.steps[i]) += 1.0f;
}

}  // namespace mixprec::cpu
