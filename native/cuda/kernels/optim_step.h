// What the steps of all optimizers share. A step is two launches: one thread a parameter counts the
// step and computes its scalars, then blocks do the chunks of all parameters. The scale of the
// gradients and whether the step is left out are read from device memory.
#pragma once

#include "cuda/ptx/arithmetic.h"
#include "optim_table.h"

namespace mixprec::cuda {

inline constexpr int kSetupThreads = 128;

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

// An option of a group in device memory.
template <class T>
MIXPREC_DEVICE T load_option(const T& option) {
  return ptx::ld(&option);
}

// ---- Calls ----

inline const float* scalar_address(const Tensor* tensor) {
  if (tensor == nullptr) return nullptr;
  check_float_scalar(*tensor);
  return tensor->as<const float>();
}

// Fills in what the entries of both optimizers have; returns the number of chunks so far.
inline int64_t set_weight(WeightEntry& entry, DenseInPlace& dense, const Tensor& parameter,
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

inline LaunchConfig setup_config(const CudaBackend& backend, int64_t n) {
  return backend.grid(static_cast<uint32_t>((n + kSetupThreads - 1) / kSetupThreads),
                      kSetupThreads);
}

}  // namespace mixprec::cuda
