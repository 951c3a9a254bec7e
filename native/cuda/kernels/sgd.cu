// The step of SGD.

#include "optim_step.h"

namespace mixprec::cuda {
namespace {

struct SgdEntry : WeightEntry {
  FloatColumn momentum;  // null without
  SgdGroup group;
};

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

}  // namespace

void CudaBackend::sgd_step(const OpCall& call) {
  const SgdCall step(call);
  const Scaling scaling{scalar_address(step.grad_scale), scalar_address(step.found_inf)};

  DenseInPlace dense(*this);
  std::vector<SgdEntry> entries(static_cast<size_t>(step.n));
  int64_t chunks = 0;
  for (int64_t i = 0; i < step.n; ++i) {
    SgdEntry& entry = entries[static_cast<size_t>(i)];
    chunks = set_weight(entry, dense, step.params[i], step.grads[i],
                        master_of(step.masters, step.params, i), chunks);
    if (step.has_momentum) {
      entry.momentum = dense.column(step.buffers[i]);
      entry.step = step.steps[i].as<float>();
    }
    entry.vectorizes = entry.vectorizes && entry.momentum.vectorizes();
    entry.group = step.groups[static_cast<size_t>(i)];
  }
  const DeviceTable<SgdEntry> table(*this, entries);
  const Scratch first(*this, static_cast<size_t>(step.n));
  if (step.has_momentum) {
    launch<begin_sgd>(setup_config(*this, step.n), table.data(), step.n, scaling,
                      first.as<uint8_t>());
  }
  if (chunks == 0) return;
  for_each_type(entries, [&](auto tag) {
    launch<sgd_chunks<typename decltype(tag)::type>>(config(chunks * kOptimThreads, kOptimThreads),
                                                     table.data(), step.n, chunks, scaling,
                                                     first.as<const uint8_t>());
  });
  dense.write_back();
}

}  // namespace mixprec::cuda
