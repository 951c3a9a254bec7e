// The steps of Adam and AdamW.

#include "optim_step.h"

namespace mixprec::cuda {
namespace {

struct AdamEntry : WeightEntry {
  FloatColumn exp_avg;
  FloatColumn exp_avg_sq;
  FloatColumn max_exp_avg_sq;  // null without amsgrad
  AdamGroup group;
};

constexpr int kAdamScalars = sizeof(AdamScalars<double>) / sizeof(double);

// Counts the steps, and leaves the scalars of each parameter.
__global__ void __launch_bounds__(kSetupThreads)
    begin_adam(const AdamEntry* entries, int64_t count, Scaling scaling, double* scalars) {
  const int64_t at = int64_t{blockIdx.x} * kSetupThreads + threadIdx.x;
  if (at >= count || scaling.skipped()) return;
  const AdamEntry* entry = entries + at;
  float* const counter = ptx::ld(&entry->step);
  const float step = ptx::ld(counter) + 1.0f;
  ptx::st(counter, step);
  AdamGroup group;
  group.lr = load_option(entry->group.lr);
  group.beta1 = load_option(entry->group.beta1);
  group.beta2 = load_option(entry->group.beta2);
  group.eps = load_option(entry->group.eps);
  group.weight_decay = load_option(entry->group.weight_decay);
  group.decoupled = load_option(entry->group.decoupled);
  group.maximize = load_option(entry->group.maximize);
  const AdamScalars<double> s =
      group.scalars(static_cast<double>(step), static_cast<double>(scaling.inverse()));
  const double values[kAdamScalars] = {
      s.grad_factor, s.decay_factor,    s.l2,         s.beta1, s.one_minus_beta1,
      s.beta2,       s.one_minus_beta2, s.root_bias2, s.eps,   s.negative_step};
  MIXPREC_UNROLL
  for (int i = 0; i < kAdamScalars; ++i) ptx::st(scalars + at * kAdamScalars + i, values[i]);
}

template <class T>
MIXPREC_DEVICE void adam_chunk(const AdamEntry* entry, int64_t chunk, const double* scalars,
                               const Scaling& scaling) {
  T values[kAdamScalars];
  MIXPREC_UNROLL
  for (int i = 0; i < kAdamScalars; ++i) values[i] = static_cast<T>(ptx::ld(scalars + i));
  const AdamScalars<T> s{values[0], values[1], values[2], values[3], values[4],
                         values[5], values[6], values[7], values[8], values[9]};
  const bool near_m = s.one_minus_beta1 < T(0.5);
  const T inverse = static_cast<T>(scaling.inverse());
  const Weights<T> weights(entry);
  const FloatColumn exp_avg = load_entry_column(entry->exp_avg);
  const FloatColumn exp_avg_sq = load_entry_column(entry->exp_avg_sq);
  const FloatColumn max_exp_avg_sq = load_entry_column(entry->max_exp_avg_sq);
  const bool vectorizes = weights.vectorizes();
  for_own_elements(entry, chunk, [&](int64_t at, int count) {
    T p[kOptimWidth], g[kOptimWidth], m[kOptimWidth], v[kOptimWidth];
    weights.load(at, count, p, g);
    load_column(exp_avg, at, count, vectorizes, m);
    load_column(exp_avg_sq, at, count, vectorizes, v);
    MIXPREC_UNROLL
    for (int i = 0; i < kOptimWidth; ++i) {
      if (s.l2 != T(0)) {
        adam_moments_value<DeviceOptimMath, true>(s, near_m, p[i], g[i], m[i], v[i]);
      } else {
        adam_moments_value<DeviceOptimMath, false>(s, near_m, p[i], g[i], m[i], v[i]);
      }
    }
    store_column(exp_avg, at, count, vectorizes, m);
    store_column(exp_avg_sq, at, count, vectorizes, v);
    MIXPREC_UNROLL
    for (int i = 0; i < kOptimWidth; ++i) m[i] = stored_and_read(exp_avg.dtype, m[i]);
    if (max_exp_avg_sq.data != nullptr) {
      T largest[kOptimWidth];
      load_column(max_exp_avg_sq, at, count, vectorizes, largest);
      MIXPREC_UNROLL
      for (int i = 0; i < kOptimWidth; ++i) v[i] = adam_max_value(largest[i], v[i]);
      store_column(max_exp_avg_sq, at, count, vectorizes, v);
    }
    const DType v_dtype = max_exp_avg_sq.data != nullptr ? max_exp_avg_sq.dtype : exp_avg_sq.dtype;
    MIXPREC_UNROLL
    for (int i = 0; i < kOptimWidth; ++i) {
      p[i] = adam_apply_value<DeviceOptimMath>(s, p[i], m[i], stored_and_read(v_dtype, v[i]));
    }
    weights.store(at, count, p);
    if (scaling.scale != nullptr) weights.unscale(at, count, g, inverse);
  });
}

// The chunks of the parameters that are updated in T.
template <class T>
__global__ void __launch_bounds__(kOptimThreads)
    adam_chunks(const AdamEntry* entries, int64_t count, int64_t chunks, Scaling scaling,
                const double* scalars) {
  if (scaling.skipped()) return;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const AdamEntry* entry = entry_of_chunk(entries, count, chunk);
    if (ptx::ld(&entry->is_double) != std::is_same_v<T, double>) continue;
    adam_chunk<T>(entry, chunk, scalars + (entry - entries) * kAdamScalars, scaling);
  }
}

}  // namespace

void CudaBackend::adam_step(const OpCall& call) {
  const AdamCall step(call);
  const Scaling scaling{scalar_address(step.grad_scale), scalar_address(step.found_inf)};

  DenseInPlace dense(*this);
  std::vector<AdamEntry> entries(static_cast<size_t>(step.n));
  int64_t chunks = 0;
  for (int64_t i = 0; i < step.n; ++i) {
    AdamEntry& entry = entries[static_cast<size_t>(i)];
    chunks = set_weight(entry, dense, step.params[i], step.grads[i],
                        master_of(step.masters, step.params, i), chunks);
    entry.exp_avg = dense.column(step.exp_avgs[i]);
    entry.exp_avg_sq = dense.column(step.exp_avg_sqs[i]);
    if (step.max_exp_avg_sqs != nullptr)
      entry.max_exp_avg_sq = dense.column(step.max_exp_avg_sqs[i]);
    entry.vectorizes = entry.vectorizes && entry.exp_avg.vectorizes() &&
                       entry.exp_avg_sq.vectorizes() && entry.max_exp_avg_sq.vectorizes();
    entry.step = step.steps[i].as<float>();
    entry.group = step.groups[static_cast<size_t>(i)];
  }
  const DeviceTable<AdamEntry> table(*this, entries);
  const Scratch scalars(*this, static_cast<size_t>(step.n) * kAdamScalars * sizeof(double));
  launch<begin_adam>(setup_config(*this, step.n), table.data(), step.n, scaling,
                     scalars.as<double>());
  if (chunks == 0) return;
  for_each_type(entries, [&](auto tag) {
    launch<adam_chunks<typename decltype(tag)::type>>(config(chunks * kOptimThreads, kOptimThreads),
                                                      table.data(), step.n, chunks, scaling,
                                                      scalars.as<const double>());
  });
  dense.write_back();
}

}  // namespace mixprec::cuda
