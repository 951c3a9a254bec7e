// Gradients in place, over all of them in one launch: unscaling, norm, clipping; and the update of
// the loss scale. Arithmetic is in float32, in float64 for gradients that are; norms add up in
// float64. Scales and norms stay in device memory.

#include <cmath>

#include "cuda/ptx/arithmetic.h"
#include "optim_table.h"
#include "reduce_block.h"

namespace mixprec::cuda {
namespace {

struct GradientEntry {
  FloatColumn gradient;
  int64_t numel;
  int64_t first_chunk;
  bool vectorizes;
};

// Calls body(column, first element, count, vectorizes) for what this thread does of a chunk.
template <class Body>
MIXPREC_DEVICE void for_own_gradients(const GradientEntry* entries, int64_t count, int64_t chunk,
                                      const Body& body) {
  const GradientEntry* entry = entry_of_chunk(entries, count, chunk);
  const FloatColumn gradient = load_entry_column(entry->gradient);
  const bool vectorizes = ptx::ld(&entry->vectorizes);
  const int64_t begin = (chunk - ptx::ld(&entry->first_chunk)) * kOptimChunk;
  const int64_t numel = ptx::ld(&entry->numel);
  const int64_t end = numel - begin < kOptimChunk ? numel : begin + kOptimChunk;
  for (int64_t at = begin + int64_t{threadIdx.x} * kOptimWidth; at < end;
       at += kOptimThreads * kOptimWidth) {
    body(gradient, at, static_cast<int>(end - at < kOptimWidth ? end - at : kOptimWidth),
         vectorizes);
  }
}

// ---- Changes: a functor of a value, with the parameters that it reads from device memory ----

struct Unscale {
  const float* scale;
  float* found_inf;

  struct Prepared {
    float inverse;
    float* found_inf;
    template <class T>
    MIXPREC_DEVICE T operator()(T x) const {
      // A difference with itself is 0 exactly for finite values. Who finds another writes the same.
      if (x - x != T(0)) ptx::st(found_inf, 1.0f);
      return ptx::mul_rn(x, static_cast<T>(inverse));
    }
    MIXPREC_DEVICE bool reads() const { return true; }
    MIXPREC_DEVICE bool writes() const { return inverse != 1.0f; }
  };
  MIXPREC_DEVICE Prepared prepare() const { return {inverse_of(ptx::ld(scale)), found_inf}; }
};

struct Clip {
  const void* norm;
  DType dtype;
  double bound;

  struct Prepared {
    double coefficient;
    template <class T>
    MIXPREC_DEVICE T operator()(T x) const {
      return ptx::mul_rn(x, static_cast<T>(coefficient));
    }
    MIXPREC_DEVICE bool reads() const { return writes(); }
    MIXPREC_DEVICE bool writes() const { return coefficient != 1.0; }
  };
  MIXPREC_DEVICE Prepared prepare() const {
    if (dtype == DType::kFloat64) {
      return {clip_coefficient(ptx::ld(static_cast<const double*>(norm)), bound)};
    }
    return {static_cast<double>(clip_coefficient(ptx::ld(static_cast<const float*>(norm)), bound))};
  }
};

struct ClampTo {
  double bound;

  MIXPREC_DEVICE ClampTo prepare() const { return *this; }
  template <class T>
  MIXPREC_DEVICE T operator()(T x) const {
    const T limit = static_cast<T>(bound);
    const T above = x < -limit ? -limit : x;
    return above > limit ? limit : above;
  }
  MIXPREC_DEVICE bool reads() const { return true; }
  MIXPREC_DEVICE bool writes() const { return true; }
};

template <class Change>
__global__ void __launch_bounds__(kOptimThreads)
    change_gradients(const GradientEntry* entries, int64_t count, int64_t chunks, Change change) {
  const auto prepared = change.prepare();
  if (!prepared.reads()) return;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    for_own_gradients(entries, count, chunk,
                      [&](const FloatColumn& gradient, int64_t at, int own, bool vectorizes) {
                        const auto run = [&](auto tag) {
                          typename decltype(tag)::type x[kOptimWidth];
                          load_column(gradient, at, own, vectorizes, x);
                          MIXPREC_UNROLL
                          for (int i = 0; i < kOptimWidth; ++i) x[i] = prepared(x[i]);
                          if (prepared.writes()) store_column(gradient, at, own, vectorizes, x);
                        };
                        if (gradient.dtype == DType::kFloat64) return run(TypeTag<double>{});
                        run(TypeTag<float>{});
                      });
  }
}

// ---- Norms ----

enum class Norm : int32_t { kAbs, kSquares, kPowers, kMax };

struct NormKind {
  Norm norm;
  double power;

  MIXPREC_DEVICE double of(double x) const {
    const double size = ::fabs(x);
    if (norm == Norm::kSquares) return x * x;
    return norm == Norm::kPowers ? ::pow(size, power) : size;
  }
  MIXPREC_DEVICE double operator()(double a, double b) const {
    return norm == Norm::kMax ? MaxCombine()(a, b) : a + b;
  }
  MIXPREC_DEVICE double finish(double total) const {
    if (norm == Norm::kSquares) return ::sqrt(total);
    return norm == Norm::kPowers ? ::pow(total, 1.0 / power) : total;
  }
};

// One sum a chunk.
__global__ void __launch_bounds__(kOptimThreads)
    chunk_norms(const GradientEntry* entries, int64_t count, int64_t chunks, NormKind kind,
                double* partial) {
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    double sum = 0;
    for_own_gradients(entries, count, chunk,
                      [&](const FloatColumn& gradient, int64_t at, int own, bool vectorizes) {
                        const auto run = [&](auto tag) {
                          // What is beyond the end is 0, which no norm counts.
                          typename decltype(tag)::type x[kOptimWidth];
                          load_column(gradient, at, own, vectorizes, x);
                          MIXPREC_UNROLL
                          for (int i = 0; i < kOptimWidth; ++i) {
                            sum = kind(sum, kind.of(static_cast<double>(x[i])));
                          }
                        };
                        if (gradient.dtype == DType::kFloat64) return run(TypeTag<double>{});
                        run(TypeTag<float>{});
                      });
    sum = block_reduce<kOptimThreads>(sum, 0.0, kind);
    if (threadIdx.x == 0) ptx::st(partial + chunk, sum);
  }
}

// One block.
__global__ void __launch_bounds__(kOptimThreads)
    finish_norm(const double* partial, int64_t chunks, NormKind kind, void* out, DType dtype) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < chunks; i += kOptimThreads) {
    total = kind(total, ptx::ld(partial + i));
  }
  total = block_reduce<kOptimThreads>(total, 0.0, kind);
  if (threadIdx.x == 0) store_element(out, dtype, 0, kind.finish(total));
}

// ---- The loss scale ----

struct ScalerOptions {
  double growth;
  double backoff;
  int64_t interval;
  double smallest;
};

__global__ void update_scale(float* scale, int32_t* tracker, float* found_inf,
                             ScalerOptions options) {
  const float old = ptx::ld(scale);
  const int32_t applied = ptx::ld(tracker);
  if (ptx::ld(found_inf) != 0.0f) {
    const double lower = static_cast<double>(old) * options.backoff;
    ptx::st(scale, static_cast<float>(lower < options.smallest ? options.smallest : lower));
    ptx::st(tracker, 0);
  } else if (int64_t{applied} + 1 >= options.interval) {
    const auto grown = static_cast<float>(static_cast<double>(old) * options.growth);
    if (grown - grown == 0.0f) ptx::st(scale, grown);
    ptx::st(tracker, 0);
  } else {
    ptx::st(tracker, applied + 1);
  }
  ptx::st(found_inf, 0.0f);
}

// ---- Calls ----

struct GradientTable {
  std::vector<GradientEntry> entries;
  int64_t chunks = 0;

  GradientTable(DenseInPlace& dense, const Tensor* grads, int64_t n) {
    entries.reserve(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const FloatColumn column = dense.column(grads[i]);
      entries.push_back({column, grads[i].numel(), chunks, column.vectorizes()});
      chunks += optim_chunks(grads[i].numel());
    }
  }
};

template <class Change>
void run_change(CudaBackend& backend, const Tensor* grads, int64_t n, const Change& change) {
  DenseInPlace dense(backend);
  const GradientTable host(dense, grads, n);
  if (host.chunks == 0) return;
  const DeviceTable<GradientEntry> table(backend, host.entries);
  launch<change_gradients<Change>>(backend.config(host.chunks * kOptimThreads, kOptimThreads),
                                   table.data(), n, host.chunks, change);
  dense.write_back();
}

}  // namespace

void CudaBackend::unscale_grads(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const Tensor* grads = checked_gradients(call, n);
  const Tensor& scale = call.in(static_cast<int32_t>(n));
  const Tensor& found_inf = call.in(static_cast<int32_t>(n) + 1);
  check_float_scalar(scale);
  check_float_scalar(found_inf);
  run_change(*this, grads, n, Unscale{scale.as<const float>(), found_inf.as<float>()});
}

void CudaBackend::grad_norm(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const Tensor* grads = checked_gradients(call, n);
  const double type = call.attr(1);
  const Norm norm = std::isinf(type) ? Norm::kMax
                    : type == 1.0    ? Norm::kAbs
                    : type == 2.0    ? Norm::kSquares
                                     : Norm::kPowers;
  const NormKind kind{norm, type};
  const Tensor& out = call.out();
  DenseInPlace dense(*this);
  const GradientTable host(dense, grads, n);
  const DeviceTable<GradientEntry> table(*this, host.entries);
  const Scratch partial(*this, static_cast<size_t>(host.chunks) * sizeof(double));
  if (host.chunks > 0) {
    launch<chunk_norms>(config(host.chunks * kOptimThreads, kOptimThreads), table.data(), n,
                        host.chunks, kind, partial.as<double>());
  }
  launch<finish_norm>(grid(1, kOptimThreads), partial.as<const double>(), host.chunks, kind,
                      out.data, out.dtype);
}

void CudaBackend::clip_grads(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  const Tensor* grads = checked_gradients(call, n);
  const Tensor& norm = call.in(static_cast<int32_t>(n));
  check(norm.numel() == 1 && (norm.dtype == DType::kFloat64 || norm.dtype == DType::kFloat32),
        "clip_grads needs the norm as a scalar");
  run_change(*this, grads, n, Clip{norm.data, norm.dtype, call.attr(1)});
}

void CudaBackend::clamp_grads(const OpCall& call) {
  const int64_t n = call.int_attr(0);
  run_change(*this, checked_gradients(call, n), n, ClampTo{call.attr(1)});
}

void CudaBackend::scaler_update(const OpCall& call) {
  const Tensor& scale = call.in(0);
  const Tensor& tracker = call.in(1);
  const Tensor& found_inf = call.in(2);
  check_float_scalar(scale);
  check_float_scalar(found_inf);
  check(tracker.dtype == DType::kInt32 && tracker.numel() == 1, "the growth tracker is an int32");
  const ScalerOptions options{call.attr(0), call.attr(1), call.int_attr(2), call.attr(3)};
  launch<update_scale>(grid(1, 1), scale.as<float>(), tracker.as<int32_t>(), found_inf.as<float>(),
                       options);
}

}  // namespace mixprec::cuda
