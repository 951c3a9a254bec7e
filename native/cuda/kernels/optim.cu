// The steps of Adam, AdamW and SGD. Two launches a step: one thread a parameter counts the step and
// computes its scalars, then blocks do the chunks of all parameters. The scale of the gradients and
// whether the step is left out are read from device memory.

#include "cuda/ptx/arithmetic.h"
#include "optim_table.h"

namespace mixprec::cuda {
namespace {

constexpr int kSetupThreads = 128;

struct DeviceOptimMath {
  template <class T>
  MIXPREC_DEVICE static T add(T a, T b) {
    return ptx::add_rn(a, b);
  }
  template <class T>
  MIXPREC_DEVICE static T mul(T a, T b) {
    return ptx::mul_rn(a, b);
  }
  MIXPREC_DEVICE static float sqrt(float x) { return ::sqrtf(x); }
  MIXPREC_DEVICE static double sqrt(double x) { return ::sqrt(x); }
};

// The gradients' scale, and whether the step is to be left out; null where there is none.
struct Scaling {
  const float* scale;
  const float* found_inf;

  MIXPREC_DEVICE bool skipped() const { return found_inf != nullptr && ptx::ld(found_inf) != 0.0f; }
  MIXPREC_DEVICE float inverse() const {
    return scale != nullptr ? inverse_of(ptx::ld(scale)) : 1.0f;
  }
};

// What every step reads first and writes last. The weight is the master, or else the parameter.
struct WeightEntry {
  FloatColumn weight;
  FloatColumn copy;  // the parameter, where there is a master
  FloatColumn gradient;
  int64_t numel;
  int64_t first_chunk;
  float* step;
  bool is_double;
  bool vectorizes;
};

struct AdamEntry : WeightEntry {
  FloatColumn exp_avg;
  FloatColumn exp_avg_sq;
  FloatColumn max_exp_avg_sq;  // null without amsgrad
  AdamGroup group;
};

struct SgdEntry : WeightEntry {
  FloatColumn momentum;  // null without
  SgdGroup group;
};

// The elements of a parameter that a thread has at a time: their weights and gradients.
template <class T>
class Weights {
 public:
  MIXPREC_DEVICE Weights(const WeightEntry* entry)
      : weight_(load_entry_column(entry->weight)),
        copy_(load_entry_column(entry->copy)),
        gradient_(load_entry_column(entry->gradient)),
        vectorizes_(ptx::ld(&entry->vectorizes)) {}

  MIXPREC_DEVICE bool vectorizes() const { return vectorizes_; }
  MIXPREC_DEVICE void load(int64_t at, int count, T (&p)[kOptimWidth], T (&g)[kOptimWidth]) const {
    load_column(weight_, at, count, vectorizes_, p);
    load_column(gradient_, at, count, vectorizes_, g);
  }
  MIXPREC_DEVICE void store(int64_t at, int count, const T (&p)[kOptimWidth]) const {
    store_column(weight_, at, count, vectorizes_, p);
    if (copy_.data != nullptr) store_column(copy_, at, count, vectorizes_, p);
  }
  // Leaves the gradient unscaled; the step has used it unrounded.
  MIXPREC_DEVICE void unscale(int64_t at, int count, T (&g)[kOptimWidth], T inverse) const {
    MIXPREC_UNROLL
    for (int i = 0; i < kOptimWidth; ++i) g[i] = ptx::mul_rn(g[i], inverse);
    store_column(gradient_, at, count, vectorizes_, g);
  }

 private:
  FloatColumn weight_;
  FloatColumn copy_;
  FloatColumn gradient_;
  bool vectorizes_;
};

// Calls body(first element, count <= kOptimWidth) for what this thread does of a chunk.
template <class Body>
MIXPREC_DEVICE void for_own_elements(const WeightEntry* entry, int64_t chunk, const Body& body) {
  const int64_t begin = (chunk - ptx::ld(&entry->first_chunk)) * kOptimChunk;
  const int64_t numel = ptx::ld(&entry->numel);
  const int64_t end = numel - begin < kOptimChunk ? numel : begin + kOptimChunk;
  for (int64_t at = begin + int64_t{threadIdx.x} * kOptimWidth; at < end;
       at += kOptimThreads * kOptimWidth) {
    body(at, static_cast<int>(end - at < kOptimWidth ? end - at : kOptimWidth));
  }
}

// ---- Adam ----

constexpr int kAdamScalars = sizeof(AdamScalars<double>) / sizeof(double);

template <class T>
MIXPREC_DEVICE T load_option(const T& option) {
  return ptx::ld(&option);
}

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

// ---- SGD ----

// Counts the steps, and leaves whether each was the first.
__global__ void __launch_bounds__(kSetupThreads)
    begin_sgd(const SgdEntry* entries, int64_t count, Scaling scaling, uint8_t* first) {
  const int64_t at = int64_t{blockIdx.x} * kSetupThreads + threadIdx.x;
  if (at >= count || scaling.skipped()) return;
  float* const counter = ptx::ld(&entries[at].step);
  const float step = ptx::ld(counter);
  ptx::st(first + at, static_cast<uint8_t>(step == 0.0f));
  ptx::st(counter, step + 1.0f);
}

template <class T>
MIXPREC_DEVICE void sgd_chunk(const SgdEntry* entry, int64_t chunk, const uint8_t* first,
                              const Scaling& scaling) {
  SgdGroup group;
  group.lr = load_option(entry->group.lr);
  group.momentum = load_option(entry->group.momentum);
  group.dampening = load_option(entry->group.dampening);
  group.weight_decay = load_option(entry->group.weight_decay);
  group.nesterov = load_option(entry->group.nesterov);
  group.maximize = load_option(entry->group.maximize);
  const FloatColumn momentum = load_entry_column(entry->momentum);
  const bool has_momentum = momentum.data != nullptr;
  const T inverse = static_cast<T>(scaling.inverse());
  const SgdScalars<T> s =
      group.scalars<T>(has_momentum, has_momentum && ptx::ld(first) != 0, inverse);
  const Weights<T> weights(entry);
  for_own_elements(entry, chunk, [&](int64_t at, int count) {
    T p[kOptimWidth], g[kOptimWidth];
    weights.load(at, count, p, g);
    if (has_momentum) {
      T buffer[kOptimWidth] = {};
      // What a fresh buffer holds may never have been written.
      if (!s.first) load_column(momentum, at, count, weights.vectorizes(), buffer);
      MIXPREC_UNROLL
      for (int i = 0; i < kOptimWidth; ++i) {
        p[i] = sgd_momentum_value<DeviceOptimMath>(s, p[i], g[i], buffer[i]);
      }
      store_column(momentum, at, count, weights.vectorizes(), buffer);
    } else {
      MIXPREC_UNROLL
      for (int i = 0; i < kOptimWidth; ++i) p[i] = sgd_value<DeviceOptimMath>(s, p[i], g[i]);
    }
    weights.store(at, count, p);
    if (scaling.scale != nullptr) weights.unscale(at, count, g, inverse);
  });
}

template <class T>
__global__ void __launch_bounds__(kOptimThreads)
    sgd_chunks(const SgdEntry* entries, int64_t count, int64_t chunks, Scaling scaling,
               const uint8_t* first) {
  if (scaling.skipped()) return;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const SgdEntry* entry = entry_of_chunk(entries, count, chunk);
    if (ptx::ld(&entry->is_double) != std::is_same_v<T, double>) continue;
    sgd_chunk<T>(entry, chunk, first + (entry - entries), scaling);
  }
}

// ---- Calls ----

const float* scalar_address(const Tensor* tensor) {
  if (tensor == nullptr) return nullptr;
  check_float_scalar(*tensor);
  return tensor->as<const float>();
}

// Fills in what the entries of both optimizers have; returns the number of chunks so far.
int64_t set_weight(WeightEntry& entry, DenseInPlace& dense, const Tensor& parameter,
                   const Tensor& gradient, const Tensor* master, int64_t first_chunk) {
  entry.weight = dense.column(master != nullptr ? *master : parameter);
  if (master != nullptr) entry.copy = dense.column(parameter);
  entry.gradient = dense.column(gradient);
  entry.numel = parameter.numel();
  entry.first_chunk = first_chunk;
  entry.is_double = entry.weight.dtype == DType::kFloat64;
  entry.vectorizes = !entry.is_double && entry.weight.vectorizes() && entry.copy.vectorizes() &&
                     entry.gradient.vectorizes();
  return first_chunk + optim_chunks(entry.numel);
}

// Calls body with a TypeTag of each type that some of the parameters are updated in: almost always
// one.
template <class Entry, class Body>
void for_each_type(const std::vector<Entry>& entries, const Body& body) {
  bool has[2] = {};
  for (const Entry& entry : entries) has[entry.is_double ? 1 : 0] = true;
  if (has[0]) body(TypeTag<float>{});
  if (has[1]) body(TypeTag<double>{});
}

LaunchConfig setup_config(const CudaBackend& backend, int64_t n) {
  return backend.grid(static_cast<uint32_t>((n + kSetupThreads - 1) / kSetupThreads),
                      kSetupThreads);
}

}  // namespace

void CudaBackend::adam_step(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  OptimInputs inputs(call, n);
  const Tensor* params = inputs.list(true);
  const Tensor* grads = inputs.list(true);
  const Tensor* exp_avgs = inputs.list(true);
  const Tensor* exp_avg_sqs = inputs.list(true);
  const Tensor* steps = inputs.list(true);
  const Tensor* max_exp_avg_sqs = inputs.list(call.flag(1));
  const Tensor* masters = inputs.list(call.flag(2));
  const float* scale = scalar_address(inputs.scalar(call.flag(3)));
  const Scaling scaling{scale, scalar_address(inputs.scalar(call.flag(4)))};
  const std::vector<AdamGroup> groups = read_optim_groups<AdamGroup>(call, 5, n);
  check_optim_lists(params, n, {grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, masters}, steps);

  DenseInPlace dense(*this);
  std::vector<AdamEntry> entries(static_cast<size_t>(n));
  int64_t chunks = 0;
  for (int64_t i = 0; i < n; ++i) {
    AdamEntry& entry = entries[static_cast<size_t>(i)];
    chunks = set_weight(entry, dense, params[i], grads[i], master_of(masters, params, i), chunks);
    entry.exp_avg = dense.column(exp_avgs[i]);
    entry.exp_avg_sq = dense.column(exp_avg_sqs[i]);
    if (max_exp_avg_sqs != nullptr) entry.max_exp_avg_sq = dense.column(max_exp_avg_sqs[i]);
    entry.vectorizes = entry.vectorizes && entry.exp_avg.vectorizes() &&
                       entry.exp_avg_sq.vectorizes() && entry.max_exp_avg_sq.vectorizes();
    entry.step = steps[i].as<float>();
    entry.group = groups[static_cast<size_t>(i)];
  }
  const DeviceTable<AdamEntry> table(*this, entries);
  const Scratch scalars(*this, static_cast<size_t>(n) * kAdamScalars * sizeof(double));
  launch<begin_adam>(setup_config(*this, n), table.data(), n, scaling, scalars.as<double>());
  if (chunks == 0) return;
  for_each_type(entries, [&](auto tag) {
    launch<adam_chunks<typename decltype(tag)::type>>(config(chunks * kOptimThreads, kOptimThreads),
                                                      table.data(), n, chunks, scaling,
                                                      scalars.as<const double>());
  });
  dense.write_back();
}

void CudaBackend::sgd_step(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const bool has_momentum = call.flag(1);
  OptimInputs inputs(call, n);
  const Tensor* params = inputs.list(true);
  const Tensor* grads = inputs.list(true);
  const Tensor* buffers = inputs.list(has_momentum);
  const Tensor* steps = inputs.list(has_momentum);
  const Tensor* masters = inputs.list(call.flag(2));
  const float* scale = scalar_address(inputs.scalar(call.flag(3)));
  const Scaling scaling{scale, scalar_address(inputs.scalar(call.flag(4)))};
  const std::vector<SgdGroup> groups = read_optim_groups<SgdGroup>(call, 5, n);
  check_optim_lists(params, n, {grads, buffers, masters}, steps);

  DenseInPlace dense(*this);
  std::vector<SgdEntry> entries(static_cast<size_t>(n));
  int64_t chunks = 0;
  for (int64_t i = 0; i < n; ++i) {
    SgdEntry& entry = entries[static_cast<size_t>(i)];
    chunks = set_weight(entry, dense, params[i], grads[i], master_of(masters, params, i), chunks);
    if (has_momentum) {
      entry.momentum = dense.column(buffers[i]);
      entry.step = steps[i].as<float>();
    }
    entry.vectorizes = entry.vectorizes && entry.momentum.vectorizes();
    entry.group = groups[static_cast<size_t>(i)];
  }
  const DeviceTable<SgdEntry> table(*this, entries);
  const Scratch first(*this, static_cast<size_t>(n));
  if (has_momentum) {
    launch<begin_sgd>(setup_config(*this, n), table.data(), n, scaling, first.as<uint8_t>());
  }
  if (chunks == 0) return;
  for_each_type(entries, [&](auto tag) {
    launch<sgd_chunks<typename decltype(tag)::type>>(config(chunks * kOptimThreads, kOptimThreads),
                                                     table.data(), n, chunks, scaling,
                                                     first.as<const uint8_t>());
  });
  dense.write_back();
}

}  // namespace mixprec::cuda
